//! Follows the log: entries arrive twice, late, out of order or not at all, and are applied once
//! each, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::guards::Guard;
use super::protocol::{InvalidationScope, LogEntry, Seq};

/// The place in one log up to which everything is applied, and the entries that arrived early.
///
/// Published entries are unconfirmed until the log itself has named their `seq`, because other
/// programs may publish on the channel too. An unconfirmed entry that is missing causes one reading
/// of the log. If the log ends before it, it is forgotten, and no further unconfirmed entry causes
/// a reading until the next heartbeat is answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LogFollower {
    applied: Seq,
    /// The highest `seq` received, applied or not.
    newest_heard: Seq,
    /// The highest `seq` that the log itself has named.
    confirmed_end: Seq,
    /// The highest `seq` received since the last reading of the log was sent.
    heard_since_read: Seq,
    /// Whether the log ended before an unconfirmed entry, and no heartbeat was answered since.
    distrusts_unconfirmed: bool,
    early_entries: BTreeMap<Seq, Arc<[InvalidationScope]>>,
    early_entries_max: usize,
}

impl LogFollower {
    pub(super) fn new(early_entries_max: usize) -> Self {
        Self {
            applied: 0,
            newest_heard: 0,
            confirmed_end: 0,
            heard_since_read: 0,
            distrusts_unconfirmed: false,
            early_entries: BTreeMap::new(),
            early_entries_max,
        }
    }

    /// Continues at `seq`, the log's end: entries before it are skipped.
    pub(super) fn skip_to(&mut self, seq: Seq) {
        self.applied = seq;
        self.confirmed_end = self.confirmed_end.max(seq);
        self.newest_heard = self.newest_heard.max(seq);
        self.early_entries = self.early_entries.split_off(&(seq + 1));
    }

    /// The same in another log.
    pub(super) fn restart_at(&mut self, seq: Seq) {
        let new = Self::new(self.early_entries_max);
        *self = Self { applied: seq, newest_heard: seq, confirmed_end: seq, ..new };
    }

    pub(super) fn applied(&self) -> Seq {
        self.applied
    }

    pub(super) fn newest_heard(&self) -> Seq {
        self.newest_heard
    }

    /// Takes the log's end from a heartbeat's reply.
    pub(super) fn confirm(&mut self, seq: Seq) {
        self.confirmed_end = self.confirmed_end.max(seq);
        self.newest_heard = self.newest_heard.max(seq);
        self.distrusts_unconfirmed = false;
    }

    /// Notes that a reading of the log after the applied place is sent.
    pub(super) fn on_log_read_sent(&mut self) {
        self.heard_since_read = 0;
    }

    /// Takes an empty reading of the log: entries that were received before the reading was sent
    /// are not in the log, unless they were applied meanwhile.
    pub(super) fn on_log_end(&mut self) {
        let end = self.applied.max(self.confirmed_end).max(self.heard_since_read);
        self.distrusts_unconfirmed |= self.newest_heard > self.applied.max(self.confirmed_end);
        self.newest_heard = end;
        self.early_entries.split_off(&end.saturating_add(1));
    }

    /// Whether an entry that was received is not applied yet, and may cause a reading of the log.
    pub(super) fn is_behind(&self) -> bool {
        self.applied
            < if self.distrusts_unconfirmed { self.confirmed_end } else { self.newest_heard }
    }

    /// Adds an entry as it arrives. The next one always fits; early entries beyond the bound are
    /// dropped. Their `seq` is noted, so the log will be read.
    pub(super) fn add_entry(&mut self, entry: LogEntry) {
        self.newest_heard = self.newest_heard.max(entry.seq);
        self.heard_since_read = self.heard_since_read.max(entry.seq);
        let fits =
            entry.seq == self.applied + 1 || self.early_entries.len() < self.early_entries_max;
        if entry.seq > self.applied && fits {
            self.early_entries.insert(entry.seq, entry.scopes);
        }
    }

    /// Takes out the next entry to apply, if it has arrived.
    pub(super) fn pop_next(&mut self) -> Option<LogEntry> {
        let first = self.early_entries.first_entry()?;
        let is_next = *first.key() == self.applied + 1;
        if !Guard::S1InOrder.requires(is_next) {
            return None;
        }
        let (seq, scopes) = first.remove_entry();
        self.applied = seq;
        Some(LogEntry { seq, scopes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: Seq) -> LogEntry {
        LogEntry { seq, scopes: Arc::new([InvalidationScope::All]) }
    }

    fn applied(follower: &mut LogFollower, seqs: &[Seq]) -> Vec<Seq> {
        for &seq in seqs {
            follower.add_entry(entry(seq));
        }
        std::iter::from_fn(|| follower.pop_next()).map(|entry| entry.seq).collect()
    }

    #[test]
    fn entries_that_come_twice_and_out_of_order_are_applied_once_in_order() {
        let mut follower = LogFollower::new(8);
        assert_eq!(applied(&mut follower, &[2, 3, 2]), [] as [Seq; 0]);
        assert!(follower.is_behind());
        assert_eq!(applied(&mut follower, &[1, 1, 3, 5]), [1, 2, 3]);
        assert_eq!((follower.applied(), follower.newest_heard()), (3, 5));
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_still_known_to_be_missing() {
        let mut follower = LogFollower::new(1);
        assert_eq!(applied(&mut follower, &[3, 2]), [] as [Seq; 0]);
        assert_eq!(applied(&mut follower, &[1]), [1], "2 was dropped");
        assert_eq!(applied(&mut follower, &[2]), [2, 3]);
        assert!(!follower.is_behind());
    }

    #[test]
    fn news_of_what_the_log_does_not_have_are_worth_one_reading_until_a_heartbeat_is_answered() {
        let mut follower = LogFollower::new(8);
        assert_eq!(applied(&mut follower, &[1, Seq::MAX]), [1]);
        assert!(follower.is_behind());
        follower.on_log_read_sent();
        follower.on_log_end();
        assert!(!follower.is_behind() && follower.newest_heard() == 1, "forgotten");
        assert_eq!(applied(&mut follower, &[7, Seq::MAX]), [] as [Seq; 0]);
        assert!(!follower.is_behind(), "no further reading for further news");
        assert_eq!(applied(&mut follower, &[2]), [2], "what comes next is applied all the same");
        follower.confirm(4);
        assert!(follower.is_behind());
    }

    #[test]
    fn an_end_of_the_log_says_nothing_of_what_was_heard_of_after_it_was_asked() {
        let mut follower = LogFollower::new(8);
        assert_eq!(applied(&mut follower, &[2]), [] as [Seq; 0]);
        follower.on_log_read_sent();
        assert_eq!(applied(&mut follower, &[3]), [] as [Seq; 0]);
        follower.on_log_end();
        assert_eq!(follower.newest_heard(), 3);
        follower.confirm(3);
        assert!(follower.is_behind());
        assert_eq!(applied(&mut follower, &[1]), [1, 2, 3]);
    }

    #[test]
    fn a_jump_keeps_only_what_lies_ahead() {
        let mut follower = LogFollower::new(8);
        follower.add_entry(entry(2));
        follower.add_entry(entry(5));
        follower.skip_to(4);
        assert_eq!(applied(&mut follower, &[]), [5]);
    }
}
