//! Two replicas: one leads, both answer, and either may go at any time.

use serde_json::json;

use crate::support::control_plane::ControlPlane;
use crate::support::installation::{Installation, SHORT_LEASE};
use crate::support::kustomize::Overlay;
use crate::support::stream::{LANES, Stream};
use crate::support::until;

const REPLICAS: [&str; 2] = ["one", "two"];

/// The replica that leads, and the other.
async fn roles(webhook: &Installation<'_>) -> (&'static str, &'static str) {
    let leader = until("one of them leads", async || {
        let leader = webhook.leader().await?;
        REPLICAS.into_iter().find(|replica| leader.contains(replica))
    })
    .await;
    (leader, REPLICAS.into_iter().find(|replica| *replica != leader).unwrap())
}

#[tokio::test]
async fn where_the_leader_is_killed_the_other_leads_and_admissions_go_on() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "leaders", Overlay::Fail).await;
    webhook.namespace("leaders", &json!({})).await;
    for replica in REPLICAS {
        webhook.start(replica, &[SHORT_LEASE]).await;
    }
    webhook.serves("leaders").await;
    let (leader, other) = roles(&webhook).await;
    let stream = Stream::start(&plane.admin(), "leaders");
    stream.more(20).await;
    webhook.kill(leader).await;
    // The other replica answers at once, long before it leads.
    stream.more(20).await;
    until("the other leads", async || webhook.leader().await?.contains(other).then_some(())).await;
    stream.more(20).await;
    let tally = stream.end().await;
    // Only the admissions that the dead replica was answering are lost.
    assert!(tally.wrong <= LANES && tally.unanswered == 0, "{tally:?}");

    // The new leader repairs the bundle.
    let right = webhook.bundle().await;
    let mut webhooks = webhook.configuration().await["webhooks"].clone();
    webhooks[0]["clientConfig"]["caBundle"] = json!(null);
    webhook.change_configuration(&json!({"webhooks": webhooks})).await;
    until("the bundle is as it was", async || (webhook.bundle().await == right).then_some(()))
        .await;
    webhook.serves("leaders").await;
}

#[tokio::test]
async fn replicas_are_replaced_one_after_the_other_with_no_admission_failed() {
    let plane = ControlPlane::shared().await;
    let mut webhook = Installation::of(plane, "rolling", Overlay::Fail).await;
    webhook.namespace("rolling", &json!({})).await;
    for replica in REPLICAS {
        webhook.start(replica, &[]).await;
    }
    webhook.serves("rolling").await;
    let stream = Stream::start(&plane.admin(), "rolling");
    let (leader, other) = roles(&webhook).await;
    for (old, new) in [(leader, "three"), (other, "four")] {
        webhook.start(new, &[]).await;
        stream.more(50).await;
        assert_eq!(webhook.terminate(old).await, 0, "{old} ends in peace");
        stream.more(50).await;
    }
    until("one of the new leads", async || {
        let leader = webhook.leader().await?;
        ["three", "four"].iter().any(|new| leader.contains(new)).then_some(())
    })
    .await;
    let tally = stream.end().await;
    assert_eq!((tally.wrong, tally.unanswered), (0, 0), "{tally:?}");
}
