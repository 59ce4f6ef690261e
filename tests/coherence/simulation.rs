//! The seeded simulation: a larger fleet over a hostile network, with clocks that drift, for as
//! long as one likes.
//!
//! Everything that happens follows from the seed: the same seed and size give the same run. Time is
//! in microseconds.

mod faults;
mod network;
mod store_faults;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use super::fault_profile::FaultProfile;
use super::fleet::{
    CallPurpose, Process, TrialFleet, TrialMessage, TrialWriter, Violation, WriterState,
};
use super::guard_removal::GuardRemoval;
use super::node::{FlightStep, TrialNode};
use super::source::{TrialKey, TrialSource, key_name, tags_of};
use super::store::{StorePurpose, TrialStore, TrialStoreReply, store_id};
use bfb::coherence::*;

/// The number of keys that requests name.
const KEYS: u8 = 6;

/// The seed and the bounds of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunSize {
    pub(super) seed: u64,
    pub(super) sidecars: usize,
    pub(super) steps: u64,
    /// The most frequent kind of fault, where it does not follow from the seed.
    pub(super) favourite: Option<u8>,
    /// Whether there is a store, where it does not follow from the seed.
    pub(super) store: Option<bool>,
    pub(super) removal: GuardRemoval,
}

/// How often each event happened: this tells a sound run from one in which nothing happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) reads: u64,
    pub(super) hits: u64,
    pub(super) acknowledged: u64,
    pub(super) epochs: u128,
    pub(super) faults: u64,
    pub(super) from_store: u64,
}

/// A broken promise, and how to reproduce it.
#[derive(Debug)]
#[expect(dead_code, reason = "read through Debug")]
pub(super) struct FailedRun {
    pub(super) size: RunSize,
    pub(super) step: u64,
    pub(super) wrong: Option<Violation>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[expect(
    clippy::large_enum_variant,
    reason = "most events are arrivals, and none is kept for long"
)]
enum SimulatedEvent {
    Wake(usize),
    /// A message reaches its end; a message of or to an earlier process of that name, or over a
    /// subscription that broke since, does not.
    Arrive(TrialMessage, u32),
    Read(usize),
    StepFlight(usize),
    Write(usize),
    Question(usize),
    Resubscribe(usize, u32),
    RestartNode(usize),
    Fault,
    StoreFault,
    ScanStore,
    DropStamps(StoreSeq),
    ServerUp,
    Depose,
}

/// A run.
pub(super) struct Simulation {
    size: RunSize,
    rng: fastrand::Rng,
    profile: FaultProfile,
    now: u64,
    ordinal: u64,
    queue: BinaryHeap<Reverse<(u64, u64, SimulatedEvent)>>,
    fleet: TrialFleet,
    rates: Vec<f64>,
    /// Counts the processes that bore a node's name, and the subscriptions it had.
    incarnation: Vec<u32>,
    subscription: Vec<u32>,
    subscribed: Vec<bool>,
    /// When the last message of a subscription arrives: it keeps the order.
    subscription_until: Vec<u64>,
    /// All messages from a process and to it are lost until then.
    mute_until: Vec<u64>,
    deaf_until: Vec<u64>,
    paused_until: Vec<u64>,
    /// All messages between a process and the store are lost until then.
    store_cut_until: Vec<u64>,
    /// The store carries out nothing until then.
    store_frozen_until: u64,
    /// Which processes still talk to the deposed primary.
    uses_deposed: Vec<bool>,
    server_up: bool,
    redis_replica: ReferenceServer,
    tally: Tally,
}

impl Simulation {
    pub(super) fn new(size: RunSize) -> Self {
        size.removal.apply();
        let mut rng = fastrand::Rng::with_seed(size.seed);
        let mut profile = FaultProfile::draw(&mut rng);
        if let Some(favourite) = size.favourite {
            profile.prefer(favourite);
        }
        profile.store = size.store.unwrap_or(profile.store);
        let writers = 1 + rng.usize(..3);
        let processes = size.sidecars + writers;
        let server = ReferenceServer::new(profile.limits);
        let writer = TrialWriter {
            state: WriterState::Idle,
            epoch_age: EpochAge::new(profile.writer_lease(), profile.grace),
            scopes: [].into(),
            has_store: profile.writers_have_store(),
        };
        let fleet = TrialFleet {
            clocks: vec![Duration::ZERO; processes],
            source: TrialSource::new(KEYS),
            nodes: Vec::new(),
            writers: vec![writer; writers],
            server: server.clone(),
            life: ServerLife(0),
            deposed: None,
            next_epoch: 1,
            store: TrialStore { splits: profile.splits, scans: profile.scans, ..TrialStore::new() },
            outgoing: Vec::new(),
            violation: None,
        };
        let rates = (0..processes).map(|_| FaultProfile::rate(&mut rng)).collect();
        let mut new = Self {
            size,
            rng,
            profile,
            now: 0,
            ordinal: 0,
            queue: BinaryHeap::new(),
            fleet,
            rates,
            incarnation: vec![0; processes],
            subscription: vec![0; processes],
            subscribed: vec![false; processes],
            subscription_until: vec![0; processes],
            mute_until: vec![0; processes],
            deaf_until: vec![0; processes],
            paused_until: vec![0; processes],
            store_cut_until: vec![0; processes],
            store_frozen_until: 0,
            uses_deposed: vec![false; processes],
            server_up: true,
            redis_replica: server,
            tally: Tally::default(),
        };
        new.populate();
        new
    }

    fn populate(&mut self) {
        for node in 0..self.size.sidecars {
            let new_node = self.node(node);
            self.fleet.nodes.push(new_node);
            self.at(0, SimulatedEvent::Wake(node));
            self.after(5_000, SimulatedEvent::Resubscribe(node, 0));
            self.after(20_000, SimulatedEvent::Read(node));
            self.after(20_000, SimulatedEvent::StepFlight(node));
        }
        (0..self.fleet.writers.len())
            .for_each(|writer| self.after(100_000, SimulatedEvent::Write(writer)));
        self.after(1_000_000, SimulatedEvent::Fault);
        if self.profile.store {
            self.name_store();
            self.after(1_000_000, SimulatedEvent::StoreFault);
        }
    }

    fn node(&mut self, index: usize) -> TrialNode {
        let profile = &self.profile;
        let name = MemberName(format!("{index}.{}", self.incarnation[index]).into());
        let lease = if self.rng.bool() {
            profile.lease
        } else {
            profile.lease.mul_f64(self.rng.f64().max(0.3))
        };
        let has_store = profile.store && index % 3 != 2;
        let config = ReplicaConfig {
            failover_grace: profile.grace,
            gap_patience: profile.patience.mul_f64(self.rng.f64()),
            stamps_max: profile.limits.stamps_max,
            early_entries_max: 4,
            store: has_store.then(store_id),
            store_patience: profile.patience / 2,
            ..ReplicaConfig::new(name.clone(), lease)
        };
        TrialNode {
            replica: Replica::new(config),
            name,
            plan: self.rng.u8(..2),
            memory: BTreeMap::new(),
            flights: BTreeMap::new(),
            running: Vec::new(),
            newest_applied: BTreeMap::new(),
            is_alive: true,
            has_redis: profile.redis,
            has_claims: profile.redis && self.rng.bool(),
            is_urgent: self.rng.bool(),
            has_store,
        }
    }

    /// Runs to the end, then lets everything heal.
    pub(super) fn run(mut self) -> Result<Tally, FailedRun> {
        for step in 0..self.size.steps {
            self.step();
            if self.fleet.violation.is_some() {
                return Err(FailedRun { size: self.size, step, wrong: self.fleet.violation });
            }
        }
        self.profile.calm();
        self.mute_until.fill(0);
        self.deaf_until.fill(0);
        self.paused_until.fill(0);
        self.store_cut_until.fill(0);
        self.store_frozen_until = 0;
        self.uses_deposed.fill(false);
        self.fleet.deposed = None;
        self.server_up = true;
        let until =
            self.now + u64::try_from(20 * self.profile.lease.as_micros()).unwrap_or(u64::MAX);
        while self.now < until && self.fleet.violation.is_none() {
            self.step();
        }
        let healed = self.fleet.violation.is_none() && self.has_healed();
        self.tally.epochs = self.fleet.next_epoch;
        if healed {
            Ok(self.tally)
        } else {
            Err(FailedRun { size: self.size, step: self.size.steps, wrong: self.fleet.violation })
        }
    }

    fn has_healed(&self) -> bool {
        let serves = |node: usize| {
            let of = &self.fleet.nodes[node];
            let is_gone = !of.is_alive || of.replica.next_wake() == Moment::NEVER;
            let may_serve = of.replica.may_serve(self.fleet.clock(Process::Node(node)));
            is_gone || may_serve && !of.replica.owes_store()
        };
        (0..self.fleet.nodes.len()).all(serves)
            && self.fleet.writers.iter().all(|writer| writer.state == WriterState::Idle)
    }

    fn at(&mut self, time: u64, event: SimulatedEvent) {
        self.ordinal += 1;
        self.queue.push(Reverse((time.max(self.now), self.ordinal, event)));
    }

    /// Schedules an event after about `mean` microseconds, seldom much later.
    fn after(&mut self, mean: u64, event: SimulatedEvent) {
        let delay = self.profile.delay(&mut self.rng, mean);
        self.at(self.now + delay, event);
    }

    fn step(&mut self) {
        let Some(Reverse((time, ordinal, event))) = self.queue.pop() else { return };
        self.now = time;
        self.fleet.store.time = StoreTime(time + 1);
        for (clock, rate) in self.fleet.clocks.iter_mut().zip(&self.rates) {
            // Micros fit in 52 bits for a century.
            #[expect(clippy::cast_precision_loss, reason = "a run is far shorter")]
            let shown = time as f64 * rate / 1e6;
            *clock = Duration::from_secs_f64(shown);
        }
        if let Some(who) = Self::affected_process(&event) {
            let index = self.index(who);
            if self.paused_until[index] > time {
                // Under its old number: a pause that grows longer keeps the order.
                let wake = self.paused_until[index];
                return self.queue.push(Reverse((wake, ordinal, event)));
            }
        }
        self.handle_event(event);
        self.dispatch();
    }

    fn index(&self, who: Process) -> usize {
        match who {
            Process::Node(index) => index,
            Process::Writer(index) => self.size.sidecars + index,
        }
    }

    /// The process that must be awake for an event to happen.
    fn affected_process(event: &SimulatedEvent) -> Option<Process> {
        match event {
            SimulatedEvent::Wake(node)
            | SimulatedEvent::Read(node)
            | SimulatedEvent::StepFlight(node) => Some(Process::Node(*node)),
            SimulatedEvent::Arrive(
                TrialMessage::Answer { to, .. } | TrialMessage::StoreAnswer { to, .. },
                _,
            ) => Some(*to),
            SimulatedEvent::Arrive(
                TrialMessage::Published { to, .. } | TrialMessage::Hint { to, .. },
                _,
            ) => Some(Process::Node(*to)),
            SimulatedEvent::Write(writer) | SimulatedEvent::Question(writer) => {
                Some(Process::Writer(*writer))
            }
            _ => None,
        }
    }

    fn handle_event(&mut self, event: SimulatedEvent) {
        match event {
            SimulatedEvent::Wake(node) => self.wake(node),
            SimulatedEvent::Arrive(message, token) => self.arrive(message, token),
            SimulatedEvent::Read(node) => self.read(node),
            SimulatedEvent::StepFlight(node) => self.step_flight(node),
            SimulatedEvent::Write(writer) => self.write(writer),
            SimulatedEvent::Question(writer) => self.question(writer),
            SimulatedEvent::Resubscribe(node, subscription) => self.resubscribe(node, subscription),
            SimulatedEvent::RestartNode(node) => self.restart_node(node),
            SimulatedEvent::Fault => self.fault(),
            SimulatedEvent::StoreFault => self.store_fault(),
            SimulatedEvent::ScanStore => self.scan_store(),
            SimulatedEvent::DropStamps(up_to) => self.fleet.store.server.drop_stamps(up_to),
            SimulatedEvent::ServerUp => self.server_up = true,
            SimulatedEvent::Depose => self.depose(),
        }
    }

    fn wake(&mut self, node: usize) {
        if self.fleet.nodes[node].is_alive {
            self.fleet.handle_event(node, ReplicaEvent::Tick);
        }
        self.after(self.profile.tick, SimulatedEvent::Wake(node));
    }

    fn read(&mut self, node: usize) {
        if self.fleet.nodes[node].is_alive {
            let key = self.rng.u8(..KEYS);
            let hit = self.fleet.read(node, key);
            self.tally.reads += 1;
            self.tally.hits += u64::from(hit);
        }
        self.after(self.profile.read_gap, SimulatedEvent::Read(node));
    }

    /// Lets one flight of the node take one step.
    fn step_flight(&mut self, node: usize) {
        let running = self.fleet.nodes[node].running.len();
        if running > 0 && self.fleet.nodes[node].is_alive {
            let flight = self.rng.usize(..running);
            match self.fleet.nodes[node].running[flight].step {
                FlightStep::Collecting(_) => self.fleet.collect(node, flight),
                FlightStep::Collected(..) | FlightStep::Fetched(..) => {
                    self.fleet.end_flight(node, flight);
                }
                FlightStep::Consulted(..) => {
                    self.fleet.end_flight(node, flight);
                    let is_over = self.fleet.nodes[node].running.len() < running;
                    self.tally.from_store += u64::from(is_over);
                }
                FlightStep::Waiting => self.fleet.start_waiting(node, flight),
                FlightStep::Asking(_) | FlightStep::Claiming(_) | FlightStep::Consulting(_) => {}
            }
        }
        self.after(self.profile.flight_gap, SimulatedEvent::StepFlight(node));
    }

    fn write(&mut self, writer: usize) {
        let key = self.rng.u8(..KEYS);
        let scope = match self.rng.u8(..12) {
            0 if self.profile.store && self.rng.bool() => InvalidationScope::Key("no\0key".into()),
            0 => InvalidationScope::All,
            1..4 => InvalidationScope::Tag(tags_of(key)[0].clone()),
            _ => InvalidationScope::Key(key_name(key)),
        };
        match self.fleet.writers[writer].state {
            WriterState::Idle if self.profile.is_calm => {}
            WriterState::Idle if self.profile.hints && self.rng.u8(..4) == 0 => self.hint(key),
            WriterState::Idle => {
                self.fleet.write(writer, key, Arc::new([scope]));
                self.after(30_000, SimulatedEvent::Question(writer));
            }
            WriterState::Sent(_) | WriterState::Waiting(_) => {}
        }
        self.after(self.profile.write_gap, SimulatedEvent::Write(writer));
    }

    fn hint(&mut self, key: TrialKey) {
        self.fleet.source.write(key);
        let version = self.fleet.source.versions[usize::from(key)];
        let hints = (0..self.size.sidecars).map(|to| TrialMessage::Hint { to, key, version });
        if self.server_up {
            self.fleet.outgoing.extend(hints);
        }
    }

    fn question(&mut self, writer: usize) {
        self.fleet.check_acknowledged(writer);
        match self.fleet.writers[writer].state {
            WriterState::Idle => return self.tally.acknowledged += 1,
            WriterState::Waiting(_) => {
                self.fleet.stamp(writer);
                self.fleet.ask_progress(writer);
            }
            // The script was not answered for a whole lease, so it is not known whether it ran: the
            // writer sends it again, for everything.
            WriterState::Sent(sent)
                if self.fleet.clock(Process::Writer(writer)).since(sent) > self.profile.lease =>
            {
                self.fleet.invalidate(writer, Arc::new([InvalidationScope::All]));
            }
            WriterState::Sent(_) => {}
        }
        self.after(20_000, SimulatedEvent::Question(writer));
    }

    fn restart_node(&mut self, node: usize) {
        self.incarnation[node] += 1;
        self.fleet.nodes[node] = self.node(node);
        self.break_subscription(node);
    }

    fn resubscribe(&mut self, node: usize, subscription: u32) {
        if subscription != self.subscription[node] {
            return;
        }
        if !self.server_up || self.deaf_until[node] > self.now || self.uses_deposed[node] {
            return self.after(50_000, SimulatedEvent::Resubscribe(node, subscription));
        }
        self.subscribed[node] = true;
        if self.fleet.nodes[node].is_alive {
            self.fleet.handle_event(node, ReplicaEvent::LinkUp { ordered: self.profile.ordered });
        }
    }

    fn break_subscription(&mut self, node: usize) {
        self.subscription[node] += 1;
        self.subscribed[node] = false;
        if self.fleet.nodes[node].is_alive {
            self.fleet.handle_event(node, ReplicaEvent::LinkLost);
        }
        self.after(50_000, SimulatedEvent::Resubscribe(node, self.subscription[node]));
    }
}
