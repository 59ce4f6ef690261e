//! Following the log: entries come twice, late, out of order or not at all, and are applied once
//! each, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::guards::{Guard, Guards};
use super::words::{Entry, Scope, Seq};

/// The place in one log up to which everything is applied, and what came ahead of its turn.
///
/// News name entries before anybody knows that the log has them: pub/sub is anybody's who may
/// publish. Such an entry is worth one reading of the log. Where the log ends before it, it is
/// forgotten, and until the next heartbeat is answered no further news are worth a reading.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    applied: Seq,
    /// The highest `seq` heard of, applied or not.
    heard: Seq,
    /// The highest `seq` that the log itself has named.
    confirmed: Seq,
    /// The highest `seq` heard of since the log was last asked.
    heard_since_asked: Seq,
    /// The log ended before what was heard of, and no heartbeat was answered since.
    doubts_news: bool,
    early: BTreeMap<Seq, Arc<[Scope]>>,
    early_max: usize,
    guards: Guards,
}

impl Follower {
    pub(super) fn new(early_max: usize, guards: Guards) -> Self {
        Self {
            applied: 0,
            heard: 0,
            confirmed: 0,
            heard_since_asked: 0,
            doubts_news: false,
            early: BTreeMap::new(),
            early_max,
            guards,
        }
    }

    /// Stands at `seq`, where the log ended, from now on: nothing before it matters any more.
    pub(super) fn jump(&mut self, seq: Seq) {
        self.applied = seq;
        self.confirmed = self.confirmed.max(seq);
        self.heard = self.heard.max(seq);
        self.early = self.early.split_off(&(seq + 1));
    }

    /// The same in another log.
    pub(super) fn restart(&mut self, seq: Seq) {
        let new = Self::new(self.early_max, self.guards);
        *self = Self { applied: seq, heard: seq, confirmed: seq, ..new };
    }

    pub(super) fn applied(&self) -> Seq {
        self.applied
    }

    pub(super) fn heard(&self) -> Seq {
        self.heard
    }

    /// A heartbeat's reply says that the log reaches to `seq`.
    pub(super) fn confirm(&mut self, seq: Seq) {
        self.confirmed = self.confirmed.max(seq);
        self.heard = self.heard.max(seq);
        self.doubts_news = false;
    }

    /// The log is about to be asked for what comes after the place of now.
    pub(super) fn asks_log(&mut self) {
        self.heard_since_asked = 0;
    }

    /// The log, asked for what comes after a place, said that nothing does: what was heard of
    /// before it was asked is not in it, unless it was applied meanwhile.
    pub(super) fn reached_end(&mut self) {
        let end = self.applied.max(self.confirmed).max(self.heard_since_asked);
        self.doubts_news |= self.heard > self.applied.max(self.confirmed);
        self.heard = end;
        self.early.split_off(&end.saturating_add(1));
    }

    /// Whether something that was heard of is not applied yet, and worth a reading of the log.
    pub(super) fn behind(&self) -> bool {
        self.applied < if self.doubts_news { self.confirmed } else { self.heard }
    }

    /// Takes an entry as it comes. The next one always fits; of those ahead of their turn, what is
    /// beyond the bound is dropped. It stays heard of, so the log will be read.
    pub(super) fn take(&mut self, entry: Entry) {
        self.heard = self.heard.max(entry.seq);
        self.heard_since_asked = self.heard_since_asked.max(entry.seq);
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
    fn news_of_what_the_log_does_not_have_are_worth_one_reading_until_a_heartbeat_is_answered() {
        let mut follower = Follower::new(8, Guards::default());
        assert_eq!(applied(&mut follower, &[1, Seq::MAX]), [1]);
        assert!(follower.behind());
        follower.asks_log();
        follower.reached_end();
        assert!(!follower.behind() && follower.heard() == 1, "forgotten");
        assert_eq!(applied(&mut follower, &[7, Seq::MAX]), [] as [Seq; 0]);
        assert!(!follower.behind(), "no further reading for further news");
        assert_eq!(applied(&mut follower, &[2]), [2], "what comes next is applied all the same");
        follower.confirm(4);
        assert!(follower.behind());
    }

    #[test]
    fn an_end_of_the_log_says_nothing_of_what_was_heard_of_after_it_was_asked() {
        let mut follower = Follower::new(8, Guards::default());
        assert_eq!(applied(&mut follower, &[2]), [] as [Seq; 0]);
        follower.asks_log();
        assert_eq!(applied(&mut follower, &[3]), [] as [Seq; 0]);
        follower.reached_end();
        assert_eq!(follower.heard(), 3);
        follower.confirm(3);
        assert!(follower.behind());
        assert_eq!(applied(&mut follower, &[1]), [1, 2, 3]);
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
