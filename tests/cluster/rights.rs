//! The webhook's rights: exactly those that `k8s/` grants to its service account. All tests run it
//! with these alone; here the audit log shows that it uses each right, misses none, and is denied
//! the rest.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::api::text;
use crate::support::control_plane::ControlPlane;
use crate::support::installation::{Installation, SHORT_LEASE, SHORT_LIVED, WATCHFUL, granted};
use crate::support::kustomize::Overlay;
use crate::support::objects::{ASKS, annotations, pod};
use crate::support::until;

/// A right, or its use: the verb and the resource.
type Act = (String, String);

/// The requests of the account so far.
fn done(plane: &ControlPlane, namespace: &str) -> Vec<(Act, Value)> {
    let user = format!("system:serviceaccount:{namespace}:bfb-webhook");
    let by_us = plane.audit().into_iter().filter(|event| event["user"]["username"] == user);
    let of_objects = by_us.filter(|event| event["objectRef"]["resource"].is_string());
    of_objects
        .map(|event| ((text(&event, "/verb"), text(&event, "/objectRef/resource")), event))
        .collect()
}

#[tokio::test]
async fn the_webhook_needs_every_right_of_its_manifests_and_no_other() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "rights", Overlay::Ignore).await;
    webhook.namespace("rights", &json!({})).await;
    let admin = plane.admin();
    // A pod for the watchdog.
    admin.create(&pod("rights", "without", &annotations(ASKS))).await.object();
    for replica in ["one", "two"] {
        webhook.start(replica, &[SHORT_LEASE, SHORT_LIVED, WATCHFUL]).await;
    }
    webhook.serves("rights").await;
    let granted: BTreeSet<Act> = granted(Overlay::Ignore);
    let namespaces = webhook.namespace.clone();
    until("each right is used", async || {
        // A namespace without known annotations is read by its name, where the pod's own
        // annotations need its answer.
        let says = json!({"bfb.dev/memory": "32MiB"});
        admin.rehearse(&pod("rights", "asks", &says)).await.unwrap();
        let used: BTreeSet<Act> =
            done(plane, &namespaces).into_iter().map(|(act, _)| act).collect();
        granted.is_subset(&used).then_some(())
    })
    .await;
    let denied = done(plane, &namespaces)
        .into_iter()
        .filter(|(_, event)| event["responseStatus"]["code"] == 403);
    assert_eq!(denied.map(|(act, _)| act).collect::<Vec<_>>(), Vec::<Act>::new());
}

#[tokio::test]
async fn what_the_webhook_has_no_business_with_is_denied_to_it() {
    let plane = ControlPlane::shared().await;
    let webhook = Installation::of(plane, "denied", Overlay::Fail).await;
    webhook.namespace("denied", &json!({})).await;
    let own = &webhook.namespace;
    let account = webhook.account();
    for path in [
        "/api/v1/pods".to_owned(),
        "/api/v1/secrets".to_owned(),
        format!("/api/v1/namespaces/{own}/secrets"),
        format!("/api/v1/namespaces/{own}/secrets/other"),
        "/api/v1/namespaces/denied/secrets/bfb-webhook".to_owned(),
        format!("/apis/coordination.k8s.io/v1/namespaces/{own}/leases/other"),
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations".to_owned(),
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/other".to_owned(),
    ] {
        assert_eq!(account.get(&path).await.status, 403, "{path}");
    }
    for object in [
        pod("denied", "bare", &json!({})),
        pod(own, "bare", &json!({})),
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "namespace": own}}),
    ] {
        assert_eq!(account.create(&object).await.status, 403, "{object:#}");
    }
    assert_eq!(account.get("/api/v1/namespaces").await.status, 200);
}
