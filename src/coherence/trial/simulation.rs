//! The seeded simulation: a larger fleet over a hostile network, with clocks that drift, for as
//! long as one likes.
//!
//! Everything that happens comes out of the seed: the same seed and size give the same run. Time is
//! in microseconds.

mod faults;
mod network;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use super::fleet::{About, Fleet, Message, Who, Writer, Writing, Wrong};
use super::hostility::Hostility;
use super::node::{Node, Step};
use super::source::{Key, Source, key_name, tags_of};

/// How many keys the fleet is asked for.
const KEYS: u8 = 6;

/// What the run is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) seed: u64,
    pub(super) sidecars: usize,
    pub(super) steps: u64,
    /// The kind of fault to have most of, where it is not left to the seed.
    pub(super) favourite: Option<u8>,
    pub(super) guards: Guards,
}

/// What happened, so that a quiet run is told from a sound one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) reads: u64,
    pub(super) hits: u64,
    pub(super) acknowledged: u64,
    pub(super) epochs: u128,
    pub(super) faults: u64,
}

/// A promise that was broken, and how to see it again.
#[derive(Debug)]
#[expect(dead_code, reason = "read through Debug")]
pub(super) struct Broken {
    pub(super) size: Size,
    pub(super) step: u64,
    pub(super) wrong: Option<Wrong>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Wake(usize),
    /// A message reaches its end; what was sent by or to an earlier process of that name, or over a
    /// subscription that broke since, does not.
    Arrive(Message, u32),
    Read(usize),
    Fly(usize),
    Write(usize),
    Question(usize),
    Resubscribe(usize, u32),
    Reborn(usize),
    Fault,
    ServerUp,
    Depose,
}

/// A run.
pub(super) struct Simulation {
    size: Size,
    rng: fastrand::Rng,
    hostility: Hostility,
    now: u64,
    ordinal: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    fleet: Fleet,
    rates: Vec<f64>,
    /// Counts the processes that bore a node's name, and the subscriptions it had.
    incarnation: Vec<u32>,
    subscription: Vec<u32>,
    subscribed: Vec<bool>,
    /// When the last message of a subscription arrives: it keeps the order.
    subscription_until: Vec<u64>,
    /// What a process sends is lost until then, and what is sent to it.
    mute_until: Vec<u64>,
    deaf_until: Vec<u64>,
    paused_until: Vec<u64>,
    /// Talks to the deposed primary still.
    attached: Vec<bool>,
    server_up: bool,
    replica: Server,
    tally: Tally,
}

impl Simulation {
    pub(super) fn new(size: Size) -> Self {
        let mut rng = fastrand::Rng::with_seed(size.seed);
        let mut hostility = Hostility::draw(&mut rng);
        if let Some(favourite) = size.favourite {
            hostility.prefer(favourite);
        }
        let writers = 1 + rng.usize(..3);
        let processes = size.sidecars + writers;
        let server = Server::new(hostility.limits, size.guards);
        let writer = Writer {
            state: Writing::Idle,
            witness: Witness::new(hostility.writer_lease(), hostility.grace),
            guards: size.guards,
        };
        let fleet = Fleet {
            clocks: vec![Duration::ZERO; processes],
            source: Source::new(KEYS),
            nodes: Vec::new(),
            writers: vec![writer; writers],
            server: server.clone(),
            life: Life(0),
            deposed: None,
            era: 1,
            out: Vec::new(),
            wrong: None,
        };
        let rates = (0..processes).map(|_| hostility.rate(&mut rng)).collect();
        let mut new = Self {
            size,
            rng,
            hostility,
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
            attached: vec![false; processes],
            server_up: true,
            replica: server,
            tally: Tally::default(),
        };
        new.populate();
        new
    }

    fn populate(&mut self) {
        for node in 0..self.size.sidecars {
            let born = self.node(node);
            self.fleet.nodes.push(born);
            self.at(0, Happening::Wake(node));
            self.after(5_000, Happening::Resubscribe(node, 0));
            self.after(20_000, Happening::Read(node));
            self.after(20_000, Happening::Fly(node));
        }
        (0..self.fleet.writers.len())
            .for_each(|writer| self.after(100_000, Happening::Write(writer)));
        self.after(1_000_000, Happening::Fault);
    }

    fn node(&mut self, index: usize) -> Node {
        let hostility = &self.hostility;
        let name = Name(format!("{index}.{}", self.incarnation[index]).into());
        let lease = if self.rng.bool() {
            hostility.lease
        } else {
            hostility.lease.mul_f64(self.rng.f64().max(0.3))
        };
        let config = Config {
            grace: hostility.grace,
            patience: hostility.patience.mul_f64(self.rng.f64()),
            stamps_max: hostility.limits.stamps_max,
            early_max: 4,
            guards: self.size.guards,
            ..Config::new(name.clone(), lease)
        };
        Node {
            sidecar: Sidecar::new(config),
            name,
            plan: self.rng.u8(..2),
            memory: BTreeMap::new(),
            flights: BTreeMap::new(),
            air: Vec::new(),
            known: BTreeMap::new(),
            alive: true,
            asks_redis: hostility.redis,
            claims: hostility.redis && self.rng.bool(),
            is_pressed: self.rng.bool(),
        }
    }

    /// Runs to the end, then lets everything heal.
    pub(super) fn run(mut self) -> Result<Tally, Broken> {
        for step in 0..self.size.steps {
            self.step();
            if self.fleet.wrong.is_some() {
                return Err(Broken { size: self.size, step, wrong: self.fleet.wrong });
            }
        }
        self.hostility.calm();
        self.mute_until.fill(0);
        self.deaf_until.fill(0);
        self.paused_until.fill(0);
        self.attached.fill(false);
        self.fleet.deposed = None;
        self.server_up = true;
        let until =
            self.now + u64::try_from(20 * self.hostility.lease.as_micros()).unwrap_or(u64::MAX);
        while self.now < until && self.fleet.wrong.is_none() {
            self.step();
        }
        let healed = self.fleet.wrong.is_none() && self.healed();
        self.tally.epochs = self.fleet.era;
        if healed {
            Ok(self.tally)
        } else {
            Err(Broken { size: self.size, step: self.size.steps, wrong: self.fleet.wrong })
        }
    }

    fn healed(&self) -> bool {
        let serves = |node: usize| {
            let of = &self.fleet.nodes[node];
            let gone = !of.alive || of.sidecar.wakes_at() == Moment::NEVER;
            gone || of.sidecar.may_serve(self.fleet.clock(Who::Node(node)))
        };
        (0..self.fleet.nodes.len()).all(serves)
            && self.fleet.writers.iter().all(|writer| writer.state == Writing::Idle)
    }

    fn at(&mut self, time: u64, happening: Happening) {
        self.ordinal += 1;
        self.queue.push(Reverse((time.max(self.now), self.ordinal, happening)));
    }

    /// Within about that many microseconds, seldom much later.
    fn after(&mut self, mean: u64, happening: Happening) {
        let delay = self.hostility.delay(&mut self.rng, mean);
        self.at(self.now + delay, happening);
    }

    fn step(&mut self) {
        let Some(Reverse((time, _, happening))) = self.queue.pop() else { return };
        self.now = time;
        for (clock, rate) in self.fleet.clocks.iter_mut().zip(&self.rates) {
            // Micros fit in 52 bits for a century.
            #[expect(clippy::cast_precision_loss, reason = "a run is far shorter")]
            let shown = time as f64 * rate / 1e6;
            *clock = Duration::from_secs_f64(shown);
        }
        if let Some(who) = Self::sufferer(&happening) {
            let index = self.index(who);
            if self.paused_until[index] > time {
                let wake = self.paused_until[index];
                return self.at(wake, happening);
            }
        }
        self.happen(happening);
        self.dispatch();
    }

    fn index(&self, who: Who) -> usize {
        match who {
            Who::Node(index) => index,
            Who::Writer(index) => self.size.sidecars + index,
        }
    }

    /// Who must be awake for it to happen.
    fn sufferer(happening: &Happening) -> Option<Who> {
        match happening {
            Happening::Wake(node) | Happening::Read(node) | Happening::Fly(node) => {
                Some(Who::Node(*node))
            }
            Happening::Arrive(Message::Answer { to, .. }, _) => Some(*to),
            Happening::Arrive(Message::Published { to, .. } | Message::Hint { to, .. }, _) => {
                Some(Who::Node(*to))
            }
            Happening::Write(writer) | Happening::Question(writer) => Some(Who::Writer(*writer)),
            _ => None,
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake(node) => self.wake(node),
            Happening::Arrive(message, token) => self.arrive(message, token),
            Happening::Read(node) => self.read(node),
            Happening::Fly(node) => self.fly(node),
            Happening::Write(writer) => self.write(writer),
            Happening::Question(writer) => self.question(writer),
            Happening::Resubscribe(node, subscription) => self.resubscribe(node, subscription),
            Happening::Reborn(node) => self.reborn(node),
            Happening::Fault => self.fault(),
            Happening::ServerUp => self.server_up = true,
            Happening::Depose => self.depose(),
        }
    }

    fn wake(&mut self, node: usize) {
        if self.fleet.nodes[node].alive {
            self.fleet.tell(node, Event::Tick);
        }
        self.after(self.hostility.tick, Happening::Wake(node));
    }

    fn read(&mut self, node: usize) {
        if self.fleet.nodes[node].alive {
            let key = self.rng.u8(..KEYS);
            let hit = self.fleet.read(node, key);
            self.tally.reads += 1;
            self.tally.hits += u64::from(hit);
        }
        self.after(self.hostility.reading, Happening::Read(node));
    }

    /// One flight of the node takes one step.
    fn fly(&mut self, node: usize) {
        let air = self.fleet.nodes[node].air.len();
        if air > 0 && self.fleet.nodes[node].alive {
            let flight = self.rng.usize(..air);
            match self.fleet.nodes[node].air[flight].step {
                Step::Collecting(_) => self.fleet.collect(node, flight),
                Step::Collected(..) | Step::Fetched(..) => self.fleet.land(node, flight),
                Step::Waiting => self.fleet.press(node, flight),
                Step::Asking(_) | Step::Claiming(_) => {}
            }
        }
        self.after(self.hostility.flying, Happening::Fly(node));
    }

    fn write(&mut self, writer: usize) {
        let key = self.rng.u8(..KEYS);
        let scope = match self.rng.u8(..12) {
            0 => Scope::All,
            1..4 => Scope::Tag(tags_of(key)[0].clone()),
            _ => Scope::Key(key_name(key)),
        };
        match self.fleet.writers[writer].state {
            Writing::Idle if self.hostility.calm => {}
            Writing::Idle if self.hostility.hints && self.rng.u8(..4) == 0 => self.hint(key),
            Writing::Idle => {
                self.fleet.write(writer, key, Arc::new([scope]));
                self.after(30_000, Happening::Question(writer));
            }
            Writing::Sent(_) | Writing::Waiting(_) => {}
        }
        self.after(self.hostility.writing, Happening::Write(writer));
    }

    fn hint(&mut self, key: Key) {
        self.fleet.source.write(key);
        let version = self.fleet.source.versions[usize::from(key)];
        let heard = (0..self.size.sidecars).map(|to| Message::Hint { to, key, version });
        if self.server_up {
            self.fleet.out.extend(heard);
        }
    }

    fn question(&mut self, writer: usize) {
        self.fleet.look(writer);
        match self.fleet.writers[writer].state {
            Writing::Idle => return self.tally.acknowledged += 1,
            Writing::Waiting(_) => self.fleet.question(writer),
            // No answer for so long: it is sent again, for everything, since nobody knows what
            // became of it.
            Writing::Sent(sent)
                if self.fleet.clock(Who::Writer(writer)).since(sent) > self.hostility.lease =>
            {
                self.fleet.invalidate(writer, Arc::new([Scope::All]));
            }
            Writing::Sent(_) => {}
        }
        self.after(20_000, Happening::Question(writer));
    }

    fn reborn(&mut self, node: usize) {
        self.incarnation[node] += 1;
        self.fleet.nodes[node] = self.node(node);
        self.break_subscription(node);
    }

    fn resubscribe(&mut self, node: usize, subscription: u32) {
        if subscription != self.subscription[node] {
            return;
        }
        if !self.server_up || self.deaf_until[node] > self.now || self.attached[node] {
            return self.after(50_000, Happening::Resubscribe(node, subscription));
        }
        self.subscribed[node] = true;
        if self.fleet.nodes[node].alive {
            self.fleet.tell(node, Event::LinkUp { ordered: self.hostility.ordered });
        }
    }

    fn break_subscription(&mut self, node: usize) {
        self.subscription[node] += 1;
        self.subscribed[node] = false;
        if self.fleet.nodes[node].alive {
            self.fleet.tell(node, Event::LinkLost);
        }
        self.after(50_000, Happening::Resubscribe(node, self.subscription[node]));
    }
}
