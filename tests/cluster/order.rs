//! The webhook beside other injectors. "First in order" means: the sidecar stands before every
//! container that was in the pod when the webhook got it. An injector that is called later may put
//! its own before it, as a mesh must whose proxy carries all traffic; the webhook, called again,
//! leaves that order alone.

use serde_json::{Value, json};

use crate::support::api::text;
use crate::support::control_plane::{AUDITED, ControlPlane};
use crate::support::installation::Installation;
use crate::support::kustomize::Overlay;
use crate::support::mesh;
use crate::support::objects::{ASKS, annotations, init_containers, owners, pod};
use crate::support::until;

/// The API server calls configurations in the order of their names.
const BEFORE_OURS: &str = "a-mesh";
const AFTER_OURS: &str = "z-mesh";

/// The calls of webhooks for a pod: (round, configuration, whether it changed the pod), in order.
async fn rounds(plane: &ControlPlane, pod: &str) -> Vec<(usize, String, bool)> {
    const MUTATION: &str = "mutation.webhook.admission.k8s.io/round_";
    let event = until("the pod is in the audit log", async || {
        let of_pod = |event: &Value| event["requestObject"]["metadata"]["name"] == pod;
        plane.audit().into_iter().find(of_pod)
    })
    .await;
    let mut rounds: Vec<_> = event["annotations"].as_object().unwrap().iter().collect();
    rounds.sort_by_key(|(key, _)| *key);
    let read = |(key, value): (&String, &Value)| {
        let (round, _) = key.strip_prefix(MUTATION)?.split_once('_')?;
        let value: Value = serde_json::from_str(value.as_str()?).ok()?;
        Some((round.parse().ok()?, text(&value, "/configuration"), value["mutated"] == true))
    };
    rounds.into_iter().filter_map(read).collect()
}

#[tokio::test]
async fn another_injector_and_ours_leave_one_sidecar_each_whoever_is_asked_first() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "order", Overlay::Fail).await;
    webhook.namespace(AUDITED, &json!({"mesh": "before"})).await;
    webhook.start("one", &[]).await;
    webhook.serves(AUDITED).await;
    let admin = plane.admin();
    for (configuration, label) in [(BEFORE_OURS, "before"), (AFTER_OURS, "after")] {
        admin.apply(&mesh::start(configuration, ("mesh", label)).await).await;
    }
    let both = json!({"bfb.dev/inject": "customer", mesh::ASKS: "true"});
    let configuration_name = webhook.configuration.clone();
    let meshed = |pod: &Value| init_containers(pod).contains(&mesh::CONTAINER);

    until("the mesh is asked", async || {
        admin
            .rehearse(&pod(AUDITED, "probe", &both))
            .await
            .unwrap()
            .object()
            .to_string()
            .contains(mesh::CONTAINER)
            .then_some(())
    })
    .await;
    let first = admin.create(&pod(AUDITED, "mesh-first", &both)).await.object();
    assert_eq!(init_containers(&first), ["bfb", mesh::CONTAINER]);
    // The pod is changed after each call (by the API server itself after the last), so both are
    // called again, and neither has anything to add.
    let expected = [
        (0, BEFORE_OURS, true),
        (0, &configuration_name, true),
        (1, BEFORE_OURS, false),
        (1, &configuration_name, false),
    ];
    assert_eq!(
        rounds(plane, "mesh-first").await,
        expected.map(|(round, name, done)| (round, name.to_owned(), done))
    );

    webhook.namespace(AUDITED, &json!({"mesh": "after"})).await;
    until("the other mesh is asked", async || {
        let pod = admin.rehearse(&pod(AUDITED, "probe", &both)).await.unwrap().object();
        (meshed(&pod) && init_containers(&pod)[0] == mesh::CONTAINER).then_some(())
    })
    .await;
    let second = admin.create(&pod(AUDITED, "mesh-second", &both)).await.object();
    assert_eq!(init_containers(&second), [mesh::CONTAINER, "bfb"]);
    let expected = [
        (0, &*configuration_name, true),
        (0, AFTER_OURS, true),
        (1, &configuration_name, false),
        (1, AFTER_OURS, false),
    ];
    assert_eq!(
        rounds(plane, "mesh-second").await,
        expected.map(|(round, name, done)| (round, name.to_owned(), done))
    );

    let deployment = owners(AUDITED, &both).remove(0);
    admin.create(&deployment).await.object();
    assert_eq!(init_containers(&admin.pod_of(&deployment).await), [mesh::CONTAINER, "bfb"]);
}

#[tokio::test]
async fn a_pod_that_bfb_inject_wrote_is_not_injected_again() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "again", Overlay::Fail).await;
    webhook.namespace("again", &json!({})).await;
    webhook.start("one", &[]).await;
    webhook.serves("again").await;
    let admin = plane.admin();
    let once = admin.create(&pod("again", "once", &annotations(ASKS))).await.object();
    // As `kubectl get -o yaml | kubectl apply` would create it again under another name.
    let mut twice = json!({"apiVersion": "v1", "kind": "Pod", "spec": once["spec"]});
    twice["metadata"] = json!({"name": "twice", "namespace": "again",
        "annotations": once["metadata"]["annotations"]});
    let twice = admin.create(&twice).await.object();
    assert_eq!(twice["spec"], once["spec"]);
}
