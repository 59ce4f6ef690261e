//! No replica answers. `Fail` stops the pods that asked and no other; `Ignore` lets them through,
//! and the watchdog reports them.

use serde_json::{Value, json};

use crate::support::api::text;
use crate::support::control_plane::ControlPlane;
use crate::support::installation::{Installation, SHORT_LEASE, WATCHFUL};
use crate::support::kustomize::Overlay;
use crate::support::objects::{ASKS, annotations, assert_injected, assert_untouched, owners, pod};
use crate::support::until;

#[tokio::test]
async fn with_the_webhook_down_fail_refuses_only_the_pods_that_asked() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "fail", Overlay::Fail).await;
    webhook.namespace("fail", &json!({})).await;
    webhook.namespace("fail-all", &json!({"bfb.dev/inject": "customer"})).await;
    webhook.start("one", &[]).await;
    webhook.serves("fail").await;
    webhook.kill("one").await;
    let admin = plane.admin();
    for (namespace, says, by) in [
        ("fail", annotations(ASKS), "annotated.bfb.dev"),
        ("fail-all", json!({}), "labelled.bfb.dev"),
    ] {
        let refused = admin.create(&pod(namespace, "asks", &says)).await;
        assert!(
            refused.refusal().contains(&format!("failed calling webhook \"{by}\"")),
            "{refused:?}"
        );
    }
    let no = annotations(("bfb.dev/inject", "false"));
    for (namespace, says) in [("fail", json!({})), ("fail", no.clone()), ("fail-all", no)] {
        let name = if says == json!({}) { "nothing" } else { "no" };
        assert_untouched(&admin.create(&pod(namespace, name, &says)).await.object());
    }
    // Only pods are sent to the webhook: the Deployment is created, and has its pods once a replica
    // is back.
    let deployment = owners("fail", &annotations(ASKS)).remove(0);
    admin.create(&deployment).await.object();
    // The webhook's own pods are created all the same.
    let own = until("the webhook's own Deployment has its pods", async || {
        let pods = admin.pods(&webhook.namespace).await;
        (pods.len() == 2).then_some(pods)
    })
    .await;
    own.iter().for_each(assert_untouched);
    webhook.start("two", &[]).await;
    webhook.serves("fail").await;
    assert_injected(&admin.pod_of(&deployment).await);
}

#[tokio::test]
async fn with_the_webhook_down_ignore_lets_pods_through_and_the_watchdog_tells_of_them() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "ignore", Overlay::Ignore).await;
    webhook.namespace("ignore", &json!({})).await;
    webhook.start("one", &[SHORT_LEASE]).await;
    webhook.serves("ignore").await;
    webhook.kill("one").await;
    let admin = plane.admin();
    let without = admin.create(&pod("ignore", "without", &annotations(ASKS))).await.object();
    assert_untouched(&without);
    let no = admin
        .create(&pod("ignore", "no", &annotations(("bfb.dev/inject", "false"))))
        .await
        .object();
    assert_untouched(&no);
    webhook.start("two", &[SHORT_LEASE, WATCHFUL]).await;
    webhook.serves("ignore").await;
    assert_injected(&admin.create(&pod("ignore", "with", &annotations(ASKS))).await.object());

    let events = async || {
        let list = admin.get("/api/v1/namespaces/ignore/events").await.object();
        list["items"].as_array().cloned().unwrap_or_default()
    };
    let of_pod =
        |event: &Value| text(event, "/involvedObject/uid") == text(&without, "/metadata/uid");
    let warning =
        until("an Event tells of the pod", async || events().await.into_iter().find(of_pod)).await;
    assert_eq!(warning["type"], "Warning", "{warning:#}");
    assert!(text(&warning, "/message").contains("sidecar"), "{warning:#}");
    webhook.replica("two").logged("without").await;
    let counted = "bfb_webhook_pods_without_sidecar";
    until("the metric counts it", async || {
        (webhook.metric("two", counted, "namespace=\"ignore\"").await == Some(1.0)).then_some(())
    })
    .await;
    // One event a pod that asked, and none for others.
    assert_eq!(events().await.len(), 1);

    admin.delete(&without).await.object();
    until("the metric counts no more", async || {
        (webhook.metric("two", counted, "namespace=\"ignore\"").await.unwrap_or_default() == 0.0)
            .then_some(())
    })
    .await;
}
