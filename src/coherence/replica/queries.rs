//! The queries of a replica.

use std::sync::Arc;

use super::super::calls::FetchedDataset;
use super::super::entry_fence::EntryFence;
use super::super::epoch_age::EpochAge;
use super::super::guards::Guard;
use super::super::protocol::{Fence, Moment};
use super::{Replica, StartPoint};

/// The queries of a read.
impl Replica {
    /// Whether memory may answer at `now`, a moment no earlier than the request came.
    pub fn may_serve(&self, now: Moment) -> bool {
        self.newer_protocol.is_none() && self.lease.holds(now)
    }

    /// Whether a dataset in memory is valid.
    pub fn is_valid(&self, fence: EntryFence, key: &str, tags: &[Arc<str>]) -> bool {
        fence.generation == self.generation && self.stamps.is_valid(fence.fence.seq, key, tags)
    }

    /// The start point of a flight that begins now: entries up to it cannot outdate the flight.
    pub fn start_point(&self) -> StartPoint {
        StartPoint {
            generation: self.generation,
            epoch: self.epoch,
            seq: self.follower.applied(),
            debts_paid: self.debts_paid(),
        }
    }

    /// Whether a caller that came at `now` may join a flight that began before.
    pub fn may_join(&self, start: StartPoint, key: &str, now: Moment) -> bool {
        let has_lease = Guard::S6JoinNeedsLease.requires(self.may_serve(now));
        let is_current =
            self.is_of_current_generation(start) && self.stamps.is_flight_valid(start.seq, key);
        has_lease && Guard::S6JoinOutdated.requires(is_current)
    }

    /// Whether the dataset that a flight collected may be kept in memory at `now`, and the entry
    /// fence that it shall carry.
    pub fn may_store(
        &self,
        start: StartPoint,
        key: &str,
        tags: &[Arc<str>],
        now: Moment,
    ) -> Option<EntryFence> {
        self.entry_fence(start, start.fence()?, key, tags, now)
    }

    /// The same for a dataset that a flight read from Redis: it is as new as the place up to which
    /// Redis confirmed it, not as old as its own fence.
    pub fn may_store_fetched(
        &self,
        start: StartPoint,
        key: &str,
        fetched: &FetchedDataset,
        now: Moment,
    ) -> Option<EntryFence> {
        let is_same_epoch = start.epoch == Some(fetched.valid_up_to.epoch);
        self.entry_fence(start, fetched.valid_up_to, key, &fetched.dataset.tags, now)
            .filter(|_| is_same_epoch)
    }

    /// Whether an applied entry outdates a dataset from Redis: the stamps in Redis may have been
    /// tampered with, those of the replica have not.
    pub fn has_outdated(&self, key: &str, fetched: &FetchedDataset) -> bool {
        let FetchedDataset { valid_up_to, dataset, .. } = fetched;
        let is_beyond =
            dataset.fence.seq > valid_up_to.seq || dataset.fence.epoch != valid_up_to.epoch;
        let is_outdated = || self.stamps.is_outdated(dataset.fence.seq, key, &dataset.tags);
        is_beyond || self.epoch == Some(valid_up_to.epoch) && is_outdated()
    }

    /// Whether the invalidation that a token names is applied.
    pub fn has_applied(&self, token: Fence) -> bool {
        self.epoch == Some(token.epoch) && self.follower.applied() >= token.seq
    }

    pub(super) fn entry_fence(
        &self,
        start: StartPoint,
        fence: Fence,
        key: &str,
        tags: &[Arc<str>],
        now: Moment,
    ) -> Option<EntryFence> {
        let seq = Guard::S5Fence.prescribes(fence.seq, self.follower.applied());
        let entry_fence = EntryFence { generation: self.generation, fence: Fence { seq, ..fence } };
        (self.may_serve(now)
            && self.is_of_current_generation(start)
            && self.stamps.is_valid(seq, key, tags))
        .then_some(entry_fence)
    }

    /// Whether memory has not been emptied since the flight began.
    pub(super) fn is_of_current_generation(&self, start: StartPoint) -> bool {
        Guard::S5EmptiedMemory.requires(start.generation == self.generation)
    }
}

/// The state for the owner and for `GET /status`.
impl Replica {
    /// The place in the log up to which everything is applied, if it follows one.
    pub fn applied(&self) -> Option<Fence> {
        self.start_point().fence()
    }

    /// How many entries were published and are not applied yet.
    pub fn lag(&self) -> u64 {
        self.follower.newest_heard() - self.follower.applied()
    }

    /// Until when its lease holds.
    pub fn lease_until(&self) -> Option<Moment> {
        self.lease.until()
    }

    /// The protocol of the log, if it is newer: then the replica takes no part.
    pub fn newer_protocol(&self) -> Option<u32> {
        self.newer_protocol
    }

    /// The age of the epoch, for invalidations that this process issues.
    pub fn epoch_age(&mut self) -> &mut EpochAge {
        &mut self.epoch_age
    }

    /// When the next [`ReplicaEvent::Tick`](super::ReplicaEvent::Tick) is due.
    pub fn next_wake(&self) -> Moment {
        if self.is_stopped { Moment::NEVER } else { self.schedule.next_wake(&self.config) }
    }
}
