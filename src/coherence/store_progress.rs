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
