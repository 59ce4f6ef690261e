//! The `MutatingWebhookConfiguration`, by which an API server calls the webhook: the name that it
//! expects in the certificate, the bundle that it trusts, and the pods that it sends reviews of.
//! Pure.

use std::collections::BTreeSet;

use data_encoding::BASE64;
use serde_json::Value;

use super::selector::matches_selector;

/// The annotation by which cert-manager writes the bundles.
const CERT_MANAGER: &str = "cert-manager.io/inject-ca-from";

/// The configuration, as the API server returned it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MutatingWebhookConfiguration(Value);

/// One webhook of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hook<'a>(&'a Value);

impl MutatingWebhookConfiguration {
    /// Wraps the object.
    pub(super) fn new(object: Value) -> Self {
        Self(object)
    }

    /// Its webhooks.
    pub(super) fn hooks(&self) -> impl Iterator<Item = Hook<'_>> {
        self.0.get("webhooks").and_then(Value::as_array).into_iter().flatten().map(Hook)
    }

    /// Whether cert-manager writes the bundles.
    pub(super) fn is_managed_by_cert_manager(&self) -> bool {
        let annotations = self.0.pointer("/metadata/annotations");
        annotations
            .and_then(|annotations| annotations.get(CERT_MANAGER))
            .is_some_and(|source| source.as_str().is_some_and(|it| !it.is_empty()))
    }

    /// The names that API servers expect in the certificate: DNS names and addresses.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.hooks().filter_map(Hook::server_name).collect()
    }

    /// Whether the API server creates pods without a sidecar while no replica answers.
    pub(super) fn ignores_failures(&self) -> bool {
        self.hooks().any(Hook::ignores_failures)
    }

    /// Whether the bundle of each webhook is exactly `bundle` (PEM).
    pub(super) fn has_bundle(&self, bundle: &str) -> bool {
        self.hooks().all(|hook| hook.bundle().as_deref() == Some(bundle.as_bytes()))
    }

    /// The object with this bundle (PEM) in each webhook. It keeps its `resourceVersion`, so that
    /// it can only replace the object that was read.
    pub(super) fn with_bundle(&self, bundle: &str) -> Value {
        let mut object = self.0.clone();
        let encoded = BASE64.encode(bundle.as_bytes());
        for hook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(Value::Object(client)) = hook.get_mut("clientConfig") {
                client.insert("caBundle".to_owned(), encoded.clone().into());
            }
        }
        object
    }
}

impl Hook<'_> {
    /// The name of the webhook.
    pub(super) fn name(&self) -> &str {
        self.0.get("name").and_then(Value::as_str).unwrap_or("?")
    }

    /// The name that an API server expects in the certificate.
    pub(super) fn server_name(self) -> Option<String> {
        let client = self.0.get("clientConfig")?;
        let text = |pointer: &str| client.pointer(pointer).and_then(Value::as_str);
        if let (Some(name), Some(namespace)) = (text("/service/name"), text("/service/namespace")) {
            return Some(format!("{name}.{namespace}.svc"));
        }
        let url: http::Uri = text("/url")?.parse().ok()?;
        Some(url.host()?.trim_start_matches('[').trim_end_matches(']').to_owned())
    }

    /// The bundle that the API server trusts, as PEM.
    pub(super) fn bundle(self) -> Option<Vec<u8>> {
        let encoded = self.0.pointer("/clientConfig/caBundle")?.as_str()?;
        BASE64.decode(encoded.as_bytes()).ok().filter(|bundle| !bundle.is_empty())
    }

    /// Whether its `failurePolicy` is `Ignore`.
    pub(super) fn ignores_failures(self) -> bool {
        self.0.get("failurePolicy").and_then(Value::as_str) == Some("Ignore")
    }

    /// Whether its selectors match a pod with the labels `pod_labels` in a namespace with the
    /// labels `namespace_labels`.
    pub(super) fn selects(self, namespace_labels: &Value, pod_labels: &Value) -> bool {
        matches_selector(self.0.get("namespaceSelector"), namespace_labels)
            && matches_selector(self.0.get("objectSelector"), pod_labels)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn configuration() -> MutatingWebhookConfiguration {
        MutatingWebhookConfiguration::new(json!({
            "metadata": {"name": "bfb", "resourceVersion": "7"},
            "webhooks": [
                {"name": "a", "clientConfig": {"service": {"name": "bfb-webhook",
                    "namespace": "bfb-system", "path": "/mutate"}}},
                {"name": "b", "failurePolicy": "Ignore",
                    "clientConfig": {"url": "https://[::1]:8443/mutate", "caBundle": "eA=="}},
            ],
        }))
    }

    #[test]
    fn names_come_from_services_and_urls() {
        let names: Vec<_> = configuration().names().into_iter().collect();
        assert_eq!(names, ["::1", "bfb-webhook.bfb-system.svc"]);
    }

    #[test]
    fn a_bundle_goes_into_each_webhook_and_nothing_else_changes() {
        let before = configuration();
        assert!(!before.has_bundle("pem") && before.ignores_failures());
        let after = MutatingWebhookConfiguration::new(before.with_bundle("pem\npem2\n"));
        assert!(after.has_bundle("pem\npem2\n") && !after.has_bundle("pem"));
        let mut back = after.0;
        back["webhooks"][1]["clientConfig"]["caBundle"] = "eA==".into();
        assert!(back["webhooks"][0]["clientConfig"]["caBundle"].take().is_string());
        back["webhooks"][0]["clientConfig"].as_object_mut().map(|it| it.remove("caBundle"));
        assert_eq!(back, before.0);
    }

    #[test]
    fn a_configuration_without_webhooks_names_nobody() {
        let empty = MutatingWebhookConfiguration::new(json!({"webhooks": null}));
        assert!(empty.names().is_empty() && !empty.ignores_failures());
    }
}
