//! Which stores have an invalidation, and whether Redis has answered in its epoch since: whatever
//! begins after that epoch reads them with the stamps.

use std::collections::BTreeMap;
use std::time::Duration;

use super::calls::IssuedInvalidation;
use super::guards::Guard;
use super::protocol::{Moment, Seq};
use super::store_calls::{StoreId, StoreMark};

/// The stores that must have an invalidation: those of the registry, and the invalidator's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct StoreProgress {
    stores: BTreeMap<StoreId, Option<StampedSince>>,
    own: Option<StoreId>,
    /// When the latest call was sent that Redis answered in the invalidation's epoch.
    answered_call: Option<Moment>,
}

/// Since when a store is known to have an invalidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct StampedSince {
    /// A call that is sent now, or later, reaches Redis after the stamp was committed.
    at: Moment,
    /// Where the news came from Redis: when that call was sent, whose answer proves the same of
    /// itself.
    told_in: Option<Moment>,
}

impl StoreProgress {
    /// The stores that the reply to the invalidation named.
    pub(super) fn new(issued: &IssuedInvalidation) -> Self {
        let mut new = Self { stores: BTreeMap::new(), own: None, answered_call: None };
        new.add_registered(&issued.stores);
        new
    }

    pub(super) fn add_own(&mut self, id: StoreId) {
        self.stores.entry(id.clone()).or_default();
        self.own = Some(id);
    }

    fn add_registered(&mut self, stores: &[StoreMark]) {
        Guard::D8Stores.demands(|| {
            for store in stores {
                self.stores.entry(store.id.clone()).or_default();
            }
        });
    }

    pub(super) fn on_stamped(&mut self, now: Moment) {
        let own = self.own.as_ref().and_then(|id| self.stores.get_mut(id));
        own.map(|since| since.get_or_insert(StampedSince { at: now, told_in: None }));
    }

    /// Takes an answer in the invalidation's own epoch, which has the marks of the stores.
    pub(super) fn on_reply(&mut self, seq: Seq, sent: Moment, now: Moment, stores: &[StoreMark]) {
        self.answered_call = self.answered_call.max(Some(sent));
        self.add_registered(stores);
        for store in stores.iter().filter(|store| store.mark >= seq) {
            let since = self.stores.get_mut(&store.id);
            let told = StampedSince { at: now, told_in: Some(sent) };
            since.map(|since| since.get_or_insert(told));
        }
    }

    /// The stores that are not known to have it.
    pub(super) fn missing(&self) -> Vec<StoreId> {
        let missing = self.stores.iter().filter(|(_, since)| since.is_none());
        missing.map(|(id, _)| id.clone()).collect()
    }

    /// Whether every store has it, and Redis has answered in its epoch a call that was sent after
    /// that. A deposed primary may have answered, for as long as the grace.
    pub(super) fn have_it_in_its_epoch(&self, grace: Duration) -> bool {
        let grace = Guard::D8Grace.prescribes(grace, Duration::ZERO);
        self.stores.values().all(|since| {
            since.is_some_and(|StampedSince { at, told_in }| {
                let since = told_in.filter(|_| grace.is_zero()).unwrap_or(at);
                let is_answered = self.answered_call >= Some(since.after(grace));
                Guard::D8OwnEpoch.requires(is_answered)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{Epoch, Fence};
    use super::*;

    const SEQ: Seq = 7;

    fn at(seconds: u64) -> Moment {
        Moment::from_origin(Duration::from_secs(seconds))
    }

    fn mark(id: &str, mark: Seq) -> StoreMark {
        StoreMark { id: StoreId(id.into()), mark }
    }

    fn progress(stores: &[StoreMark]) -> StoreProgress {
        StoreProgress::new(&IssuedInvalidation {
            token: Fence { epoch: Epoch(1), seq: SEQ },
            longest_lease: Duration::ZERO,
            settled: true,
            registered_members: 1,
            stores: stores.to_vec(),
        })
    }

    fn is_known(progress: &StoreProgress) -> bool {
        progress.have_it_in_its_epoch(Duration::ZERO)
    }

    #[test]
    fn without_a_store_there_is_nothing_to_wait_for() {
        assert!(is_known(&progress(&[])));
    }

    #[test]
    fn every_store_of_the_registry_has_to_have_it() {
        let mut stores = progress(&[mark("a", SEQ - 1)]);
        stores.on_reply(SEQ, at(1), at(2), &[mark("a", SEQ), mark("b", SEQ - 1)]);
        assert_eq!(stores.missing(), [StoreId("b".into())]);
        assert!(!is_known(&stores));
        stores.on_reply(SEQ, at(2), at(3), &[mark("b", SEQ)]);
        assert!(is_known(&stores), "an answer with the mark was given after the stamp");
    }

    #[test]
    fn redis_has_to_answer_what_was_asked_after_the_own_store_was_stamped() {
        let mut stores = progress(&[]);
        stores.add_own(StoreId("a".into()));
        stores.on_reply(SEQ, at(1), at(3), &[]);
        stores.on_stamped(at(2));
        assert!(!is_known(&stores), "that was asked before");
        stores.on_reply(SEQ, at(2), at(3), &[]);
        assert!(is_known(&stores));
    }

    #[test]
    fn a_deposed_primary_may_have_answered_for_the_grace() {
        let grace = Duration::from_secs(5);
        let mut stores = progress(&[]);
        stores.on_reply(SEQ, at(1), at(2), &[mark("a", SEQ)]);
        stores.on_reply(SEQ, at(6), at(7), &[mark("a", SEQ)]);
        assert!(is_known(&stores) && !stores.have_it_in_its_epoch(grace));
        stores.on_reply(SEQ, at(7), at(8), &[mark("a", SEQ)]);
        assert!(stores.have_it_in_its_epoch(grace));
    }
}
