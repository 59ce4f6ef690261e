//! Claims: the right to collect a key for the whole fleet, and the wait for its holder.
//!
//! A claim ends by itself a moment after its holder last renewed it, so a holder that dies is taken
//! over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::bus::{ClaimOutcome, DomainBus};
use crate::coherence::{DatasetPlace, Fence, MemberName};

/// How long a claim outlives its holder: the most that a takeover waits.
pub const CLAIM_TTL: Duration = Duration::from_millis(500);
/// Between two renewals.
const RENEW: Duration = Duration::from_millis(150);
/// The pause between two looks at another's claim, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// A flight waits for so many holders of the claim, one after the other, that store nothing; then
/// it collects without a claim. Failing sources do not make a fleet wait in line.
const HOLDERS_MAX: usize = 2;
/// Slow answers of Redis in a row after which a flight that has seen no holder collects without a
/// claim.
const SLOW_MAX: usize = 2;

/// The right to collect a place for the fleet, for as long as it is renewed.
#[derive(Debug)]
pub(in crate::cache) struct FleetClaim {
    keeper: ClaimKeeper,
    place: DatasetPlace,
    holder: MemberName,
    fence: Fence,
    /// Whether its loss was seen, and counted.
    lost: AtomicBool,
    /// Whether it was released, or is about to be.
    released: bool,
}

/// The parts that renew and release a claim.
#[derive(Debug, Clone)]
pub(super) struct ClaimKeeper {
    pub(super) bus: DomainBus,
    /// Counts the claims that were lost.
    pub(super) lost: Counter,
    /// Owns the task that releases the claim of an abandoned flight.
    pub(super) tasks: TaskTracker,
}

/// A flight's wait for the holder of the claim.
pub(super) struct ClaimWait {
    pause: Duration,
    /// One after the other.
    pub(super) holders: Vec<MemberName>,
    heard: Option<Instant>,
    slow_in_row: usize,
    has_asked: bool,
}

impl Default for ClaimWait {
    fn default() -> Self {
        Self { pause: PAUSE.0, holders: Vec::new(), heard: None, slow_in_row: 0, has_asked: false }
    }
}

impl ClaimWait {
    /// Whether there is time for one more request; at `until` the caller needs the rest of its
    /// deadline for itself. The first request is always allowed: an entry in Redis may save a
    /// collection.
    pub(super) fn may_ask(&mut self, until: Instant) -> bool {
        let is_first = !std::mem::replace(&mut self.has_asked, true);
        is_first || self.holders.len() <= HOLDERS_MAX && Instant::now() + self.pause < until
    }

    /// Redis has no usable entry, but another sidecar may hold the claim: the next request is sent
    /// at once, and even where no time can be spared.
    pub(super) fn ask_at_once(&mut self) {
        self.has_asked = false;
    }

    pub(super) fn note_holder(&mut self, other: MemberName) {
        self.heard = Some(Instant::now());
        self.slow_in_row = 0;
        if self.holders.last() != Some(&other) {
            self.holders.push(other);
        }
    }

    /// Redis did not answer in time. Whether the flight goes on waiting for the claim: a holder was
    /// seen within the last `CLAIM_TTL`, or few requests were sent.
    pub(super) fn tolerates_slowness(&mut self) -> bool {
        self.slow_in_row += 1;
        let is_held = self.heard.is_some_and(|heard| heard.elapsed() < CLAIM_TTL);
        is_held || self.slow_in_row < SLOW_MAX
    }

    pub(super) async fn pause(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
    }
}

impl FleetClaim {
    /// The claim that `holder` has just acquired.
    pub(super) fn new(
        keeper: ClaimKeeper,
        place: DatasetPlace,
        holder: MemberName,
        fence: Fence,
    ) -> Self {
        Self { keeper, place, holder, fence, lost: AtomicBool::new(false), released: false }
    }

    /// Renews the claim for as long as this is polled, or until another holds it: then the
    /// collected dataset serves the callers of the flight and is not stored.
    pub(in crate::cache) async fn renew_until_lost(&self) -> std::convert::Infallible {
        loop {
            sleep(RENEW).await;
            let renewed = self
                .keeper
                .bus
                .claim(&self.place, &self.holder, self.fence, CLAIM_TTL, Some(0))
                .await;
            if matches!(
                renewed,
                Ok(ClaimOutcome::HeldBy(_)
                    | ClaimOutcome::AlreadyStored(_)
                    | ClaimOutcome::Large(_))
            ) {
                self.count_lost();
                std::future::pending::<()>().await;
            }
        }
    }

    fn count_lost(&self) {
        if !self.lost.swap(true, Ordering::Relaxed) {
            self.keeper.lost.inc();
        }
    }

    /// Releases the claim, so that others need not wait until it expires after [`CLAIM_TTL`].
    pub(in crate::cache) async fn release(mut self) {
        self.released = true;
        let released = self.keeper.bus.release(self.place.clone(), self.holder.clone()).await;
        if released == Ok(false) {
            self.count_lost();
        }
    }
}

/// The claim of a flight that was given up is released as well.
impl Drop for FleetClaim {
    fn drop(&mut self) {
        if self.released
            || !tokio::runtime::Handle::try_current().is_ok_and(|_| !self.keeper.tasks.is_closed())
        {
            return;
        }
        let bus = self.keeper.bus.clone();
        let place = self.place.clone();
        let holder = self.holder.clone();
        self.keeper.tasks.spawn(async move {
            // One that cannot be released expires by itself.
            let _ = bus.release(place, holder).await;
        });
    }
}
