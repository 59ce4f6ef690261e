//! What may be asked of a sidecar's state.

use std::sync::Arc;

use super::super::calls::Fetched;
use super::super::guards::Guard;
use super::super::mark::Mark;
use super::super::witness::Witness;
use super::super::words::{Fence, Moment};
use super::{Sidecar, Start};

/// The questions of a read.
impl Sidecar {
    /// Whether memory may answer at `now`, a moment no earlier than the request came.
    pub fn may_serve(&self, now: Moment) -> bool {
        !self.stopped && self.newer.is_none() && self.lease.holds(now)
    }

    /// Whether a dataset in memory is believed.
    pub fn believes(&self, mark: Mark, key: &str, tags: &[Arc<str>]) -> bool {
        mark.generation == self.generation && self.stamps.believe(mark.fence.seq, key, tags)
    }

    /// Begins a flight: the place up to which invalidations cannot harm it.
    pub fn begin(&self) -> Start {
        Start { generation: self.generation, epoch: self.epoch, seq: self.follower.applied() }
    }

    /// Whether a caller who came at `now` may join a flight that began before.
    pub fn may_join(&self, start: Start, key: &str, now: Moment) -> bool {
        let lease = self.may_serve(now) || !self.config.guards.hold(Guard::Join);
        let current = self.in_time(start) && self.stamps.believe_in_the_air(start.seq, key);
        lease && (current || !self.config.guards.hold(Guard::JoinOutdated))
    }

    /// Whether what a flight collected may be kept in memory at `now`, and the mark that it shall
    /// carry.
    pub fn may_store(
        &self,
        start: Start,
        key: &str,
        tags: &[Arc<str>],
        now: Moment,
    ) -> Option<Mark> {
        self.mark(start, start.fence()?, key, tags, now)
    }

    /// The same for what a flight read from Redis: it is as new as Redis vouched for, not as old as
    /// its own fence.
    pub fn may_store_fetched(
        &self,
        start: Start,
        key: &str,
        fetched: &Fetched,
        now: Moment,
    ) -> Option<Mark> {
        let same = start.epoch == Some(fetched.vouched.epoch);
        self.mark(start, fetched.vouched, key, &fetched.dataset.tags, now).filter(|_| same)
    }

    /// Whether an entry that it applied outdates what Redis handed out: Redis's stamps may have
    /// been tampered with, its own have not.
    pub fn outdates(&self, key: &str, fetched: &Fetched) -> bool {
        let Fetched { vouched, dataset, .. } = fetched;
        let is_beyond = dataset.fence.seq > vouched.seq || dataset.fence.epoch != vouched.epoch;
        let is_outdated = || self.stamps.outdates(dataset.fence.seq, key, &dataset.tags);
        is_beyond || self.epoch == Some(vouched.epoch) && is_outdated()
    }

    /// Whether it has applied the invalidation that a token names.
    pub fn has_applied(&self, token: Fence) -> bool {
        self.epoch == Some(token.epoch) && self.follower.applied() >= token.seq
    }

    pub(super) fn mark(
        &self,
        start: Start,
        fence: Fence,
        key: &str,
        tags: &[Arc<str>],
        now: Moment,
    ) -> Option<Mark> {
        let seq =
            if self.config.guards.hold(Guard::Fence) { fence.seq } else { self.follower.applied() };
        let mark = Mark { generation: self.generation, fence: Fence { seq, ..fence } };
        (self.may_serve(now) && self.in_time(start) && self.stamps.believe(seq, key, tags))
            .then_some(mark)
    }

    /// Whether memory has not been emptied since.
    pub(super) fn in_time(&self, start: Start) -> bool {
        start.generation == self.generation || !self.config.guards.hold(Guard::Emptied)
    }
}

/// What there is to see from outside.
impl Sidecar {
    /// Where it stands in the log, if it knows one.
    pub fn applied(&self) -> Option<Fence> {
        self.begin().fence()
    }

    /// How many entries it has heard of and not applied.
    pub fn lag(&self) -> u64 {
        self.follower.heard() - self.follower.applied()
    }

    /// Until when its lease holds.
    pub fn lease_until(&self) -> Option<Moment> {
        self.lease.until().filter(|_| !self.stopped)
    }

    /// The newer protocol that it met, and must not take part in.
    pub fn newer_protocol(&self) -> Option<u32> {
        self.newer
    }

    /// What it knows of the log's age, for the invalidations that it issues itself.
    pub fn witness(&mut self) -> &mut Witness {
        &mut self.witness
    }

    /// When it wants its next [`Event::Tick`](super::Event::Tick).
    pub fn wakes_at(&self) -> Moment {
        if self.stopped { Moment::NEVER } else { self.pace.wakes_at(&self.config) }
    }
}
