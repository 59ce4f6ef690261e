//! The end: asked to stop, a sidecar goes on answering until its consumer has nothing more to ask.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::http::DrainPhase;

/// How long connections get to write what they still hold.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits until the fleet has been told that this sidecar goes.
pub(super) async fn wait_for_leave(tasks: &TaskTracker) {
    tasks.close();
    if tokio::time::timeout(CLOSE_TIMEOUT, tasks.wait()).await.is_err() {
        tracing::warn!(
            "the fleet's Redis could not be told that this sidecar goes; its registration lapses"
        );
    }
}

/// Closes what is still open.
pub(super) async fn close_connections(
    drain: &watch::Sender<DrainPhase>,
    connections: &TaskTracker,
) {
    drain.send_replace(DrainPhase::Closing);
    connections.close();
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, connections.wait()).await;
}
