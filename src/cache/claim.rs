//! The right to collect a key for the whole fleet, and the wait for whoever has it.
//!
//! A claim ends by itself a moment after its holder last renewed it, so a holder that dies is taken
//! over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::read::Cache;
use crate::bus::Claimed;
use crate::coherence::{Fence, Name, Place};

/// How long a claim outlives its holder: the most that a takeover waits.
pub const CLAIM_LASTS: Duration = Duration::from_millis(500);
/// Between two renewals.
const RENEW: Duration = Duration::from_millis(150);
/// Between two looks at what another collects, at first and at the most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// A flight waits for so many holders, one after the other, who leave nothing; then it collects
/// without a claim. Sources that fail do not make a fleet wait in line.
const HOLDERS_MAX: usize = 2;
/// Slow answers in a row with which a flight that has heard of no holder collects without a claim.
const SLOW_MAX: usize = 2;

/// The right to collect a place for the fleet, for as long as it is renewed.
#[derive(Debug)]
pub(super) struct Claim {
    cache: Cache,
    place: Place,
    holder: Name,
    fence: Fence,
    /// Whether its loss was seen, and counted.
    lost: AtomicBool,
    /// Whether it was released, or is about to be.
    released: bool,
}

/// A flight's wait for others who collect the same.
pub(super) struct Wait {
    pause: Duration,
    /// One after the other.
    pub(super) holders: Vec<Name>,
    heard: Option<Instant>,
    slow_in_row: usize,
    has_asked: bool,
}

impl Default for Wait {
    fn default() -> Self {
        Self { pause: PAUSE.0, holders: Vec::new(), heard: None, slow_in_row: 0, has_asked: false }
    }
}

impl Wait {
    /// Whether there is time to ask once more; `until` is when the caller needs the rest of its
    /// deadline for itself. Once there always is: what Redis has may save a collection.
    pub(super) fn may_ask(&mut self, until: Instant) -> bool {
        let is_first = !std::mem::replace(&mut self.has_asked, true);
        is_first || self.holders.len() <= HOLDERS_MAX && Instant::now() + self.pause < until
    }

    /// Redis has nothing of use, which says nothing of whether another collects: that is asked for
    /// at once, and also where no time can be spared.
    pub(super) fn ask_at_once(&mut self) {
        self.has_asked = false;
    }

    pub(super) fn hear_of(&mut self, other: Name) {
        self.heard = Some(Instant::now());
        self.slow_in_row = 0;
        if self.holders.last() != Some(&other) {
            self.holders.push(other);
        }
    }

    /// Redis did not answer in time. Whether that is no reason yet to collect without a claim: a
    /// holder was heard of within the time that its claim lasts, or Redis was not asked often.
    pub(super) fn bears_slowness(&mut self) -> bool {
        self.slow_in_row += 1;
        let is_held = self.heard.is_some_and(|heard| heard.elapsed() < CLAIM_LASTS);
        is_held || self.slow_in_row < SLOW_MAX
    }

    pub(super) async fn pause(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
    }
}

impl Claim {
    pub(super) fn of(cache: &Cache, place: Place, holder: Name, fence: Fence) -> Self {
        Self {
            cache: cache.clone(),
            place,
            holder,
            fence,
            lost: AtomicBool::new(false),
            released: false,
        }
    }

    /// Renews it until it is dropped, or another holds it: then what is collected is kept for who
    /// asked, no more.
    pub(super) async fn keep(&self) -> std::convert::Infallible {
        loop {
            sleep(RENEW).await;
            let renewed = self
                .cache
                .bus()
                .claim(&self.place, &self.holder, self.fence, CLAIM_LASTS, Some(0))
                .await;
            if matches!(renewed, Ok(Claimed::By(_) | Claimed::There(_) | Claimed::Large(_))) {
                self.count_lost();
                std::future::pending::<()>().await;
            }
        }
    }

    fn count_lost(&self) {
        if !self.lost.swap(true, Ordering::Relaxed) {
            self.cache.metrics().claims_lost.inc();
        }
    }

    /// Releases it, so that others need not wait until it expires.
    pub(super) async fn end(mut self) {
        self.released = true;
        let released = self.cache.bus().release(self.place.clone(), self.holder.clone()).await;
        if released == Ok(false) {
            self.count_lost();
        }
    }
}

/// The claim of a flight that was given up is released as well.
impl Drop for Claim {
    fn drop(&mut self) {
        if self.released
            || !tokio::runtime::Handle::try_current().is_ok_and(|_| !self.cache.tasks().is_closed())
        {
            return;
        }
        let (cache, place, holder) = (self.cache.clone(), self.place.clone(), self.holder.clone());
        self.cache.tasks().spawn(async move {
            // One that cannot be released expires by itself.
            let _ = cache.bus().release(place, holder).await;
        });
    }
}
