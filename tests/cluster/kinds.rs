//! Pods that ask get a sidecar: pods of every kind, and all pods of a namespace that asks for them,
//! where the *restricted* Pod Security Standard is enforced on the result.

use serde_json::json;

use crate::support::api::text;
use crate::support::control_plane::ControlPlane;
use crate::support::installation::Installation;
use crate::support::kustomize::Overlay;
use crate::support::objects::{
    ASKS, annotations, assert_injected, init_containers, overdue, owners, pod,
};
use crate::support::until;

#[tokio::test]
async fn pods_of_every_kind_come_out_injected_and_pass_the_restricted_standard() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "kinds", Overlay::Fail).await;
    webhook.namespace("kinds", &json!({})).await;
    webhook.start("one", &[]).await;
    webhook.serves("kinds").await;
    let admin = plane.admin();
    assert_injected(&admin.create(&pod("kinds", "bare", &annotations(ASKS))).await.object());
    for owner in owners("kinds", &annotations(ASKS)) {
        let created = admin.create(&owner).await.object();
        let kind = text(&owner, "/kind");
        let name = text(&owner, "/metadata/name");
        if kind == "CronJob" {
            let status = format!("/apis/batch/v1/namespaces/kinds/cronjobs/{name}/status");
            admin.merge_at(&status, &overdue()).await.object();
        }
        assert!(
            !created.to_string().contains("bfb.dev/status"),
            "the template of {kind} stays as it was written"
        );
        let pod = admin.pod_of(&owner).await;
        assert_injected(&pod);
        assert_eq!(pod["spec"]["containers"][0]["image"], "shop/web:1", "{kind}");
    }
}

#[tokio::test]
async fn a_pod_says_what_its_sidecar_is_told_and_keeps_what_it_has() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "told", Overlay::Fail).await;
    webhook.namespace("told", &json!({})).await;
    webhook.start("one", &[]).await;
    webhook.serves("told").await;
    let asks = json!({"bfb.dev/inject": "customer,orders", "bfb.dev/memory": "32MiB",
        "bfb.dev/unix-socket": "true"});
    let mut pod = pod("told", "ignored", &asks);
    pod["metadata"] = json!({"generateName": "web-", "namespace": "told", "annotations": asks});
    let mut first = pod["spec"]["containers"][0].clone();
    first["name"] = "migrate".into();
    pod["spec"]["initContainers"] = json!([first]);
    let pod = plane.admin().create(&pod).await.object();
    assert_injected(&pod);
    assert_eq!(init_containers(&pod), ["bfb", "migrate"]);
    let sidecar = &pod["spec"]["initContainers"][0];
    assert!(sidecar.to_string().contains("32MiB"), "{sidecar:#}");
    let volumes = pod["spec"]["volumes"].to_string();
    assert!(
        volumes.contains("bfb-domain-customer") && volumes.contains("bfb-domain-orders"),
        "{volumes}"
    );
    assert!(
        pod["spec"]["containers"][0]["volumeMounts"].to_string().contains("/run/bfb"),
        "{pod:#}"
    );
    assert_eq!(pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"], "app");

    // A warning for the pod's author appears where `kubectl` shows it.
    let mut hasty = self::pod("told", "hasty", &annotations(ASKS));
    hasty["spec"]["terminationGracePeriodSeconds"] = 10.into();
    let answer = plane.admin().create(&hasty).await;
    let warned =
        answer.warnings.iter().any(|warning| warning.contains("the pod is killed 10s after"));
    assert!(warned && answer.is_done(), "{answer:?}");
}

#[tokio::test]
async fn pods_of_a_namespace_that_asks_for_all_come_out_injected() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "labelled", Overlay::Fail).await;
    webhook.namespace("labelled", &json!({"bfb.dev/inject": "customer.orders"})).await;
    webhook.start("one", &[]).await;
    webhook.serves("labelled").await;
    let admin = plane.admin();
    let all = admin.create(&pod("labelled", "all", &json!({}))).await.object();
    assert_injected(&all);
    let volumes = all["spec"]["volumes"].to_string();
    assert!(
        volumes.contains("bfb-domain-customer") && volumes.contains("bfb-domain-orders"),
        "{volumes}"
    );
    // The pod's own annotation has precedence.
    let own =
        admin.create(&pod("labelled", "own", &json!({"bfb.dev/inject": "orders"}))).await.object();
    assert_injected(&own);
    assert!(!own["spec"]["volumes"].to_string().contains("bfb-domain-customer"), "{own:#}");

    // A changed label of a namespace takes effect.
    webhook.namespace("labelled", &json!({"bfb.dev/inject": "orders"})).await;
    until("the new label holds", async || {
        let pod = admin.rehearse(&pod("labelled", "later", &json!({}))).await.unwrap().object();
        let volumes = pod["spec"]["volumes"].to_string();
        (volumes.contains("bfb-domain-orders") && !volumes.contains("bfb-domain-customer"))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_name_of_the_annotation() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "refused", Overlay::Fail).await;
    webhook.namespace("refused", &json!({})).await;
    webhook.start("one", &[]).await;
    webhook.serves("refused").await;
    let admin = plane.admin();
    let wrong =
        json!({"bfb.dev/inject": "customer", "bfb.dev/memory": "much", "bfb.dev/lgo": "info"});
    let refused = admin.create(&pod("refused", "bare", &wrong)).await;
    let message = refused.refusal();
    assert!(
        message.starts_with("admission webhook \"annotated.bfb.dev\" denied the request: "),
        "{message}"
    );
    for named in ["bfb.dev/memory", "bfb.dev/lgo", "bfb.dev/log"] {
        assert!(message.contains(named), "`{named}` in: {message}");
    }
    // A misspelt annotation is an error even where no other annotation asks for a sidecar.
    let misspelt =
        admin.create(&pod("refused", "bare", &json!({"bfb.dev/injct": "customer"}))).await;
    assert!(misspelt.refusal().contains("bfb.dev/injct"), "{misspelt:?}");

    // A Deployment that makes no progress shows the reason in its conditions.
    let deployment = owners("refused", &wrong).remove(0);
    admin.create(&deployment).await.object();
    let message = until("the Deployment says why it has no pods", async || {
        let conditions = admin.current(&deployment).await.object()["status"]["conditions"].clone();
        let mut conditions = conditions.as_array()?.iter();
        let failed = conditions.find(|condition| condition["type"] == "ReplicaFailure")?;
        failed["message"].as_str().map(str::to_owned)
    })
    .await;
    assert!(message.contains("bfb.dev/memory"), "{message}");
}
