//! The end: asked to stop, a sidecar goes on answering until its consumer has nothing more to ask.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::serve::{Activity, Drain};

/// How long nothing may have come before a drain is over.
const QUIET: Duration = Duration::from_secs(1);
/// How often to look.
const LOOK: Duration = Duration::from_millis(20);
/// How long connections get to write what they still hold.
const CLOSING: Duration = Duration::from_secs(1);

/// Drains until nothing is in flight and nothing came for a second, or `limit` passed, or `again` (a second signal).
pub(super) async fn until_quiet(
    drain: &watch::Sender<Drain>,
    activity: &Activity,
    limit: Duration,
    again: impl Future<Output = ()>,
) {
    let began = Instant::now();
    drain.send_replace(Drain::Draining);
    tracing::info!(limit_ms = millis(limit), in_flight = activity.in_flight(), "draining");
    let quiet = async {
        // A second of quiet counts from the signal on: the consumer may be about to ask its last.
        while began.elapsed() < QUIET || !activity.quiet_for(QUIET) {
            tokio::time::sleep(LOOK).await;
        }
    };
    let how = tokio::select! {
        () = quiet => "quiet",
        () = tokio::time::sleep(limit) => "the drain took too long",
        () = again => "told again",
    };
    tracing::info!(how, took_ms = millis(began.elapsed()), in_flight = activity.in_flight(), "drained");
}

/// As a number that every format of the log writes as one.
fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Waits until the fleet has been told that this sidecar goes.
pub(super) async fn leave(tasks: &TaskTracker) {
    tasks.close();
    if tokio::time::timeout(CLOSING, tasks.wait()).await.is_err() {
        tracing::warn!("the fleet's Redis could not be told that this sidecar goes; its registration lapses");
    }
}

/// Closes what is still open.
pub(super) async fn close(drain: &watch::Sender<Drain>, connections: &TaskTracker) {
    drain.send_replace(Drain::Closing);
    connections.close();
    let _ = tokio::time::timeout(CLOSING, connections.wait()).await;
}
