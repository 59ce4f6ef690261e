//! How long a caller may wait for another's collection: until it needs the rest of its deadline for
//! one of its own. That rest is estimated from the durations of recent collections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::coherence::FLIGHTS_RUNNING_MAX;
use crate::collect;

/// The time that a collection may take beyond a quarter more than collections of late took.
const MARGIN: Duration = Duration::from_millis(25);

/// How long collections of one domain took of late.
#[derive(Debug, Default)]
pub(super) struct CollectionTime {
    /// In microseconds; 0 where none has ended yet.
    usual_us: AtomicU64,
}

/// One caller's times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// When it came.
    came: Instant,
    /// Until when a flight of its own must have begun.
    pub(super) begin_by: Instant,
    /// Until when it waits for a flight or a claim that another caller or sidecar began, and no
    /// longer.
    pub(super) share_until: Instant,
    /// Until when it waits at all.
    pub(super) until: Instant,
}

impl CollectionTime {
    /// A collection took so long: the next are expected to, and each that takes less makes them
    /// expected to take an eighth less.
    pub(super) fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let usual = self.usual_us.load(Ordering::Relaxed);
        self.usual_us.store(took.max(usual - usual / 8), Ordering::Relaxed);
    }

    /// The part of its deadline that a caller keeps for a flight that has not begun. Before any
    /// collection has ended that is three quarters of it.
    fn reserve(&self, deadline: Duration) -> Duration {
        self.expected(deadline).unwrap_or(deadline * 3 / 4)
    }

    /// The part of its deadline that a caller keeps while a flight or a claim of others runs.
    /// Before any collection has ended that is half of it: less than for a flight that has not
    /// begun, since most flights that are under way end soon.
    fn reserve_beside_others(&self, deadline: Duration) -> Duration {
        self.expected(deadline).unwrap_or(deadline / 2)
    }

    /// Whether a caller that arrives now would be late if it waited for a flight that has run for
    /// `age`, and then for another one: both take as long as recent collections did. Without a
    /// recent collection there is no estimate.
    pub(super) fn is_late_after(&self, age: Duration, deadline: Duration) -> bool {
        self.expected(deadline).is_some_and(|usual| 2 * usual > deadline + age.min(usual))
    }

    /// How long a collection is expected to take at most; nothing before any has ended.
    fn expected(&self, deadline: Duration) -> Option<Duration> {
        let usual = match self.usual_us.load(Ordering::Relaxed) {
            0 => return None,
            micros => Duration::from_micros(micros),
        };
        Some((usual + usual / 4 + MARGIN).min(deadline))
    }

    /// The times of a caller that arrived at `came`.
    pub(super) fn patience(&self, came: Instant, deadline: Duration) -> Patience {
        Patience {
            came,
            begin_by: came + deadline.saturating_sub(self.reserve(deadline)),
            share_until: came + deadline.saturating_sub(self.reserve_beside_others(deadline)),
            until: came + deadline + collect::DEADLINE_GRACE,
        }
    }
}

impl Patience {
    /// A caller that has waited for others as long as it could accepts a flight that began this
    /// short a time ago at most: after the caller arrived, and not so long ago that the flight is
    /// late itself; or in the last eighth of the deadline, since a flight of its own would hardly
    /// end sooner.
    pub(super) fn young_enough(&self) -> Duration {
        let since_it_came = self.came.elapsed().min((self.until - self.share_until) / 2);
        since_it_came.max((self.until - self.came) / FLIGHTS_RUNNING_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_caller_keeps_what_collections_of_late_took_and_a_margin() {
        let time = CollectionTime::default();
        let came = Instant::now();
        let unknown = time.patience(came, SECOND);
        assert_eq!(unknown.begin_by - came, SECOND / 4);
        assert_eq!(unknown.share_until - came, SECOND / 2);
        time.note(Duration::from_millis(100));
        let expected = time.patience(came, SECOND);
        assert_eq!(expected.share_until - came, Duration::from_millis(850));
        assert_eq!(expected.begin_by, expected.share_until);
        time.note(3 * SECOND);
        assert_eq!(time.patience(came, SECOND).share_until, came, "nothing can be spared");
    }

    #[test]
    fn one_slow_collection_is_forgotten_by_and_by() {
        let time = CollectionTime::default();
        time.note(SECOND);
        (0..50).for_each(|_| time.note(Duration::from_millis(1)));
        assert!(time.reserve(SECOND) < Duration::from_millis(50));
    }
}
