//! The flights of one key in one process: decides for each caller whether it joins a running
//! flight, starts a new one, or waits for the next.
//!
//! While the lease holds, a caller joins the newest flight that no invalidation has outdated, or
//! else starts one. Without the lease no caller joins a flight that began before the caller came. A
//! caller that can neither join nor start a flight waits for the waiting flight, which takes all
//! waiting callers. It starts once there is room, or as soon as the deadline of one of its callers
//! leaves no more time to wait: sharing a flight never costs an answer. The owner knows the
//! deadlines.

use super::protocol::Moment;
use super::replica::{Replica, StartPoint};

/// The most flights of one key that run while the lease holds, however often the key is
/// invalidated.
const RUNNING_WITH_LEASE: usize = 4;
/// The most without the lease.
const RUNNING_WITHOUT_LEASE: usize = 1;
/// The most without the lease where a caller's deadline leaves no time to wait for the running
/// flight.
const URGENT_WITHOUT_LEASE: usize = 2;
/// The most flights of one key that ever run at a time. So many run only where collections take
/// nearly all of the deadline and callers keep coming: a flight then starts in each eighth of the
/// deadline.
pub const RUNNING_MAX: u32 = 8;

/// The flights of one key (and plan).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Flights {
    running: Vec<RunningFlight>,
    waiting: Option<FlightId>,
    /// Whether a caller of the waiting flight can wait no longer.
    is_urgent: bool,
}

/// The id of a flight, unique among the present flights of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId(u64);

/// The decision for a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlightDecision {
    /// The caller joins this flight.
    Join(FlightId),
    /// The owner starts this flight now, with this start point. Other callers may have waited for
    /// it.
    Start(FlightId, StartPoint),
    /// The caller waits for this flight, which starts when [`Flights::end_flight`] or
    /// [`Flights::start_waiting`] returns it.
    Wait(FlightId),
}

/// The requirements of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinNeeds<F> {
    /// Whether a running flight is recent enough for the caller.
    pub accepts: F,
    /// Whether the caller's deadline leaves no time to wait for a running flight and then for
    /// another.
    pub is_urgent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct RunningFlight {
    id: FlightId,
    start: StartPoint,
}

impl Flights {
    /// Decides for a caller that came at `now`: a running flight, a new one, or the waiting one.
    #[allow(clippy::needless_pass_by_value, reason = "a caller's needs are used once")]
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

    /// Removes a flight that has ended, however it ended. Returns the waiting flight if there is
    /// room for it now, with its start point of this moment.
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

    /// Starts the waiting flight `id`, of which a caller can wait no longer. If as many flights run
    /// as may, it starts once one of them has ended.
    pub fn start_waiting(&mut self, id: FlightId, replica: &Replica) -> Option<StartPoint> {
        self.waiting.filter(|waiting| *waiting == id)?;
        self.is_urgent = true;
        (self.running.len() < RUNNING_MAX as usize).then(|| self.start_flight(id, replica))
    }

    /// Removes a flight that [`Self::join_or_start`] has just added and that its owner cannot
    /// start.
    pub fn withdraw(&mut self, id: FlightId) {
        self.running.retain(|flight| flight.id != id);
        self.waiting = self.waiting.filter(|waiting| *waiting != id);
    }

    /// Whether no flight runs and none waits.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_none()
    }

    fn start_flight(&mut self, id: FlightId, replica: &Replica) -> StartPoint {
        if self.waiting == Some(id) {
            self.waiting = None;
            self.is_urgent = false;
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
