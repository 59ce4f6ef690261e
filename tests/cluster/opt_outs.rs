//! Pods that do not ask are left alone: pods that opt out, pods for which neither an annotation nor
//! a label asks, and pods that the cluster or the webhook itself needs to start.

use serde_json::json;

use crate::support::control_plane::ControlPlane;
use crate::support::installation::Installation;
use crate::support::kustomize::Overlay;
use crate::support::objects::{ASKS, annotations, assert_injected, assert_untouched, pod};

#[tokio::test]
async fn pods_that_say_no_or_say_nothing_are_left_alone() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "opt-outs", Overlay::Fail).await;
    webhook.namespace("opt-outs", &json!({})).await;
    webhook.namespace("opt-outs-all", &json!({"bfb.dev/inject": "customer"})).await;
    webhook.namespace("opt-outs-none", &json!({"bfb.dev/inject": "false"})).await;
    webhook.start("one", &[]).await;
    webhook.serves("opt-outs").await;
    let admin = plane.admin();
    let no = annotations(("bfb.dev/inject", "false"));
    for (namespace, says) in [
        ("opt-outs", json!({})),
        ("opt-outs", no.clone()),
        ("opt-outs-all", no.clone()),
        ("opt-outs-none", json!({})),
        ("opt-outs-none", no),
    ] {
        let name = if says == json!({}) { "nothing" } else { "no" };
        assert_untouched(&admin.create(&pod(namespace, name, &says)).await.object());
    }
    // The webhook does inject other pods of these namespaces.
    assert_injected(&admin.create(&pod("opt-outs-all", "all", &json!({}))).await.object());
    assert_injected(
        &admin.create(&pod("opt-outs-none", "asks", &annotations(ASKS))).await.object(),
    );
}

#[tokio::test]
async fn the_pods_of_the_cluster_and_of_the_webhook_are_left_alone_whatever_they_say() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "left-alone", Overlay::Fail).await;
    webhook.namespace("left-alone", &json!({})).await;
    let own = webhook.namespace.clone();
    for namespace in ["kube-system", &own] {
        webhook.namespace(namespace, &json!({"bfb.dev/inject": "customer"})).await;
    }
    webhook.start("one", &[]).await;
    webhook.serves("left-alone").await;
    for namespace in ["kube-system", &own] {
        for says in [json!({}), annotations(ASKS)] {
            let pod = pod(namespace, if says == json!({}) { "nothing" } else { "asks" }, &says);
            assert_untouched(&plane.admin().create(&pod).await.object());
        }
    }
}
