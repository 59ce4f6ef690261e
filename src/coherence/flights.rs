//! The flights of one key in one pod: who joins which, who begins a new one, who waits for the
//! next.
//!
//! While the lease holds, a caller joins the newest flight that nothing has outdated, else begins
//! one. Without it nobody joins a flight that began before they came. A caller who can neither join
//! nor begin one waits for the one flight that begins next, which takes everybody who waits. It
//! begins once there is room, and before that as soon as waiting longer would cost one of its
//! callers the answer: sharing never does. Who can wait how long is the owner's to know.

use super::sidecar::{Sidecar, Start};
use super::words::Moment;

/// Flights of one key that begin at once while the lease holds, however often it is invalidated.
const RUNNING_WITH_LEASE: usize = 4;
/// The same without it.
const RUNNING_WITHOUT_LEASE: usize = 1;
/// The same without it for a caller to whom waiting for the first would cost the answer.
const PRESSED_WITHOUT_LEASE: usize = 2;
/// Flights of one key that run at a time. So many are there only where collections take nearly all
/// of the deadline, and callers keep coming: a flight then begins in each eighth of it.
pub const RUNNING_MAX: u32 = 8;

/// The flights of one key (and plan).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Flights {
    running: Vec<Running>,
    waiting: Option<Id>,
    /// A caller of the waiting flight can wait no longer.
    is_pressed: bool,
}

/// One flight of its key, told from those that are there at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

/// Where a caller stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// In a flight that is there.
    Join(Id),
    /// In a flight that the owner begins now, with this start. It may have waited for its turn.
    Begin(Id, Start),
    /// In the flight that begins when [`Flights::ended`] or [`Flights::press`] says so.
    Wait(Id),
}

/// What a caller needs of the flight that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs<F> {
    /// Which of the running flights are recent enough for the caller.
    pub accepts: F,
    /// Waiting for a running flight to end, and then for another, would cost the caller the answer.
    pub is_pressed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Running {
    id: Id,
    start: Start,
}

impl Flights {
    /// Seats a caller who came at `now`.
    #[allow(clippy::needless_pass_by_value, reason = "what a caller needs is said once")]
    pub fn arrive(
        &mut self,
        sidecar: &Sidecar,
        key: &str,
        needs: Needs<impl Fn(Id) -> bool>,
        now: Moment,
    ) -> Seat {
        let may_join = |flight: &&Running| {
            sidecar.may_join(flight.start, key, now) && (needs.accepts)(flight.id)
        };
        if let Some(flight) = self.running.iter().rev().find(may_join) {
            return Seat::Join(flight.id);
        }
        let room = match (sidecar.may_serve(now), needs.is_pressed) {
            (true, _) => RUNNING_WITH_LEASE,
            (false, false) => RUNNING_WITHOUT_LEASE,
            (false, true) => PRESSED_WITHOUT_LEASE,
        };
        let id = self.waiting.unwrap_or_else(|| self.unused());
        if self.running.len() < room {
            let start = self.run(id, sidecar);
            return Seat::Begin(id, start);
        }
        self.waiting = Some(id);
        Seat::Wait(id)
    }

    /// A flight has ended, however it ended. The waiting one begins where there is room by now; its
    /// start must be taken now.
    pub fn ended(&mut self, id: Id, sidecar: &Sidecar, now: Moment) -> Option<(Id, Start)> {
        self.running.retain(|flight| flight.id != id);
        let room = match (self.is_pressed, sidecar.may_serve(now)) {
            (true, _) => RUNNING_MAX as usize,
            (false, true) => RUNNING_WITH_LEASE,
            (false, false) => RUNNING_WITHOUT_LEASE,
        };
        let next = self.waiting.filter(|_| self.running.len() < room)?;
        Some((next, self.run(next, sidecar)))
    }

    /// A caller of `id` can wait no longer: if it has not begun, it begins now, or once another has
    /// ended where as many run as may.
    pub fn press(&mut self, id: Id, sidecar: &Sidecar) -> Option<Start> {
        self.waiting.filter(|waiting| *waiting == id)?;
        self.is_pressed = true;
        (self.running.len() < RUNNING_MAX as usize).then(|| self.run(id, sidecar))
    }

    /// Takes back a flight that [`Self::arrive`] has just made and that its owner cannot begin.
    pub fn withdraw(&mut self, id: Id) {
        self.running.retain(|flight| flight.id != id);
        self.waiting = self.waiting.filter(|waiting| *waiting != id);
    }

    /// Whether nothing runs and nobody waits.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_none()
    }

    fn run(&mut self, id: Id, sidecar: &Sidecar) -> Start {
        if self.waiting == Some(id) {
            (self.waiting, self.is_pressed) = (None, false);
        }
        let start = sidecar.begin();
        self.running.push(Running { id, start });
        start
    }

    /// An id that no flight of this key has now.
    fn unused(&self) -> Id {
        let taken = self.running.iter().map(|flight| flight.id).chain(self.waiting);
        Id(taken.max().map_or(0, |Id(id)| id + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::sidecar::Config;
    use super::super::words::{Epoch, Name};
    use super::*;

    fn config() -> Config {
        Config::new(Name("a".into()), Duration::from_secs(1))
    }

    fn arrives(flights: &mut Flights, sidecar: &Sidecar, accepts: bool, is_pressed: bool) -> Seat {
        let needs = Needs { accepts: |_| accepts, is_pressed };
        flights.arrive(sidecar, "42", needs, Moment::default())
    }

    #[test]
    fn without_the_lease_a_second_flight_begins_only_for_who_is_pressed_and_a_third_waits() {
        let (sidecar, mut flights) = (Sidecar::new(config()), Flights::default());
        assert!(matches!(arrives(&mut flights, &sidecar, true, false), Seat::Begin(Id(0), _)));
        assert_eq!(arrives(&mut flights, &sidecar, true, false), Seat::Wait(Id(1)));
        assert!(matches!(arrives(&mut flights, &sidecar, true, true), Seat::Begin(Id(1), _)));
        assert_eq!(arrives(&mut flights, &sidecar, true, true), Seat::Wait(Id(2)));
        assert_eq!(arrives(&mut flights, &sidecar, true, true), Seat::Wait(Id(2)));
        assert!(flights.ended(Id(0), &sidecar, Moment::default()).is_none(), "one still runs");
        assert!(flights.press(Id(2), &sidecar).is_some(), "its callers can wait no longer");
        assert!(flights.press(Id(2), &sidecar).is_none(), "it has begun");
    }

    #[test]
    fn flights_that_callers_press_for_are_bounded_too() {
        let (sidecar, mut flights) = (Sidecar::new(config()), Flights::default());
        assert!(matches!(arrives(&mut flights, &sidecar, true, false), Seat::Begin(..)));
        let mut begun = 1;
        while let Seat::Wait(id) = arrives(&mut flights, &sidecar, true, false)
            && flights.press(id, &sidecar).is_some()
        {
            begun += 1;
        }
        assert_eq!(begun, RUNNING_MAX as usize);
        let ended = flights.ended(Id(0), &sidecar, Moment::default());
        assert!(ended.is_some(), "who was refused is not forgotten");
    }

    #[test]
    fn a_caller_whom_no_running_flight_suits_begins_one_while_there_is_room() {
        let sidecar = Sidecar::alone(config(), Epoch(1));
        let mut flights = Flights::default();
        for _ in 0..RUNNING_WITH_LEASE {
            assert!(matches!(arrives(&mut flights, &sidecar, false, false), Seat::Begin(..)));
        }
        let Seat::Wait(next) = arrives(&mut flights, &sidecar, false, false) else {
            panic!("a fifth began")
        };
        assert!(matches!(arrives(&mut flights, &sidecar, true, false), Seat::Join(Id(3))));
        let (began, _) = flights.ended(Id(0), &sidecar, Moment::default()).expect("there is room");
        assert_eq!(began, next);
    }
}
