//! Following the log: entries come twice, late, out of order or not at all, and are applied once each, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::guards::{Guard, Guards};
use super::words::{Entry, Scope, Seq};

/// The place in one log up to which everything is applied, and what came ahead of its turn.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    applied: Seq,
    /// The highest `seq` heard of, applied or not.
    heard: Seq,
    early: BTreeMap<Seq, Arc<[Scope]>>,
    early_max: usize,
    guards: Guards,
}

impl Follower {
    pub(super) fn new(early_max: usize, guards: Guards) -> Self {
        Self { applied: 0, heard: 0, early: BTreeMap::new(), early_max, guards }
    }

    /// Stands at `seq` from now on: nothing before it matters any more.
    pub(super) fn jump(&mut self, seq: Seq) {
        self.applied = seq;
        self.heard = self.heard.max(seq);
        self.early = self.early.split_off(&(seq + 1));
    }

    /// The same in another log.
    pub(super) fn restart(&mut self, seq: Seq) {
        *self = Self { applied: seq, heard: seq, ..Self::new(self.early_max, self.guards) };
    }

    pub(super) fn applied(&self) -> Seq {
        self.applied
    }

    pub(super) fn heard(&self) -> Seq {
        self.heard
    }

    /// Hears that the log reaches to `seq`.
    pub(super) fn hear_of(&mut self, seq: Seq) {
        self.heard = self.heard.max(seq);
    }

    /// Whether something that was heard of is not applied yet.
    pub(super) fn behind(&self) -> bool {
        self.applied < self.heard
    }

    /// Takes an entry as it comes. The next one always fits; of those ahead of their turn, what is beyond the bound is
    /// dropped. It stays heard of, so the log will be read.
    pub(super) fn take(&mut self, entry: Entry) {
        self.hear_of(entry.seq);
        let fits = entry.seq == self.applied + 1 || self.early.len() < self.early_max;
        if entry.seq > self.applied && fits {
            self.early.insert(entry.seq, entry.scopes);
        }
    }

    /// The next entry to apply, if it is there.
    pub(super) fn next(&mut self) -> Option<Entry> {
        let first = self.early.first_entry()?;
        if *first.key() != self.applied + 1 && self.guards.hold(Guard::Gap) {
            return None;
        }
        let (seq, scopes) = first.remove_entry();
        self.applied = seq;
        Some(Entry { seq, scopes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: Seq) -> Entry {
        Entry { seq, scopes: Arc::new([Scope::All]) }
    }

    fn applied(follower: &mut Follower, seqs: &[Seq]) -> Vec<Seq> {
        for &seq in seqs {
            follower.take(entry(seq));
        }
        std::iter::from_fn(|| follower.next()).map(|entry| entry.seq).collect()
    }

    #[test]
    fn entries_that_come_twice_and_out_of_order_are_applied_once_in_order() {
        let mut follower = Follower::new(8, Guards::default());
        assert_eq!(applied(&mut follower, &[2, 3, 2]), [] as [Seq; 0]);
        assert!(follower.behind());
        assert_eq!(applied(&mut follower, &[1, 1, 3, 5]), [1, 2, 3]);
        assert_eq!((follower.applied(), follower.heard()), (3, 5));
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_still_known_to_be_missing() {
        let mut follower = Follower::new(1, Guards::default());
        assert_eq!(applied(&mut follower, &[3, 2]), [] as [Seq; 0]);
        assert_eq!(applied(&mut follower, &[1]), [1], "2 was dropped");
        assert_eq!(applied(&mut follower, &[2]), [2, 3]);
        assert!(!follower.behind());
    }

    #[test]
    fn a_jump_keeps_only_what_lies_ahead() {
        let mut follower = Follower::new(8, Guards::default());
        follower.take(entry(2));
        follower.take(entry(5));
        follower.jump(4);
        assert_eq!(applied(&mut follower, &[]), [5]);
    }
}
