//! The lease: until when a sidecar may answer from memory without another reply from Redis.
//!
//! A heartbeat's reply renews the lease until a moment counted from when that heartbeat was *sent*,
//! but only once everything up to the `seq` in the reply is applied. Until then the renewal is
//! pending.

use std::collections::VecDeque;

use super::guards::Guard;
use super::protocol::{Moment, Seq};

/// The most pending renewals; a further one replaces the youngest.
const PENDING_RENEWALS_MAX: usize = 8;

/// A sidecar's lease, and the pending renewals.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Lease {
    until: Option<Moment>,
    pending_renewals: VecDeque<PendingRenewal>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PendingRenewal {
    seq: Seq,
    until: Moment,
}

impl Lease {
    /// The lease of a fleet of one, which never ends.
    pub(super) fn forever() -> Self {
        Self { until: Some(Moment::NEVER), ..Self::default() }
    }

    /// Adds a renewal: the lease holds until `until` once `seq` is applied.
    pub(super) fn add_renewal(&mut self, seq: Seq, until: Moment) {
        if self.pending_renewals.len() == PENDING_RENEWALS_MAX {
            self.pending_renewals.pop_back();
        }
        self.pending_renewals.push_back(PendingRenewal { seq, until });
    }

    /// Renews the lease by all pending renewals that waited for `applied` or less.
    pub(super) fn apply_renewals(&mut self, applied: Seq) {
        let until = &mut self.until;
        self.pending_renewals.retain(|renewal| {
            let is_due = Guard::S3LeaseAfterApplied.requires(renewal.seq <= applied);
            if is_due {
                *until = (*until).max(Some(renewal.until));
            }
            !is_due
        });
    }

    /// Whether it holds at `now`.
    pub(super) fn holds(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| Guard::S4Lease.requires(now < until))
    }

    /// Until when it holds without another renewal.
    pub(super) fn until(&self) -> Option<Moment> {
        self.until
    }

    /// Ends it, and drops all pending renewals.
    pub(super) fn give_up(&mut self) {
        self.until = None;
        self.pending_renewals.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_origin(Duration::from_millis(millis))
    }

    #[test]
    fn a_renewal_counts_once_everything_it_told_is_applied() {
        let mut lease = Lease::default();
        lease.add_renewal(3, at(10));
        lease.apply_renewals(2);
        assert!(!lease.holds(at(0)));
        lease.apply_renewals(3);
        assert!(lease.holds(at(9)) && !lease.holds(at(10)));
    }

    #[test]
    fn a_late_reply_never_shortens_the_lease() {
        let mut lease = Lease::default();
        lease.add_renewal(1, at(20));
        lease.add_renewal(1, at(10));
        lease.apply_renewals(1);
        assert_eq!(lease.until(), Some(at(20)));
    }

    #[test]
    fn renewals_that_never_come_due_do_not_pile_up() {
        let mut lease = Lease::default();
        (1..100).for_each(|seq| lease.add_renewal(seq, at(seq)));
        assert_eq!(lease.pending_renewals.len(), PENDING_RENEWALS_MAX);
        lease.apply_renewals(1);
        assert!(lease.holds(at(0)), "the oldest renewal, the first that comes due, is among them");
    }
}
