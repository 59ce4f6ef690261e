//! A sidecar as the trials run it: the real state machine, the real flights, and the little that a
//! cache adds.

use std::collections::BTreeMap;

use super::super::*;
use super::source::{Key, Version, body_of, key_name, tags_of, version_in};

/// One sidecar with its memory and its flights.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) sidecar: Sidecar,
    pub(super) name: Name,
    pub(super) plan: u8,
    pub(super) memory: BTreeMap<(Key, u8), Kept>,
    pub(super) flights: BTreeMap<(Key, u8), Flights>,
    pub(super) air: Vec<Flight>,
    /// The newest version that an entry which this sidecar applied was about.
    pub(super) known: BTreeMap<Key, Version>,
    pub(super) alive: bool,
    /// A flight reads Redis before it reads the source.
    pub(super) asks_redis: bool,
    /// ... and lets another pod's flight collect for it.
    pub(super) claims: bool,
    /// Its callers cannot wait for one flight and then for another.
    pub(super) is_pressed: bool,
}

/// A dataset in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kept {
    pub(super) mark: Mark,
    pub(super) version: Version,
    /// The plan that it was collected with.
    pub(super) plan: u8,
}

/// A flight in the air.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Flight {
    pub(super) key: Key,
    pub(super) plan: u8,
    pub(super) id: FlightId,
    /// The oldest version that its callers may get.
    pub(super) need: Version,
    /// When it last asked Redis: an answer to another question is not for it.
    pub(super) asked: Moment,
    pub(super) step: Step,
}

/// How far a flight is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    /// It has not begun.
    Waiting,
    /// Redis is asked for the dataset.
    Asking(Start),
    /// Redis is asked who collects.
    Claiming(Start),
    /// The source is about to be read.
    Collecting(Start),
    /// The source was read.
    Collected(Start, Version),
    /// Redis had it.
    Fetched(Start, Fetched),
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Memory answered.
    Served(Kept),
    /// It waits for a flight that was there.
    Joined,
    /// It waits for a flight that begins now.
    Began(FlightId),
}

impl Node {
    pub(super) fn place(key: Key, plan: u8) -> Place {
        Place { key: key_name(key), plan: plan.to_string().into() }
    }

    /// A request for `key` comes at `now`; it must not get anything older than `need`.
    pub(super) fn read(&mut self, key: Key, need: Version, now: Moment) -> Reading {
        let at = (key, self.plan);
        if let Some(kept) = self.memory.get(&at).filter(|_| self.sidecar.may_serve(now)) {
            if self.sidecar.believes(kept.mark, &key_name(key), &tags_of(key)) {
                return Reading::Served(*kept);
            }
        }
        let needs = Needs { accepts: |_| true, is_pressed: self.is_pressed };
        let seat =
            self.flights.entry(at).or_default().arrive(&self.sidecar, &key_name(key), needs, now);
        let (Seat::Join(id) | Seat::Wait(id) | Seat::Begin(id, _)) = seat;
        let step = match seat {
            Seat::Begin(_, start) => self.first_step(start),
            _ => Step::Waiting,
        };
        if let Some(flight) = self.air.iter_mut().find(|flight| flight.is(at, id)) {
            flight.need = flight.need.max(need);
            if step != Step::Waiting {
                // The caller is pressed, so the flight that waited begins.
                flight.step = step;
                return Reading::Began(id);
            }
            return Reading::Joined;
        }
        self.air.push(Flight { key, plan: at.1, id, need, asked: now, step });
        self.air.sort();
        Reading::Began(id)
    }

    /// A flight ends with an answer; the next one of its key may begin.
    pub(super) fn end(&mut self, index: usize, now: Moment) -> Flight {
        let flight = self.air.remove(index);
        let at = (flight.key, flight.plan);
        let flights = self.flights.entry(at).or_default();
        if let Some((id, start)) = flights.ended(flight.id, &self.sidecar, now) {
            let step = self.first_step(start);
            if let Some(next) = self.air.iter_mut().find(|flight| flight.is(at, id)) {
                next.step = step;
            }
        }
        self.flights.retain(|_, flights| !flights.is_empty());
        self.air.sort();
        flight
    }

    /// The callers of a flight that waits can wait no longer: it begins, where it may.
    pub(super) fn press(&mut self, index: usize) {
        let Flight { key, plan, id, .. } = self.air[index];
        let flights = self.flights.entry((key, plan)).or_default();
        if let Some(start) = flights.press(id, &self.sidecar) {
            self.air[index].step = self.first_step(start);
        }
    }

    /// What the flight that ends may leave in memory.
    pub(super) fn keep(&mut self, flight: &Flight, now: Moment) -> Option<Kept> {
        let (name, tags) = (key_name(flight.key), tags_of(flight.key));
        let (mark, version, plan) = match &flight.step {
            Step::Collected(start, version) => {
                (self.sidecar.may_store(*start, &name, &tags, now)?, *version, flight.plan)
            }
            Step::Fetched(start, fetched) => {
                let (version, plan) = version_in(&fetched.dataset.body);
                (self.sidecar.may_store_fetched(*start, &name, fetched, now)?, version, plan)
            }
            _ => return None,
        };
        let kept = Kept { mark, version, plan };
        self.memory.insert((flight.key, flight.plan), kept);
        Some(kept)
    }

    /// Forgets what is not believed any more: it makes no difference, and fewer states.
    pub(super) fn sweep(&mut self) {
        let sidecar = &self.sidecar;
        self.memory
            .retain(|&(key, _), kept| sidecar.believes(kept.mark, &key_name(key), &tags_of(key)));
    }

    pub(super) fn first_step(&self, start: Start) -> Step {
        if self.asks_redis { Step::Asking(start) } else { Step::Collecting(start) }
    }
}

impl Flight {
    pub(super) fn is(&self, at: (Key, u8), id: FlightId) -> bool {
        (self.key, self.plan, self.id) == (at.0, at.1, id)
    }

    /// What the flight offers Redis once it has read the source.
    pub(super) fn offer(&self) -> Option<Stored> {
        let Step::Collected(start, version) = self.step else { return None };
        let (tags, body) = (tags_of(self.key), body_of(version, self.plan));
        Some(Stored { fence: start.fence()?, tags, body })
    }
}
