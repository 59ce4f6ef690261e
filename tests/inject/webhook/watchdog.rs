//! Pods that were created without a sidecar while no replica answered.

use serde_json::{Value, json};

use crate::support::apiserver::{Apiserver, CONFIGURATION, configuration};
use crate::support::client::TEST_TIMEOUT;
use crate::support::webhook::Webhook;

fn pod(server: &Apiserver, namespace: &str, name: &str, annotations: &Value) {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    server.put(
        &path,
        json!({
            "metadata": {"name": name, "namespace": namespace,
                "uid": format!("uid-{namespace}-{name}"), "annotations": annotations},
            "spec": {"containers": [{"name": "web"}]},
            "status": {"phase": "Running"},
        }),
    );
}

async fn until_counted(webhook: &Webhook, namespace: &str, count: Option<f64>) {
    let labels = [("namespace", namespace)];
    let counted = async {
        while webhook.metric("bfb_webhook_pods_without_sidecar", &labels).await != count {}
    };
    assert!(
        tokio::time::timeout(TEST_TIMEOUT, counted).await.is_ok(),
        "never {count:?}:\n{}",
        webhook.log()
    );
}

fn events(server: &Apiserver, namespace: &str) -> Vec<Value> {
    server.below(&format!("/api/v1/namespaces/{namespace}/events/"))
}

#[tokio::test]
async fn pods_that_passed_without_their_sidecar_are_told_of_once() {
    let server = Apiserver::start().await;
    server.put(CONFIGURATION, configuration("Ignore"));
    server.namespace("labelled", &json!({"bfb.dev/inject": "customer"}));
    server.put(
        "/api/v1/namespaces/kube-system",
        json!({"metadata": {"name": "kube-system",
            "labels": {"kubernetes.io/metadata.name": "kube-system"}}}),
    );
    let asks = json!({"bfb.dev/inject": "customer"});
    pod(&server, "shop", "asks", &asks);
    pod(&server, "shop", "wrong", &json!({"bfb.dev/inject": "customer", "bfb.dev/memry": "1"}));
    pod(&server, "shop", "says-nothing", &json!({}));
    pod(
        &server,
        "shop",
        "mirrored",
        &json!({"bfb.dev/inject": "customer", "kubernetes.io/config.mirror": "x"}),
    );
    pod(&server, "labelled", "silent", &json!({}));
    pod(&server, "labelled", "opted-out", &json!({"bfb.dev/inject": "false"}));
    pod(&server, "kube-system", "asks", &asks);
    for (name, change) in
        [("over", json!({"phase": "Succeeded"})), ("failed", json!({"phase": "Failed"}))]
    {
        pod(&server, "shop", name, &asks);
        server
            .change(&format!("/api/v1/namespaces/shop/pods/{name}"), |pod| pod["status"] = change);
    }
    let webhook = Webhook::ready(&server, &[]).await;
    until_counted(&webhook, "shop", Some(2.0)).await;
    until_counted(&webhook, "labelled", Some(1.0)).await;
    until_counted(&webhook, "kube-system", None).await;
    server
        .until("every pod has its event", |server| {
            events(server, "shop").len() == 2 && events(server, "labelled").len() == 1
        })
        .await;
    let event = &events(&server, "labelled")[0];
    assert_eq!((&event["reason"], &event["type"]), (&json!("SidecarMissing"), &json!("Warning")));
    assert_eq!(event["involvedObject"]["uid"], "uid-labelled-silent");
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("lacks its sidecar: `customer`; it was created while"), "{message}");

    // Further scans do not report a pod again; a pod that was created anew has its sidecar.
    let asked = server.asked("GET /api/v1/pods");
    server.until("looked again", |server| server.asked("GET /api/v1/pods") > asked + 20).await;
    assert_eq!(server.asked("POST /api/v1/namespaces/labelled/events"), 1);
    server.change("/api/v1/namespaces/labelled/pods/silent", |pod| {
        pod["metadata"]["annotations"] = json!({"bfb.dev/status": "injected"});
        pod["spec"]["initContainers"] = json!([{"name": "bfb"}]);
    });
    until_counted(&webhook, "labelled", None).await;
    assert_eq!(
        webhook
            .lines()
            .iter()
            .filter(|line| line["message"].as_str().is_some_and(|it| it.contains("has no sidecar")))
            .count(),
        3
    );
}

#[tokio::test]
async fn where_no_pod_can_pass_none_is_looked_for() {
    let server = Apiserver::start().await;
    pod(&server, "shop", "asks", &json!({"bfb.dev/inject": "customer"}));
    let webhook = Webhook::ready(&server, &[]).await;
    let renewed =
        server.asked("PUT /apis/coordination.k8s.io/v1/namespaces/bfb-system/leases/bfb-webhook");
    server
        .until("some seconds of a leader", |server| {
            server
                .asked("PUT /apis/coordination.k8s.io/v1/namespaces/bfb-system/leases/bfb-webhook")
                > renewed + 6
        })
        .await;
    assert_eq!(server.asked("GET /api/v1/pods"), 0);
    assert_eq!(webhook.metric("bfb_webhook_pods_without_sidecar", &[]).await, None);
}

#[tokio::test]
async fn pods_of_megabytes_are_looked_at_few_at_a_time() {
    let server = Apiserver::start().await;
    server.put(CONFIGURATION, configuration("Ignore"));
    let note = "x".repeat(1 << 20);
    for nth in 0..12 {
        pod(
            &server,
            "shop",
            &format!("large-{nth}"),
            &json!({"bfb.dev/inject": "customer", "note": note}),
        );
    }
    let webhook = Webhook::ready(&server, &[]).await;
    until_counted(&webhook, "shop", Some(12.0)).await;
    assert_eq!(webhook.metric("bfb_webhook_cluster_failures_total", &[]).await, Some(0.0));
}
