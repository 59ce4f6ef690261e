//! What one process knows of the log's age: how long it has known the epoch, and the longest lease
//! it ever heard of.
//!
//! A young epoch's registry may not know everybody: who holds a lease of the epoch before is not in
//! it. Once a process has known an epoch for the whole lease, nobody does any more, and it may mark
//! the epoch as settled.

use std::time::Duration;

use super::words::{Epoch, LEASE_MAX, Moment};

/// One process's knowledge, kept for as long as the process lives: by a sidecar, and by a command
/// that invalidates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Witness {
    longest: Duration,
    grace: Duration,
    known: Option<(Epoch, Moment)>,
}

impl Witness {
    /// Knows no epoch yet, and of leases only its own fleet's.
    pub const fn new(lease: Duration, grace: Duration) -> Self {
        Self { longest: lease, grace, known: None }
    }

    /// Hears an answer at `now`: it names the epoch, and the longest lease registered. A lease that
    /// no sidecar can have is ignored.
    pub fn hear(&mut self, epoch: Epoch, longest: Duration, now: Moment) {
        if longest <= LEASE_MAX {
            self.longest = self.longest.max(longest);
        }
        if self.known.is_none_or(|(known, _)| known != epoch) {
            self.known = Some((epoch, now));
        }
    }

    /// The longest lease heard of, and the time that a deposed primary may go on answering.
    pub const fn whole_lease(&self) -> Duration {
        self.longest.saturating_add(self.grace)
    }

    /// Whether it has known `epoch` for the whole lease.
    pub fn known_long(&self, epoch: Epoch, now: Moment) -> bool {
        self.known
            .is_some_and(|(known, since)| known == epoch && now.since(since) >= self.whole_lease())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_epoch_that_comes_back_is_young_again() {
        let (mut witness, start) = (Witness::new(SECOND, SECOND), Moment::default());
        witness.hear(Epoch(1), SECOND, start);
        assert!(
            !witness.known_long(Epoch(1), start.after(SECOND))
                && witness.known_long(Epoch(1), start.after(2 * SECOND))
        );
        witness.hear(Epoch(2), SECOND, start.after(SECOND));
        witness.hear(Epoch(1), SECOND, start.after(SECOND));
        assert!(!witness.known_long(Epoch(1), start.after(2 * SECOND)));
    }

    #[test]
    fn a_lease_that_no_sidecar_can_have_is_ignored() {
        let mut witness = Witness::new(SECOND, Duration::ZERO);
        witness.hear(Epoch(1), LEASE_MAX + SECOND, Moment::default());
        assert_eq!(witness.whole_lease(), SECOND);
        witness.hear(Epoch(1), LEASE_MAX, Moment::default());
        assert_eq!(witness.whole_lease(), LEASE_MAX);
    }

    #[test]
    fn a_longer_lease_once_heard_of_is_never_forgotten() {
        let mut witness = Witness::new(SECOND, Duration::ZERO);
        witness.hear(Epoch(1), 5 * SECOND, Moment::default());
        witness.hear(Epoch(2), SECOND, Moment::default());
        assert_eq!(witness.whole_lease(), 5 * SECOND);
    }
}
