//! The end: asked to stop, a sidecar goes on answering until its consumer has nothing more to ask.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::serve::Drain;

/// How long connections get to write what they still hold.
const CLOSING: Duration = Duration::from_secs(1);

/// Waits until the fleet has been told that this sidecar goes.
pub(super) async fn leave(tasks: &TaskTracker) {
    tasks.close();
    if tokio::time::timeout(CLOSING, tasks.wait()).await.is_err() {
        tracing::warn!(
            "the fleet's Redis could not be told that this sidecar goes; its registration lapses"
        );
    }
}

/// Closes what is still open.
pub(super) async fn close(drain: &watch::Sender<Drain>, connections: &TaskTracker) {
    drain.send_replace(Drain::Closing);
    connections.close();
    let _ = tokio::time::timeout(CLOSING, connections.wait()).await;
}
