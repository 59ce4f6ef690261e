//! Reads the `MutatingWebhookConfiguration`, and writes the bundles into it.

use std::sync::Arc;

use super::cluster::{Cluster, percent_encode};
use super::configuration::MutatingWebhookConfiguration;
use super::metrics::WebhookMetrics;
use super::reconcile_error::{ReconcileError, ignore_conflict};

/// Access to the configuration of this name.
#[derive(Debug)]
pub(super) struct ConfigurationClient {
    /// The API server.
    pub cluster: Cluster,
    /// The name of the configuration.
    pub name: String,
    /// The counters.
    pub metrics: Arc<WebhookMetrics>,
}

impl ConfigurationClient {
    /// Reads the configuration. One that is missing, or has no webhook, is an error.
    pub(super) async fn read(&self) -> Result<MutatingWebhookConfiguration, ReconcileError> {
        let name = &self.name;
        let object = self.cluster.get_opt(&self.path()).await?;
        let object = object.ok_or_else(|| {
            ReconcileError::Other(format!(
                "there is no MutatingWebhookConfiguration `{name}`; expected the one that names us \
                 (hint: apply it, or correct `--configuration`)"
            ))
        })?;
        let configuration = MutatingWebhookConfiguration::new(object);
        if configuration.hooks().next().is_none() {
            return Err(ReconcileError::Other(format!(
                "the MutatingWebhookConfiguration `{name}` has no `webhooks`"
            )));
        }
        Ok(configuration)
    }

    /// Writes `bundle` (PEM) into each webhook of the configuration that was read.
    pub(super) async fn write_bundle(
        &self,
        configuration: &MutatingWebhookConfiguration,
        bundle: &str,
    ) -> Result<(), ReconcileError> {
        self.metrics.bundles.inc();
        tracing::info!(configuration = self.name, "the bundles are written");
        let object = configuration.with_bundle(bundle);
        ignore_conflict(self.cluster.replace(&self.path(), &object).await)
    }

    fn path(&self) -> String {
        let name = percent_encode(&self.name);
        format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{name}")
    }
}
