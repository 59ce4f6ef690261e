//! The store as the trials run it: the reference, its faults, and the oracle that watches it.

use std::sync::Arc;

use super::fleet::{CallPurpose, Process, TrialFleet, TrialMessage, Violation, WriterState};
use super::node::{FlightStep, TrialFlight, TrialNode};
use super::source::{TrialKey, TrialVersion, body_of, key_name, version_in};
use bfb::coherence::*;

/// The store of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TrialStore {
    pub(super) server: ReferenceStore,
    pub(super) life: StoreLife,
    pub(super) time: StoreTime,
    /// A stamping takes several calls.
    pub(super) splits: bool,
    /// A reading sees each of its stages at another moment.
    pub(super) scans: bool,
    /// What keeps it up to date is one step, call and reply.
    pub(super) prompt: bool,
    /// The readings that have begun.
    pub(super) scanning: Vec<TrialScan>,
    /// What a backup, or a standby, has.
    pub(super) copy: Option<ReferenceStore>,
}

/// A reading that has begun.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TrialScan {
    to: Process,
    sent: Moment,
    about: StorePurpose,
    began: TrialVersion,
    scan: StoreScan,
}

/// The purpose of a call: it determines where the reply belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum StorePurpose {
    /// A flight reads.
    Flight(TrialKey, u8, FlightId),
    /// A replica keeps the store up to date.
    Step,
    /// A writer stamps.
    Stamp(Fence),
    /// Nobody waits for the reply.
    Nothing,
}

/// A reply, with what the trial notes of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TrialStoreReply {
    reply: StoreReply,
    /// The part of a stamping that it answers.
    part: Option<(Stamping, StampingPart)>,
    /// The source's version when the call was carried out.
    began: TrialVersion,
}

impl TrialStoreReply {
    /// What a caller takes a reply for that does not come in time.
    pub(super) const LOST: Self = Self { reply: StoreReply::Refused, part: None, began: 0 };
}

pub(super) fn store_id() -> StoreId {
    StoreId(key_name(u8::MAX))
}

/// The version and the plan of the dataset that the store gave.
pub(super) fn version_of_reading(reading: &StoreReading) -> (TrialVersion, u8) {
    let body = reading.dataset.as_ref().and_then(|dataset| dataset.body.as_ref());
    version_in(body.expect("a trial stores no 404"))
}

/// A dataset's bytes in the store: after the others the source's version when its flight began.
fn store_body(version: TrialVersion, plan: u8, began: TrialVersion) -> Arc<[u8]> {
    body_of(version, plan).iter().copied().chain(began.to_le_bytes()).collect()
}

fn began_in(body: &[u8]) -> TrialVersion {
    version_in(&[&body[5..], &[0]].concat()).0
}

impl TrialStore {
    pub(super) fn new() -> Self {
        Self {
            server: ReferenceStore::new(StoreLife(0), StoreEra(0)),
            life: StoreLife(0),
            time: StoreTime(1),
            splits: false,
            scans: false,
            prompt: false,
            scanning: Vec::new(),
            copy: None,
        }
    }

    /// Goes back to the copy: another life.
    pub(super) fn go_back(&mut self) {
        if let Some(copy) = self.copy.clone() {
            self.server = copy;
            self.life = StoreLife(self.life.0 + 1);
        }
    }

    /// Somebody who does not keep to the rules writes a row that no flight can have written.
    pub(super) fn poison(&mut self) {
        let fence = StoreFence { era: StoreEra(0), seq: StoreSeq::MAX, time: StoreTime(u64::MAX) };
        let body = Some(store_body(0, 0, 0));
        let row = StoreDataset { fence, tags: super::source::tags_of(0), body };
        self.server.put_row(TrialNode::place(0, 0), row);
    }

    pub(super) fn is_poisoned(&self) -> bool {
        let row = self.server.dataset(&TrialNode::place(0, 0));
        row.is_some_and(|row| row.fence.seq > self.server.seq())
    }

    /// Carries out a call.
    fn run(&mut self, call: StoreCall) -> StoreReply {
        // A life has one era, unless Redis was told more than it holds.
        let fresh_era = StoreEra(self.life.0);
        let request = StoreRequest { protocol: STORE_PROTOCOL, fresh_era, call };
        self.server.run(self.life, self.time, &request)
    }

    /// The dataset of a place that anybody would believe.
    fn believed(&mut self, place: &DatasetPlace) -> Option<StoreDataset> {
        let read = StoreCall::Read { place: Some(place.clone()), told: None };
        match self.run(read) {
            StoreReply::Reading(reading) => reading.dataset,
            _ => None,
        }
    }
}

impl TrialFleet {
    pub(super) fn send_to_store(&mut self, from: Process, about: StorePurpose, call: StoreCall) {
        let sent = self.clock(from);
        let call = match call {
            StoreCall::Stamp(stamping) if self.store.splits => {
                let part = stamping.first_part();
                StoreCall::StampPart(stamping, part)
            }
            call => call,
        };
        self.outgoing.push(TrialMessage::StoreRequest { from, sent, about, call });
    }

    /// Takes the step of a replica towards a store that holds everything, if one is due.
    pub(super) fn take_store_step(&mut self, node: usize) {
        let now = self.clock(Process::Node(node));
        match self.nodes[node].replica.store_step(now) {
            Some(StoreStep::Call(call)) if self.store.prompt => {
                let reply = self.store.run(call);
                self.nodes[node].replica.on_store_reply(now, now, &reply);
                self.handle_event(node, ReplicaEvent::Tick);
            }
            Some(StoreStep::Call(call)) => {
                self.send_to_store(Process::Node(node), StorePurpose::Step, call);
            }
            Some(StoreStep::ReadLog(after)) => {
                let read = ScriptCall::ReadLog { after, max: 2 };
                self.send(Process::Node(node), CallPurpose::StoreStep, read);
            }
            None => {}
        }
    }

    /// Lets a writer stamp the store, perhaps again.
    pub(super) fn stamp(&mut self, writer: usize) {
        let of = &self.writers[writer];
        let WriterState::Waiting(invalidation) = &of.state else { return };
        if !of.has_store || !invalidation.missing_stores().contains(&store_id()) {
            return;
        }
        let (token, stamping) = (invalidation.token(), invalidation.stamping(&of.scopes));
        let stamp = StoreCall::Stamp(stamping);
        self.send_to_store(Process::Writer(writer), StorePurpose::Stamp(token), stamp);
    }

    /// Carries out a call of the store, and sends its reply.
    pub(super) fn serve_store(&mut self, request: TrialMessage) {
        let TrialMessage::StoreRequest { from, sent, about, call } = request else { return };
        let began = match &about {
            StorePurpose::Flight(key, ..) => self.source.versions[usize::from(*key)],
            _ => 0,
        };
        if let Some(scan) = StoreScan::new(&call).filter(|_| self.store.scans) {
            self.store.scanning.push(TrialScan { to: from, sent, about, began, scan });
            self.store.scanning.sort();
            return;
        }
        let written = match &call {
            StoreCall::Write { place, .. } => Some((place.clone(), self.store.believed(place))),
            _ => None,
        };
        let reply = self.store.run(call.clone());
        if let Some((place, Some(before))) = written
            && let Some(after) = self.store.believed(&place)
        {
            let bytes = |row: &StoreDataset| row.body.clone().unwrap();
            let goes_back = version_in(&bytes(&after)).0 < began_in(&bytes(&before));
            self.note_violation(Violation::RowWentBack, goes_back);
        }
        let part = match call {
            StoreCall::StampPart(stamping, part) => Some((stamping, part)),
            _ => None,
        };
        self.reply_from_store(from, sent, about, TrialStoreReply { reply, part, began });
    }

    fn reply_from_store(
        &mut self,
        to: Process,
        sent: Moment,
        about: StorePurpose,
        reply: TrialStoreReply,
    ) {
        if about != StorePurpose::Nothing {
            self.outgoing.push(TrialMessage::StoreAnswer { to, sent, about, reply });
        }
    }

    /// Does the next stage of a reading that has begun.
    pub(super) fn scan(&mut self, index: usize) {
        let TrialStore { server, life, time, scanning, .. } = &mut self.store;
        let Some(reply) = server.scan(*life, *time, &mut scanning[index].scan) else { return };
        let TrialScan { to, sent, about, began, .. } = self.store.scanning.remove(index);
        self.reply_from_store(to, sent, about, TrialStoreReply { reply, part: None, began });
    }

    /// Hands the store's reply to its process, or makes the next call of a stamping.
    pub(super) fn on_store_answer(
        &mut self,
        to: Process,
        sent: Moment,
        about: StorePurpose,
        answer: TrialStoreReply,
    ) {
        if let (Some((stamping, done)), StoreReply::Stamped(receipt)) =
            (&answer.part, &answer.reply)
            && let Some(part) = stamping.part_after(*done, *receipt)
        {
            let call = StoreCall::StampPart(stamping.clone(), part);
            self.outgoing.push(TrialMessage::StoreRequest { from: to, sent, about, call });
            return;
        }
        match (to, about) {
            (Process::Node(node), StorePurpose::Step) => {
                let now = self.clock(to);
                self.nodes[node].replica.on_store_reply(now, sent, &answer.reply);
                self.handle_event(node, ReplicaEvent::Tick);
            }
            (Process::Node(node), StorePurpose::Flight(key, plan, id)) => {
                self.on_store_reading(node, sent, (key, plan, id), answer);
            }
            (Process::Writer(writer), StorePurpose::Stamp(token)) => {
                self.on_writer_stamped(writer, token, &answer.reply);
            }
            _ => {}
        }
    }

    fn on_writer_stamped(&mut self, writer: usize, token: Fence, reply: &StoreReply) {
        let now = self.clock(Process::Writer(writer));
        if let WriterState::Waiting(invalidation) = &mut self.writers[writer].state
            && invalidation.token() == token
        {
            match reply {
                StoreReply::Stamped(_) => invalidation.on_stamped(now),
                StoreReply::OtherLife => self.stamp(writer),
                _ => {}
            }
        }
        self.check_acknowledged(writer);
    }

    /// Takes the store's reply to a flight.
    fn on_store_reading(
        &mut self,
        node: usize,
        sent: Moment,
        of: (TrialKey, u8, FlightId),
        answer: TrialStoreReply,
    ) {
        let replica = &mut self.nodes[node].replica;
        match &answer.reply {
            StoreReply::Reading(reading) => replica.on_store_reading(reading),
            StoreReply::OtherLife => replica.on_store_gone_back(),
            _ => {}
        }
        if let Some(index) = self.flight(node, of, sent) {
            let flight = &mut self.nodes[node].running[index];
            let FlightStep::Consulting(start) = flight.step else { return };
            flight.step = FlightStep::Collecting(start);
            if let StoreReply::Reading(reading) = answer.reply {
                flight.began = Some((reading.fence, answer.began));
                if reading.dataset.is_some() {
                    flight.step = FlightStep::Consulted(start, reading);
                }
            }
        }
        self.handle_event(node, ReplicaEvent::Tick);
    }

    /// Lets a flight go on without the store, which does not answer.
    pub(super) fn give_up_store(&mut self, node: usize, flight: usize) {
        let flight = &mut self.nodes[node].running[flight];
        if let FlightStep::Consulting(start) = flight.step {
            flight.step = FlightStep::Collecting(start);
        }
    }

    /// Whether a flight may not answer with what it read in the store: then it reads the source.
    pub(super) fn refuses_reading(&mut self, node: usize, flight: usize) -> bool {
        let now = self.clock(Process::Node(node));
        let of = &mut self.nodes[node];
        let TrialFlight { key, is_shared, step: FlightStep::Consulted(start, reading), .. } =
            &of.running[flight]
        else {
            return false;
        };
        if of.replica.believed_dataset(*start, &key_name(*key), reading, *is_shared, now).is_some()
        {
            return false;
        }
        of.running[flight].step = FlightStep::Collecting(*start);
        of.replica.on_store_found_behind();
        self.handle_event(node, ReplicaEvent::Tick);
        true
    }

    /// Notes what an ending flight hands out from the store, and passes it on to Redis; or writes
    /// to the store what it collected.
    pub(super) fn end_in_store(
        &mut self,
        node: usize,
        flight: &TrialFlight,
        version: TrialVersion,
    ) {
        let of = &self.nodes[node];
        let place = TrialNode::place(flight.key, flight.plan);
        match &flight.step {
            FlightStep::Consulted(start, reading) => {
                let applied = of.newest_applied.get(&flight.key).copied().unwrap_or(0);
                let fence = of.replica.fence_of_reading(*start, reading);
                let may_serve = of.replica.may_serve(self.clock(Process::Node(node)));
                let has_redis = of.has_redis;
                self.note_violation(Violation::OutdatedHere, version < applied);
                let dataset = reading.dataset.as_ref().expect("the flight has a dataset");
                if let Some(fence) = fence.filter(|_| has_redis && may_serve) {
                    let body = body_of(version, flight.plan);
                    let dataset = TierDataset { fence, tags: dataset.tags.clone(), body };
                    let age = std::time::Duration::ZERO;
                    let store = ScriptCall::Store { place, dataset, age };
                    self.send(Process::Node(node), CallPurpose::Pass(flight.key), store);
                }
            }
            FlightStep::Collected(..) if of.has_store => {
                let Some((fence, began)) = flight.began else { return };
                let tags = super::source::tags_of(flight.key);
                let body = Some(store_body(version, flight.plan, began));
                let dataset = StoreDataset { fence, tags, body };
                let write = StoreCall::Write { place, dataset };
                self.send_to_store(Process::Node(node), StorePurpose::Nothing, write);
            }
            _ => {}
        }
    }
}
