//! A sidecar as the checks run it: the state machine and the flights of the product, with a minimal
//! cache.

use std::collections::BTreeMap;

use super::source::{TrialKey, TrialVersion, body_of, key_name, tags_of, version_in};
use super::store::version_of_reading;
use bfb::coherence::*;

/// One sidecar with its memory and its flights.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub(super) struct TrialNode {
    pub(super) replica: Replica,
    pub(super) name: MemberName,
    pub(super) plan: u8,
    pub(super) memory: BTreeMap<(TrialKey, u8), TrialEntry>,
    pub(super) flights: BTreeMap<(TrialKey, u8), Flights>,
    pub(super) running: Vec<TrialFlight>,
    /// The newest version that was outdated by an entry which this sidecar applied.
    pub(super) newest_applied: BTreeMap<TrialKey, TrialVersion>,
    pub(super) is_alive: bool,
    /// A flight reads Redis before it reads the source.
    pub(super) has_redis: bool,
    /// A flight claims the key first, and lets another pod's flight collect for it.
    pub(super) has_claims: bool,
    /// Its callers cannot wait for one flight and then for another.
    pub(super) is_urgent: bool,
    /// A flight reads the store before it reads the source.
    pub(super) has_store: bool,
}

/// A dataset in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TrialEntry {
    pub(super) fence: EntryFence,
    pub(super) version: TrialVersion,
    /// The plan that it was collected with.
    pub(super) plan: u8,
}

/// A running flight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TrialFlight {
    pub(super) key: TrialKey,
    pub(super) plan: u8,
    pub(super) id: FlightId,
    /// The oldest version that its callers may get.
    pub(super) oldest_acceptable: TrialVersion,
    /// When it sent its last request to Redis: an answer to another request is not for it.
    pub(super) asked_at: Moment,
    /// A caller joined it after it had begun.
    pub(super) is_shared: bool,
    /// Its fence in the store, and the source's version of that moment.
    pub(super) began: Option<(StoreFence, TrialVersion)>,
    pub(super) step: FlightStep,
}

/// The progress of a flight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum FlightStep {
    /// It waits for its start.
    Waiting,
    /// It has asked Redis for the dataset.
    Asking(StartPoint),
    /// It has asked Redis for the claim.
    Claiming(StartPoint),
    /// It has asked the store for the dataset.
    Consulting(StartPoint),
    /// It is about to read the source.
    Collecting(StartPoint),
    /// It has read the source.
    Collected(StartPoint, TrialVersion),
    /// It has the dataset from Redis.
    Fetched(StartPoint, FetchedDataset),
    /// It has the dataset from the store.
    Consulted(StartPoint, StoreReading),
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// Memory answered.
    Served(TrialEntry),
    /// It waits for a flight that was already there.
    Joined,
    /// It waits for a flight that begins now.
    Began(FlightId),
}

impl TrialNode {
    pub(super) fn place(key: TrialKey, plan: u8) -> DatasetPlace {
        DatasetPlace { key: key_name(key), plan: plan.to_string().into() }
    }

    /// A request for `key` comes at `now`; its answer must not be older than `need`.
    pub(super) fn read(&mut self, key: TrialKey, need: TrialVersion, now: Moment) -> ReadOutcome {
        let at = (key, self.plan);
        if self.replica.may_serve(now)
            && let Some(entry) = self.memory.get(&at)
            && self.replica.is_valid(entry.fence, &key_name(key), &tags_of(key))
        {
            return ReadOutcome::Served(*entry);
        }
        let needs = JoinNeeds { accepts: |_| true, is_urgent: self.is_urgent };
        let decision = self.flights.entry(at).or_default().join_or_start(
            &self.replica,
            &key_name(key),
            needs,
            now,
        );
        let (FlightDecision::Join(id) | FlightDecision::Wait(id) | FlightDecision::Start(id, _)) =
            decision;
        let step = match decision {
            FlightDecision::Start(_, start) => self.first_step(start),
            _ => FlightStep::Waiting,
        };
        if let Some(flight) = self.running.iter_mut().find(|flight| flight.has_id(at, id)) {
            flight.oldest_acceptable = flight.oldest_acceptable.max(need);
            flight.is_shared |= flight.step != FlightStep::Waiting;
            if step != FlightStep::Waiting {
                // The caller's deadline is close, so the flight that waited begins.
                flight.step = step;
                return ReadOutcome::Began(id);
            }
            return ReadOutcome::Joined;
        }
        self.running.push(TrialFlight {
            key,
            plan: at.1,
            id,
            oldest_acceptable: need,
            asked_at: now,
            is_shared: false,
            began: None,
            step,
        });
        self.running.sort();
        ReadOutcome::Began(id)
    }

    /// Ends a flight; the next one of its key may begin.
    pub(super) fn end_flight(&mut self, index: usize, now: Moment) -> TrialFlight {
        let flight = self.running.remove(index);
        let at = (flight.key, flight.plan);
        let flights = self.flights.entry(at).or_default();
        if let Some((id, start)) = flights.end_flight(flight.id, &self.replica, now) {
            let step = self.first_step(start);
            if let Some(next) = self.running.iter_mut().find(|flight| flight.has_id(at, id)) {
                next.step = step;
            }
        }
        self.flights.retain(|_, flights| !flights.is_empty());
        self.running.sort();
        flight
    }

    /// Starts a flight that waits, where it may, because its callers can wait no longer.
    pub(super) fn start_waiting(&mut self, index: usize) {
        let TrialFlight { key, plan, id, .. } = self.running[index];
        let flights = self.flights.entry((key, plan)).or_default();
        if let Some(start) = flights.start_waiting(id, &self.replica) {
            self.running[index].step = self.first_step(start);
        }
    }

    /// Stores the dataset of the ending flight in memory, if it may be stored.
    pub(super) fn store_in_memory(
        &mut self,
        flight: &TrialFlight,
        now: Moment,
    ) -> Option<TrialEntry> {
        let name = key_name(flight.key);
        let tags = tags_of(flight.key);
        let (fence, version, plan) = match &flight.step {
            FlightStep::Collected(start, version) => {
                (self.replica.may_store(*start, &name, &tags, now)?, *version, flight.plan)
            }
            FlightStep::Fetched(start, fetched) => {
                let (version, plan) = version_in(&fetched.dataset.body);
                (self.replica.may_store_fetched(*start, &name, fetched, now)?, version, plan)
            }
            FlightStep::Consulted(start, reading) => {
                let (version, plan) = version_of_reading(reading);
                let fence = self.replica.may_store_believed(*start, &name, reading, now)?;
                (fence, version, plan)
            }
            _ => return None,
        };
        let entry = TrialEntry { fence, version, plan };
        self.memory.insert((flight.key, flight.plan), entry);
        Some(entry)
    }

    /// Drops the datasets that are not valid any more: it changes no answer, and makes fewer
    /// states.
    pub(super) fn drop_invalid(&mut self) {
        let replica = &self.replica;
        self.memory.retain(|&(key, _), entry| {
            replica.is_valid(entry.fence, &key_name(key), &tags_of(key))
        });
    }

    pub(super) fn first_step(&self, start: StartPoint) -> FlightStep {
        if self.has_redis { FlightStep::Asking(start) } else { self.step_after_redis(start) }
    }

    /// Whether its replica has something to do.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.replica.next_wake().min(self.replica.next_store_wake()) <= now
    }

    pub(super) fn step_after_redis(&self, start: StartPoint) -> FlightStep {
        if self.has_store { FlightStep::Consulting(start) } else { FlightStep::Collecting(start) }
    }
}

impl TrialFlight {
    pub(super) fn has_id(&self, at: (TrialKey, u8), id: FlightId) -> bool {
        (self.key, self.plan, self.id) == (at.0, at.1, id)
    }

    /// Whether its next step is to ask Redis or the store.
    pub(super) fn is_about_to_ask(&self) -> bool {
        matches!(self.step, FlightStep::Asking(_) | FlightStep::Consulting(_))
    }

    /// Whether it has what it answers with.
    pub(super) fn is_done(&self) -> bool {
        matches!(
            self.step,
            FlightStep::Collected(..) | FlightStep::Fetched(..) | FlightStep::Consulted(..)
        )
    }

    /// The dataset that the flight offers Redis once it has read the source.
    pub(super) fn redis_dataset(&self) -> Option<TierDataset> {
        let FlightStep::Collected(start, version) = self.step else { return None };
        let fence = start.fence()?;
        Some(TierDataset { fence, tags: tags_of(self.key), body: body_of(version, self.plan) })
    }
}
