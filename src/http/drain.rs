//! The wait for a quiet port: a process that is told to stop answers until no request has come for
//! a while.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::millis;
use super::port::{Activity, DrainPhase};

/// How long nothing may have come before a drain is over.
pub const QUIET_PERIOD: Duration = Duration::from_secs(1);
/// How often to look.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Drains for `least`, then until nothing is in flight and nothing came for [`QUIET_PERIOD`]; or
/// until `limit` passed, or `again` (a second signal).
pub async fn drain_until_quiet(
    drain: &watch::Sender<DrainPhase>,
    activity: &Activity,
    least: Duration,
    limit: Duration,
    second_signal: impl Future<Output = ()>,
) {
    let began = Instant::now();
    drain.send_replace(DrainPhase::Draining);
    tracing::info!(limit_ms = millis(limit), in_flight = activity.in_flight(), "draining");
    let quiet = async {
        while began.elapsed() < least || !activity.is_quiet_for(QUIET_PERIOD) {
            sleep(POLL_INTERVAL).await;
        }
    };
    let how = tokio::select! {
        () = quiet => "quiet",
        () = sleep(limit) => "the drain took too long",
        () = second_signal => "told again",
    };
    tracing::info!(
        how,
        took_ms = millis(began.elapsed()),
        in_flight = activity.in_flight(),
        "drained"
    );
}
