//! The state machine of one invalidation, from the script's reply to the acknowledgement, in the
//! process that issued it.
//!
//! The owner runs the script, hands the reply to [`Invalidation::new`], and then runs
//! [`Invalidation::progress_call`] every few milliseconds and hands each reply to
//! [`Invalidation::on_reply`], until [`Invalidation::state_at`] returns that the invalidation is
//! acknowledged.

use std::time::Duration;

use super::calls::{IssuedInvalidation, ScriptCall, ScriptReply};
use super::epoch_age::EpochAge;
use super::guards::Guard;
use super::protocol::{Fence, InvalidationScope, LEASE_MAX, MemberName, Moment};
use super::store_calls::{MarkMove, Stamping, StoreId, stampable_scopes};
use super::store_progress::StoreProgress;

/// An invalidation that is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Invalidation {
    token: Fence,
    answered_at: Moment,
    longest_registered_lease: Duration,
    settled: bool,
    is_epoch_over: bool,
    have_all_reported: bool,
    laggards: Vec<MemberName>,
    stores: StoreProgress,
}

/// The state of an invalidation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidationState {
    /// Every sidecar of its epoch's registry has applied it.
    Reported,
    /// The whole lease has passed: a sidecar that has not applied it holds no lease. The members
    /// are those that did not report.
    Lapsed(Vec<MemberName>),
    /// Not acknowledged yet; at that moment the lease will have passed.
    Waiting(Moment),
    /// Not acknowledged yet, only because these stores are not known to have it; none: because
    /// Redis has not answered since they have.
    Unstamped(Vec<StoreId>),
    /// The epoch ended before it was known that every store has it: issue it again, in the epoch
    /// that has begun.
    Over,
}

impl Invalidation {
    /// Begins to wait: `answered_at` is when the script's reply arrived, on the clock of the later
    /// calls.
    pub fn new(issued: &IssuedInvalidation, epoch_age: &mut EpochAge, answered_at: Moment) -> Self {
        let whole_lease = epoch_age.whole_lease();
        let is_possible = issued.longest_lease <= LEASE_MAX;
        let longest_registered = if is_possible { issued.longest_lease } else { whole_lease };
        let longest_lease = Guard::A2LongestLease.prescribes(longest_registered, whole_lease);
        epoch_age.on_reply(issued.token.epoch, longest_lease, answered_at);
        Self {
            token: issued.token,
            answered_at,
            longest_registered_lease: longest_lease,
            settled: issued.settled,
            is_epoch_over: false,
            have_all_reported: false,
            laggards: Vec::new(),
            stores: StoreProgress::new(issued),
        }
    }

    /// The same where the invalidator has a store of its own, which it stamps.
    #[must_use]
    pub fn with_store(mut self, id: StoreId) -> Self {
        self.stores.add_own(id);
        self
    }

    /// The stamping of the invalidator's own store.
    pub fn stamping(&self, scopes: &[InvalidationScope]) -> Stamping {
        let Fence { epoch, seq } = self.token;
        let mark_move = Some(MarkMove { epoch, from: seq.saturating_sub(1), to: seq });
        Stamping { scopes: stampable_scopes(scopes), mark_move, told: None }
    }

    /// The invalidator's own store has the stamps, durably: its reply arrived at `now`.
    pub fn on_stamped(&mut self, now: Moment) {
        self.stores.on_stamped(now);
    }

    /// The token of the invalidation: its place in the log.
    pub const fn token(&self) -> Fence {
        self.token
    }

    /// The next call to Redis. It names one member that had not reported, since checking all of a
    /// large fleet is work for Redis.
    pub fn progress_call(&self, epoch_age: &EpochAge, now: Moment) -> ScriptCall {
        self.progress_call_about(self.laggards.first().cloned(), epoch_age, now)
    }

    /// The call that asks about all members that have not reported.
    pub fn progress_call_of_all(&self, epoch_age: &EpochAge, now: Moment) -> ScriptCall {
        self.progress_call_about(None, epoch_age, now)
    }

    fn progress_call_about(
        &self,
        laggard: Option<MemberName>,
        epoch_age: &EpochAge,
        now: Moment,
    ) -> ScriptCall {
        let lease_has_passed = Guard::A2SilentLapsed
            .requires(!self.is_epoch_over && self.has_lease_passed(epoch_age, now));
        let marks_settled = epoch_age.is_known_for_whole_lease(self.token.epoch, now);
        ScriptCall::Progress { token: self.token, lease_has_passed, marks_settled, laggard }
    }

    /// Takes Redis's reply, where no store is. A call that failed changes nothing.
    pub fn on_reply(&mut self, reply: &ScriptReply) {
        self.on_reply_to(self.answered_at, self.answered_at, reply);
    }

    /// Takes Redis's reply, which arrived by `now`, to a call that was sent at `sent`, or later.
    pub fn on_reply_to(&mut self, sent: Moment, now: Moment, reply: &ScriptReply) {
        match reply {
            ScriptReply::Progress { settled, laggards, stores } => {
                self.stores.on_reply(self.token.seq, sent, now, stores);
                self.settled |= settled;
                self.have_all_reported |= laggards.is_empty();
                self.laggards.clone_from(laggards);
            }
            ScriptReply::OtherLife => self.is_epoch_over = true,
            _ => {}
        }
    }

    /// The state at `now`.
    pub fn state_at(&self, epoch_age: &EpochAge, now: Moment) -> InvalidationState {
        let is_stamped = self.stores.have_it_in_its_epoch(epoch_age.grace());
        if self.is_epoch_over && !is_stamped {
            return InvalidationState::Over;
        }
        let is_registry_trusted = !self.is_epoch_over && self.trusts_registry(epoch_age, now);
        let is_reported = self.have_all_reported && is_registry_trusted;
        if !is_stamped && (is_reported || self.has_lease_passed(epoch_age, now)) {
            InvalidationState::Unstamped(self.stores.missing())
        } else if is_reported {
            InvalidationState::Reported
        } else if self.has_lease_passed(epoch_age, now) {
            InvalidationState::Lapsed(self.laggards.clone())
        } else {
            InvalidationState::Waiting(self.answered_at.after(self.lease_to_wait(epoch_age, now)))
        }
    }

    /// The stores that are not known to have it.
    pub fn missing_stores(&self) -> Vec<StoreId> {
        self.stores.missing()
    }

    /// The members that had not reported by the last reply; only one of them, unless the call asked
    /// about all.
    pub fn laggards(&self) -> &[MemberName] {
        &self.laggards
    }

    fn has_lease_passed(&self, epoch_age: &EpochAge, now: Moment) -> bool {
        now.since(self.answered_at) >= self.lease_to_wait(epoch_age, now)
    }

    fn lease_to_wait(&self, epoch_age: &EpochAge, now: Moment) -> Duration {
        if !self.is_epoch_over && self.trusts_registry(epoch_age, now) {
            return self.longest_registered_lease;
        }
        epoch_age.whole_lease()
    }

    /// Whether every sidecar that can hold a lease is in the registry of the invalidation's epoch.
    fn trusts_registry(&self, epoch_age: &EpochAge, now: Moment) -> bool {
        let is_known_to_be_old = epoch_age.is_known_for_whole_lease(self.token.epoch, now);
        Guard::A2YoungEpoch.requires(self.settled || is_known_to_be_old)
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Epoch;
    use super::*;

    const LEASE: Duration = Duration::from_secs(3);
    const TOKEN: Fence = Fence { epoch: Epoch(1), seq: 7 };

    fn issued(settled: bool) -> (Invalidation, EpochAge) {
        let mut epoch_age = EpochAge::new(LEASE, Duration::ZERO);
        let issued = IssuedInvalidation {
            token: TOKEN,
            longest_lease: 2 * LEASE,
            settled,
            registered_members: 1,
            stores: Vec::new(),
        };
        (Invalidation::new(&issued, &mut epoch_age, Moment::default()), epoch_age)
    }

    fn progress(laggards: &[&str]) -> ScriptReply {
        ScriptReply::Progress {
            settled: false,
            laggards: laggards.iter().map(|&name| MemberName(name.into())).collect(),
            stores: Vec::new(),
        }
    }

    #[test]
    fn a_settled_registry_that_has_all_reported_acknowledges_at_once() {
        let (mut invalidation, epoch_age) = issued(true);
        invalidation.on_reply(&progress(&["a"]));
        assert_eq!(
            invalidation.state_at(&epoch_age, Moment::default()),
            InvalidationState::Waiting(Moment::default().after(2 * LEASE))
        );
        invalidation.on_reply(&progress(&[]));
        assert_eq!(
            invalidation.state_at(&epoch_age, Moment::default()),
            InvalidationState::Reported
        );
    }

    #[test]
    fn in_a_young_epoch_an_empty_list_of_laggards_proves_nothing() {
        let (mut invalidation, epoch_age) = issued(false);
        invalidation.on_reply(&progress(&[]));
        assert!(matches!(
            invalidation.state_at(&epoch_age, Moment::default()),
            InvalidationState::Waiting(_)
        ));
        assert_eq!(
            invalidation.state_at(&epoch_age, Moment::default().after(2 * LEASE)),
            InvalidationState::Reported
        );
    }

    #[test]
    fn once_its_epoch_is_over_only_the_whole_lease_acknowledges() {
        let (mut invalidation, epoch_age) = issued(true);
        invalidation.on_reply(&ScriptReply::OtherLife);
        invalidation.on_reply(&progress(&[]));
        assert!(matches!(
            invalidation.state_at(&epoch_age, Moment::default()),
            InvalidationState::Waiting(_)
        ));
        assert_eq!(
            invalidation.state_at(&epoch_age, Moment::default().after(2 * LEASE)),
            InvalidationState::Lapsed(vec![])
        );
    }

    #[test]
    fn the_silent_are_removed_only_once_the_lease_has_passed() {
        let (invalidation, epoch_age) = issued(true);
        let lapsed = |now| match invalidation.progress_call(&epoch_age, now) {
            ScriptCall::Progress { lease_has_passed: lapsed, .. } => lapsed,
            _ => unreachable!(),
        };
        assert!(!lapsed(Moment::default()) && lapsed(Moment::default().after(2 * LEASE)));
    }
}
