//! One invalidation on its way to being acknowledged, as seen by the process that issued it.
//!
//! The owner sends the script, hands the answer to [`Invalidation::new`], and then asks
//! [`Invalidation::question`] over Redis every few milliseconds, handing each answer back, until
//! [`Invalidation::state`] says that it is acknowledged.

use std::time::Duration;

use super::calls::{Answer, Call, Issued};
use super::guards::{Guard, Guards};
use super::witness::Witness;
use super::words::{Fence, LEASE_MAX, Moment, Name};

/// An invalidation whose script has answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Invalidation {
    token: Fence,
    answered: Moment,
    registered_longest: Duration,
    settled: bool,
    over: bool,
    reported: bool,
    behind: Vec<Name>,
    guards: Guards,
}

/// How far an invalidation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Every sidecar of its epoch's registry has applied it.
    Reported,
    /// The whole lease has passed: whoever has not heard holds none. Those named were silent.
    Lapsed(Vec<Name>),
    /// Not yet; at that moment the lease will have passed.
    Waiting(Moment),
}

impl Invalidation {
    /// Begins to wait: `answered` is when the script's answer arrived, on the clock that will be
    /// asked later.
    pub fn new(issued: &Issued, witness: &mut Witness, answered: Moment, guards: Guards) -> Self {
        let is_possible = issued.longest <= LEASE_MAX;
        let is_heard = is_possible && guards.hold(Guard::Longest);
        let longest = if is_heard { issued.longest } else { witness.whole_lease() };
        witness.hear(issued.token.epoch, longest, answered);
        Self {
            token: issued.token,
            answered,
            registered_longest: longest,
            settled: issued.settled,
            over: false,
            reported: false,
            behind: Vec::new(),
            guards,
        }
    }

    /// What an invalidation is known by.
    pub const fn token(&self) -> Fence {
        self.token
    }

    /// What to ask Redis next: of one that had not reported, as long as it has not, since to look
    /// at all of a large fleet is work.
    pub fn question(&self, witness: &Witness, now: Moment) -> Call {
        self.asking_of(self.behind.first().cloned(), witness, now)
    }

    /// The same, of all: who they are that have not reported.
    pub fn question_of_all(&self, witness: &Witness, now: Moment) -> Call {
        self.asking_of(None, witness, now)
    }

    fn asking_of(&self, laggard: Option<Name>, witness: &Witness, now: Moment) -> Call {
        let lapsed =
            !self.over && self.lapsed(witness, now) || !self.guards.hold(Guard::SilentLapsed);
        let settles = witness.known_long(self.token.epoch, now);
        Call::Progress { token: self.token, lapsed, settles, laggard }
    }

    /// Takes Redis's answer. One that could not be had changes nothing.
    pub fn hear(&mut self, answer: &Answer) {
        match answer {
            Answer::Progress { settled, behind } => {
                self.settled |= settled;
                self.reported |= behind.is_empty();
                self.behind.clone_from(behind);
            }
            Answer::OtherLife => self.over = true,
            _ => {}
        }
    }

    /// How far it is at `now`.
    pub fn state(&self, witness: &Witness, now: Moment) -> State {
        let trusted = !self.over && self.trusts_registry(witness, now);
        if self.reported && trusted {
            State::Reported
        } else if self.lapsed(witness, now) {
            State::Lapsed(self.behind.clone())
        } else {
            State::Waiting(self.answered.after(self.lease_to_wait(witness, now)))
        }
    }

    /// Who had not reported when Redis was last asked; only one of them, unless it was asked of
    /// all.
    pub fn behind(&self) -> &[Name] {
        &self.behind
    }

    fn lapsed(&self, witness: &Witness, now: Moment) -> bool {
        now.since(self.answered) >= self.lease_to_wait(witness, now)
    }

    fn lease_to_wait(&self, witness: &Witness, now: Moment) -> Duration {
        if !self.over && self.trusts_registry(witness, now) {
            return self.registered_longest;
        }
        witness.whole_lease()
    }

    /// Whether everybody who can hold a lease is in the registry of the invalidation's epoch.
    fn trusts_registry(&self, witness: &Witness, now: Moment) -> bool {
        self.settled || witness.known_long(self.token.epoch, now) || !self.guards.hold(Guard::Young)
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::Epoch;
    use super::*;

    const LEASE: Duration = Duration::from_secs(3);
    const TOKEN: Fence = Fence { epoch: Epoch(1), seq: 7 };

    fn issued(settled: bool) -> (Invalidation, Witness) {
        let mut witness = Witness::new(LEASE, Duration::ZERO);
        let issued = Issued { token: TOKEN, longest: 2 * LEASE, settled, registered: 1 };
        (Invalidation::new(&issued, &mut witness, Moment::default(), Guards::default()), witness)
    }

    fn progress(behind: &[&str]) -> Answer {
        Answer::Progress {
            settled: false,
            behind: behind.iter().map(|&name| Name(name.into())).collect(),
        }
    }

    #[test]
    fn a_settled_registry_that_has_all_reported_acknowledges_at_once() {
        let (mut invalidation, witness) = issued(true);
        invalidation.hear(&progress(&["a"]));
        assert_eq!(
            invalidation.state(&witness, Moment::default()),
            State::Waiting(Moment::default().after(2 * LEASE))
        );
        invalidation.hear(&progress(&[]));
        assert_eq!(invalidation.state(&witness, Moment::default()), State::Reported);
    }

    #[test]
    fn in_a_young_epoch_an_empty_list_of_laggards_proves_nothing() {
        let (mut invalidation, witness) = issued(false);
        invalidation.hear(&progress(&[]));
        assert!(matches!(invalidation.state(&witness, Moment::default()), State::Waiting(_)));
        assert_eq!(
            invalidation.state(&witness, Moment::default().after(2 * LEASE)),
            State::Reported
        );
    }

    #[test]
    fn once_its_epoch_is_over_only_the_whole_lease_acknowledges() {
        let (mut invalidation, witness) = issued(true);
        invalidation.hear(&Answer::OtherLife);
        invalidation.hear(&progress(&[]));
        assert!(matches!(invalidation.state(&witness, Moment::default()), State::Waiting(_)));
        assert_eq!(
            invalidation.state(&witness, Moment::default().after(2 * LEASE)),
            State::Lapsed(vec![])
        );
    }

    #[test]
    fn the_silent_are_removed_only_once_the_lease_has_passed() {
        let (invalidation, witness) = issued(true);
        let lapsed = |now| match invalidation.question(&witness, now) {
            Call::Progress { lapsed, .. } => lapsed,
            _ => unreachable!(),
        };
        assert!(!lapsed(Moment::default()) && lapsed(Moment::default().after(2 * LEASE)));
    }
}
