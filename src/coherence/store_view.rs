//! What a replica knows of its store, and what it owes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::protocol::{Fence, InvalidationScope, Moment, SCOPES_MAX, Seq};
use super::store_calls::{StoreCall, StoreFence, StoreId, StoreReading};

/// A call that keeps the store up to date.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreStep {
    /// Call the store.
    Call(StoreCall),
    /// Read the log of Redis after this place.
    ReadLog(Fence),
}

/// What is known of the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct StoreView {
    pub(super) id: StoreId,
    /// The newest fence that the store gave.
    pub(super) fence: Option<StoreFence>,
    /// Up to where the store is known to hold the stamps of the replica's epoch.
    pub(super) mark: Option<Seq>,
    /// The highest mark of the epoch that Redis was told.
    pub(super) told: Seq,
    /// What was applied in epochs that are over and not seen stamped, each with the generation that
    /// began as its epoch ended.
    debt: BTreeMap<InvalidationScope, u64>,
    /// How many times a debt was paid: what was read before that was read without the stamps.
    pub(super) debts_paid: u64,
    /// The store has gone back, and is to be brought into its present life.
    pub(super) has_gone_back: bool,
    /// The mark was found behind: the entries above it are to be carried.
    pub(super) is_carry_due: bool,
    /// Since when the mark is behind.
    pub(super) behind_since: Option<Moment>,
    /// The step that is to be taken next, before all others.
    pub(super) next: Option<StoreStep>,
    /// The step whose reply is awaited: when it was taken, and in which generation.
    pub(super) awaited: Option<AwaitedStep>,
}

/// A step whose reply is awaited.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct AwaitedStep {
    pub(super) sent: Moment,
    pub(super) generation: u64,
    pub(super) step: StoreStep,
}

impl StoreView {
    /// Nothing is known, and nothing owed.
    pub(super) const fn new(id: StoreId) -> Self {
        Self {
            id,
            fence: None,
            mark: None,
            told: 0,
            debt: BTreeMap::new(),
            debts_paid: 0,
            has_gone_back: false,
            is_carry_due: false,
            behind_since: None,
            next: None,
            awaited: None,
        }
    }

    /// Begins to follow another epoch: what `applied` names in the one before is owed.
    pub(super) fn enter_epoch(&mut self, applied: Vec<InvalidationScope>, generation: u64) {
        self.debt.extend(applied.into_iter().map(|scope| (scope, generation)));
        if self.debt.len() > SCOPES_MAX {
            self.debt = [(InvalidationScope::All, generation)].into();
        }
        (self.mark, self.told, self.behind_since) = (None, 0, None);
        (self.is_carry_due, self.next, self.awaited) = (false, None, None);
    }

    /// The debt of a generation is paid.
    pub(super) fn pay_debt(&mut self, generation: u64) {
        let before = self.debt.len();
        self.debt.retain(|_, since| *since > generation);
        self.debts_paid += u64::from(self.debt.len() < before);
    }

    pub(super) fn is_in_debt(&self) -> bool {
        !self.debt.is_empty()
    }

    pub(super) fn debt(&self) -> impl Iterator<Item = &InvalidationScope> {
        self.debt.keys()
    }

    /// Whether something owed names a dataset.
    pub(super) fn owes(&self, key: &str, tags: &[Arc<str>]) -> bool {
        self.debt.keys().any(|scope| match scope {
            InvalidationScope::All => true,
            InvalidationScope::Key(name) => **name == *key,
            InvalidationScope::Tag(tag) => tags.contains(tag),
        })
    }

    /// The mark could not be moved: a further attempt is due in a while.
    pub(super) fn pause_carry(&mut self, now: Moment) {
        (self.is_carry_due, self.behind_since) = (false, Some(now));
    }

    /// Takes a mark that was read, of the replica's epoch.
    pub(super) fn see_mark(&mut self, mark: Seq) {
        self.mark = self.mark.max(Some(mark));
    }

    /// Takes the newest fence, by the database's time.
    pub(super) fn see_fence(&mut self, reading: &StoreReading) {
        if self.fence.is_none_or(|fence| fence.time < reading.fence.time) {
            self.fence = Some(reading.fence);
        }
    }
}
