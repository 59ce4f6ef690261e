//! The flights of one key in one pod: who joins which, who begins a new one, who waits for the
//! next.
//!
//! While the lease holds, a caller joins the newest flight that nothing has outdated, else begins
//! one. Without it nobody joins a flight that began before they came. A caller who can neither join
//! nor begin one waits for the one flight that begins next, which takes everybody who waits. It
//! begins once there is room, and before that as soon as waiting longer would cost one of its
//! callers the answer: sharing never does. Who can wait how long is the owner's to know.

use super::protocol::Moment;
use super::replica::{Replica, StartPoint};

/// Flights of one key that begin at once while the lease holds, however often it is invalidated.
const RUNNING_WITH_LEASE: usize = 4;
/// The same without it.
const RUNNING_WITHOUT_LEASE: usize = 1;
/// The same without it for a caller to whom waiting for the first would cost the answer.
const URGENT_WITHOUT_LEASE: usize = 2;
/// Flights of one key that run at a time. So many are there only where collections take nearly all
/// of the deadline, and callers keep coming: a flight then begins in each eighth of it.
pub const RUNNING_MAX: u32 = 8;

/// The flights of one key (and plan).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Flights {
    running: Vec<RunningFlight>,
    waiting: Option<FlightId>,
    /// A caller of the waiting flight can wait no longer.
    is_urgent: bool,
}

/// One flight of its key, told from those that are there at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId(u64);

/// The flight that a caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlightDecision {
    /// In a flight that is there.
    Join(FlightId),
    /// In a flight that the owner begins now, with this start. It may have waited for its turn.
    Start(FlightId, StartPoint),
    /// In the flight that begins when [`Flights::end_flight`] or [`Flights::start_waiting`] says
    /// so.
    Wait(FlightId),
}

/// What a caller needs of the flight that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinNeeds<F> {
    /// Which of the running flights are recent enough for the caller.
    pub accepts: F,
    /// Waiting for a running flight to end, and then for another, would cost the caller the answer.
    pub is_urgent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct RunningFlight {
    id: FlightId,
    start: StartPoint,
}

impl Flights {
    /// Decides for a caller who came at `now`: a running flight, a new one, or the one that waits.
    #[allow(clippy::needless_pass_by_value, reason = "what a caller needs is said once")]
    pub fn join_or_start(
        &mut self,
        replica: &Replica,
        key: &str,
        needs: JoinNeeds<impl Fn(FlightId) -> bool>,
        now: Moment,
    ) -> FlightDecision {
        let may_join = |flight: &&RunningFlight| {
            replica.may_join(flight.start, key, now) && (needs.accepts)(flight.id)
        };
        if let Some(flight) = self.running.iter().rev().find(may_join) {
            return FlightDecision::Join(flight.id);
        }
        let room = match (replica.may_serve(now), needs.is_urgent) {
            (true, _) => RUNNING_WITH_LEASE,
            (false, false) => RUNNING_WITHOUT_LEASE,
            (false, true) => URGENT_WITHOUT_LEASE,
        };
        let id = self.waiting.unwrap_or_else(|| self.next_free_id());
        if self.running.len() < room {
            let start = self.start_flight(id, replica);
            return FlightDecision::Start(id, start);
        }
        self.waiting = Some(id);
        FlightDecision::Wait(id)
    }

    /// A flight has ended, however it ended. The waiting one begins where there is room by now; its
    /// start must be taken now.
    pub fn end_flight(
        &mut self,
        id: FlightId,
        replica: &Replica,
        now: Moment,
    ) -> Option<(FlightId, StartPoint)> {
        self.running.retain(|flight| flight.id != id);
        let room = match (self.is_urgent, replica.may_serve(now)) {
            (true, _) => RUNNING_MAX as usize,
            (false, true) => RUNNING_WITH_LEASE,
            (false, false) => RUNNING_WITHOUT_LEASE,
        };
        let next = self.waiting.filter(|_| self.running.len() < room)?;
        Some((next, self.start_flight(next, replica)))
    }

    /// A caller of `id` can wait no longer: if it has not begun, it begins now, or once another has
    /// ended where as many run as may.
    pub fn start_waiting(&mut self, id: FlightId, replica: &Replica) -> Option<StartPoint> {
        self.waiting.filter(|waiting| *waiting == id)?;
        self.is_urgent = true;
        (self.running.len() < RUNNING_MAX as usize).then(|| self.start_flight(id, replica))
    }

    /// Takes back a flight that [`Self::join_or_start`] has just made and that its owner cannot
    /// begin.
    pub fn withdraw(&mut self, id: FlightId) {
        self.running.retain(|flight| flight.id != id);
        self.waiting = self.waiting.filter(|waiting| *waiting != id);
    }

    /// Whether nothing runs and nobody waits.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_none()
    }

    fn start_flight(&mut self, id: FlightId, replica: &Replica) -> StartPoint {
        if self.waiting == Some(id) {
            (self.waiting, self.is_urgent) = (None, false);
        }
        let start = replica.start_point();
        self.running.push(RunningFlight { id, start });
        start
    }

    /// An id that no flight of this key has now.
    fn next_free_id(&self) -> FlightId {
        let used_ids = self.running.iter().map(|flight| flight.id).chain(self.waiting);
        FlightId(used_ids.max().map_or(0, |FlightId(id)| id + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::protocol::{Epoch, MemberName};
    use super::super::replica_config::ReplicaConfig;
    use super::*;

    fn config() -> ReplicaConfig {
        ReplicaConfig::new(MemberName("a".into()), Duration::from_secs(1))
    }

    fn arrives(
        flights: &mut Flights,
        replica: &Replica,
        accepts: bool,
        is_urgent: bool,
    ) -> FlightDecision {
        let needs = JoinNeeds { accepts: |_| accepts, is_urgent };
        flights.join_or_start(replica, "42", needs, Moment::default())
    }

    #[test]
    fn without_the_lease_a_second_flight_begins_only_for_who_is_pressed_and_a_third_waits() {
        let replica = Replica::new(config());
        let mut flights = Flights::default();
        assert!(matches!(
            arrives(&mut flights, &replica, true, false),
            FlightDecision::Start(FlightId(0), _)
        ));
        assert_eq!(arrives(&mut flights, &replica, true, false), FlightDecision::Wait(FlightId(1)));
        assert!(matches!(
            arrives(&mut flights, &replica, true, true),
            FlightDecision::Start(FlightId(1), _)
        ));
        assert_eq!(arrives(&mut flights, &replica, true, true), FlightDecision::Wait(FlightId(2)));
        assert_eq!(arrives(&mut flights, &replica, true, true), FlightDecision::Wait(FlightId(2)));
        assert!(
            flights.end_flight(FlightId(0), &replica, Moment::default()).is_none(),
            "one still runs"
        );
        assert!(
            flights.start_waiting(FlightId(2), &replica).is_some(),
            "its callers can wait no longer"
        );
        assert!(flights.start_waiting(FlightId(2), &replica).is_none(), "it has begun");
    }

    #[test]
    fn flights_that_callers_press_for_are_bounded_too() {
        let replica = Replica::new(config());
        let mut flights = Flights::default();
        assert!(matches!(arrives(&mut flights, &replica, true, false), FlightDecision::Start(..)));
        let mut begun = 1;
        while let FlightDecision::Wait(id) = arrives(&mut flights, &replica, true, false)
            && flights.start_waiting(id, &replica).is_some()
        {
            begun += 1;
        }
        assert_eq!(begun, RUNNING_MAX as usize);
        let ended = flights.end_flight(FlightId(0), &replica, Moment::default());
        assert!(ended.is_some(), "who was refused is not forgotten");
    }

    #[test]
    fn a_caller_whom_no_running_flight_suits_begins_one_while_there_is_room() {
        let replica = Replica::standalone(config(), Epoch(1));
        let mut flights = Flights::default();
        for _ in 0..RUNNING_WITH_LEASE {
            assert!(matches!(
                arrives(&mut flights, &replica, false, false),
                FlightDecision::Start(..)
            ));
        }
        let FlightDecision::Wait(next) = arrives(&mut flights, &replica, false, false) else {
            panic!("a fifth began")
        };
        assert!(matches!(
            arrives(&mut flights, &replica, true, false),
            FlightDecision::Join(FlightId(3))
        ));
        let (began, _) =
            flights.end_flight(FlightId(0), &replica, Moment::default()).expect("there is room");
        assert_eq!(began, next);
    }
}
