//! The flights of one key in one pod: who joins which, who begins a new one, who waits for the next.
//!
//! While the lease holds, a caller joins the newest flight that nothing has outdated, else begins one. Without it nobody
//! joins a flight that began before they came: one runs, one waits, and the waiting one takes everybody.

use super::sidecar::{Sidecar, Start};
use super::words::Moment;

/// Flights of one key that run at a time, however often it is invalidated meanwhile; who comes then waits.
const RUNNING_MAX: usize = 4;

/// The flights of one key (and plan).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Flights {
    running: Vec<Running>,
    waiting: Option<Id>,
}

/// One flight of its key, told from those that are there at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

/// Where a caller stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// In a flight that is there.
    Join(Id),
    /// In a flight that the owner begins now, with this start.
    Begin(Id, Start),
    /// In the flight that begins when [`Flights::ended`] says so.
    Wait(Id),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Running {
    id: Id,
    start: Start,
}

impl Flights {
    /// Seats a caller who came at `now`. One who wants it `fresh` joins nothing that began before.
    pub fn arrive(&mut self, sidecar: &Sidecar, key: &str, fresh: bool, now: Moment) -> Seat {
        let newest = self.running.iter().rev().find(|flight| sidecar.may_join(flight.start, key, now));
        if let Some(flight) = newest.filter(|_| !fresh) {
            return Seat::Join(flight.id);
        }
        if let Some(id) = self.waiting {
            return Seat::Wait(id);
        }
        let id = self.unused();
        let room = if sidecar.may_serve(now) { RUNNING_MAX } else { 1 };
        if self.running.len() < room {
            let start = self.run(id, sidecar);
            return Seat::Begin(id, start);
        }
        self.waiting = Some(id);
        Seat::Wait(id)
    }

    /// A flight has ended, however it ended. The waiting one begins if it was the last; its start must be taken now.
    pub fn ended(&mut self, id: Id, sidecar: &Sidecar) -> Option<(Id, Start)> {
        self.running.retain(|flight| flight.id != id);
        if !self.running.is_empty() {
            return None;
        }
        let next = self.waiting.take()?;
        Some((next, self.run(next, sidecar)))
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
