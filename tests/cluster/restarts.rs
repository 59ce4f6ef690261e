//! The API server crashes and comes back under load. Here the webhook is installed exactly as
//! `k8s/` has it, in a control plane of the test's own.

use serde_json::json;

use crate::support::control_plane::ControlPlane;
use crate::support::installation::{Installation, SHORT_LIVED};
use crate::support::kustomize::Overlay;
use crate::support::stream::Stream;
use crate::support::until;

#[tokio::test]
async fn an_api_server_that_restarts_in_mid_stream_finds_the_webhook_as_it_was() {
    let plane = ControlPlane::start().await;
    let mut webhook = Installation::as_it_is(&plane, Overlay::Fail).await;
    webhook.namespace("restarts", &json!({})).await;
    for replica in ["one", "two"] {
        webhook.start(replica, &[SHORT_LIVED]).await;
    }
    webhook.serves("restarts").await;
    for _ in 0..2 {
        let stream = Stream::start(&plane.admin(), "restarts");
        stream.more(50).await;
        plane.kill_api_server().await;
        until("nobody answers", async || (stream.tally().unanswered > 0).then_some(())).await;
        plane.start_api_server().await;
        stream.more(50).await;
        // Certificates go on rotating.
        let bundle = webhook.bundle().await;
        until("another bundle is trusted", async || {
            (webhook.bundle().await != bundle).then_some(())
        })
        .await;
        stream.more(50).await;
        let tally = stream.end().await;
        // Until the API server has loaded all webhooks again, it refuses pods; it lets none in
        // without them.
        assert_eq!(tally.wrong, 0, "{tally:?}");
    }
}
