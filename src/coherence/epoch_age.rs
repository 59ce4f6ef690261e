//! How long one process has known the log's epoch, and the longest lease that it ever received in a
//! reply.
//!
//! The registry of a young epoch may be incomplete: a sidecar that still holds a lease of the epoch
//! before is not in it. Once a process has known an epoch for the whole lease, all such leases have
//! ended, and it may mark the epoch as settled.

use std::time::Duration;

use super::protocol::{Epoch, LEASE_MAX, Moment};

/// The epoch that one process knows and since when. A sidecar keeps it for as long as it lives; so
/// does a command that invalidates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EpochAge {
    longest_lease: Duration,
    grace: Duration,
    known_since: Option<(Epoch, Moment)>,
}

impl EpochAge {
    /// Knows no epoch yet, and of leases only its own.
    pub const fn new(lease: Duration, grace: Duration) -> Self {
        Self { longest_lease: lease, grace, known_since: None }
    }

    /// Takes a reply at `now`, which has the epoch and the longest lease registered. A lease over
    /// [`LEASE_MAX`] is ignored.
    pub fn on_reply(&mut self, epoch: Epoch, longest_lease: Duration, now: Moment) {
        if longest_lease <= LEASE_MAX {
            self.longest_lease = self.longest_lease.max(longest_lease);
        }
        if self.known_since.is_none_or(|(known, _)| known != epoch) {
            self.known_since = Some((epoch, now));
        }
    }

    /// The time that a deposed primary may go on answering.
    pub(super) const fn grace(&self) -> Duration {
        self.grace
    }

    /// The longest lease that was received, plus the time that a deposed primary may go on
    /// answering.
    pub(super) const fn whole_lease(&self) -> Duration {
        self.longest_lease.saturating_add(self.grace)
    }

    /// Whether the process has known `epoch` for the whole lease.
    pub(super) fn is_known_for_whole_lease(&self, epoch: Epoch, now: Moment) -> bool {
        self.known_since
            .is_some_and(|(known, since)| known == epoch && now.since(since) >= self.whole_lease())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_epoch_that_comes_back_is_young_again() {
        let mut epoch_age = EpochAge::new(SECOND, SECOND);
        let start = Moment::default();
        epoch_age.on_reply(Epoch(1), SECOND, start);
        assert!(
            !epoch_age.is_known_for_whole_lease(Epoch(1), start.after(SECOND))
                && epoch_age.is_known_for_whole_lease(Epoch(1), start.after(2 * SECOND))
        );
        epoch_age.on_reply(Epoch(2), SECOND, start.after(SECOND));
        epoch_age.on_reply(Epoch(1), SECOND, start.after(SECOND));
        assert!(!epoch_age.is_known_for_whole_lease(Epoch(1), start.after(2 * SECOND)));
    }

    #[test]
    fn a_lease_that_no_sidecar_can_have_is_ignored() {
        let mut epoch_age = EpochAge::new(SECOND, Duration::ZERO);
        epoch_age.on_reply(Epoch(1), LEASE_MAX + SECOND, Moment::default());
        assert_eq!(epoch_age.whole_lease(), SECOND);
        epoch_age.on_reply(Epoch(1), LEASE_MAX, Moment::default());
        assert_eq!(epoch_age.whole_lease(), LEASE_MAX);
    }

    #[test]
    fn a_longer_lease_once_heard_of_is_never_forgotten() {
        let mut epoch_age = EpochAge::new(SECOND, Duration::ZERO);
        epoch_age.on_reply(Epoch(1), 5 * SECOND, Moment::default());
        epoch_age.on_reply(Epoch(2), SECOND, Moment::default());
        assert_eq!(epoch_age.whole_lease(), 5 * SECOND);
    }
}
