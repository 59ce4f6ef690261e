//! One sidecar's part in the protocol, for one domain: events in, actions out, and the questions
//! that a read asks.
//!
//! It promises that whatever it allows is right at the moment it is asked. It leaves to its owner:
//! the clock, the network, the datasets themselves, and the lock around it. Reads ask through
//! `&self`; applying an entry costs what it names.

mod questions;

use std::sync::Arc;
use std::time::Duration;

use super::calls::{Answer, Heartbeat, Told};
use super::follow::Follower;
use super::guards::{Guard, Guards};
use super::lease::Lease;
use super::pace::Pace;
use super::stamps::Stamps;
use super::witness::Witness;
use super::words::{Entry, Epoch, Fence, Moment, Name, Published, Scope, Seq};

/// What differs between sidecars.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Config {
    /// Random for each process.
    pub name: Name,
    /// How long it may serve after a heartbeat was sent, before `drift`.
    pub lease: Duration,
    /// Taken off the lease: what this clock may lose on an invalidator's while one lease passes.
    pub drift: Duration,
    /// How long a deposed primary may go on answering.
    pub grace: Duration,
    /// Between two heartbeats when nothing happens.
    pub beat: Duration,
    /// Where the heartbeats of all domains of a process fall together, whenever each had something
    /// to say in between: a [`Self::beat`] after this moment, two, three … Without it each domain
    /// goes by its own last heartbeat.
    pub together: Option<Moment>,
    /// Between two heartbeats in any case.
    pub spacing: Duration,
    /// How long to wait for pub/sub to bring what is missing before the log is read.
    pub patience: Duration,
    /// How long a call may stay unanswered before it is made again.
    pub retry: Duration,
    /// Stamps that memory holds.
    pub stamps_max: usize,
    /// Entries that wait for their turn.
    pub early_max: usize,
    /// Entries that one reading of the log asks for.
    pub page_max: usize,
    /// Which guards hold: all, outside of tests.
    pub guards: Guards,
}

/// What happens to a sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has passed: due at [`Sidecar::wakes_at`], harmless at any other moment.
    Tick,
    /// The subscription to the domain's channels stands.
    LinkUp {
        /// It brings everything in the order in which one server published it (not so the classic
        /// pub/sub of a Cluster).
        ordered: bool,
    },
    /// It broke.
    LinkLost,
    /// Something was dropped on the way, by Redis or by the client library.
    Missed,
    /// Pub/sub brought entries.
    Published(Published),
    /// A heartbeat that was sent at `sent`, or later, was answered.
    Heartbeat {
        /// No later than when its first byte left.
        sent: Moment,
        /// What came back.
        answer: Answer,
    },
    /// A reading of the log was answered.
    Log(Answer),
    /// Pub/sub brought a hint.
    Hint(Arc<[Scope]>),
    /// The process ends. Nothing is served from memory any more.
    Stop,
}

/// What its owner shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this; the moment to hand back is the one that was handed in with the event.
    Heartbeat(Heartbeat),
    /// Read the log after this place.
    ReadLog(Fence),
    /// An entry was applied: what it names is not believed any more. Dropping it frees room, no
    /// more.
    Applied(Entry),
    /// Nothing in memory is believed any more.
    EmptyMemory(Why),
    /// Run the script for a hint.
    Invalidate {
        /// What it named.
        scopes: Arc<[Scope]>,
        /// Nothing needs doing if all of it is stamped above this.
        unless_above: Option<Fence>,
    },
    /// Leave the registry.
    Deregister(Name),
}

/// Why memory was emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Another epoch has begun.
    Epoch,
    /// The stream no longer reached back to what was missing.
    StreamEnd,
    /// The owner asked for it.
    Owner,
}

/// When a flight began, in the protocol's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Start {
    generation: u64,
    epoch: Option<Epoch>,
    seq: Seq,
}

/// The state of one sidecar for one domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sidecar {
    config: Config,
    epoch: Option<Epoch>,
    /// Counts the times that memory was emptied.
    generation: u64,
    follower: Follower,
    stamps: Stamps,
    lease: Lease,
    pace: Pace,
    witness: Witness,
    /// When the heartbeat was sent whose reply was the latest to count.
    told_at: Option<Moment>,
    link: Link,
    newer: Option<u32>,
    stopped: bool,
}

/// The subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Link {
    Lost,
    /// It stands, and proves nothing about what came before what.
    Unordered,
    /// It stands since that moment, but what came before it may be missing.
    Up(Moment),
    /// Everything that Redis published before the newest thing heard has been heard of.
    Sure,
}

impl Start {
    /// What the flight carries to Redis; nothing where no log is known.
    pub fn fence(&self) -> Option<Fence> {
        self.epoch.map(|epoch| Fence { epoch, seq: self.seq })
    }
}

impl Config {
    /// The usual proportions for a `lease`.
    #[allow(
        clippy::default_constructed_unit_structs,
        reason = "the guards' twin of the test build is no unit"
    )]
    pub fn new(name: Name, lease: Duration) -> Self {
        Self {
            name,
            lease,
            drift: lease / 50,
            grace: Duration::ZERO,
            beat: lease / 4,
            together: None,
            spacing: Duration::from_millis(2),
            patience: Duration::from_millis(20),
            retry: lease / 4,
            stamps_max: 65_536,
            early_max: 4_096,
            page_max: 1_024,
            guards: Guards::default(),
        }
    }
}

/// What happens.
impl Sidecar {
    /// A sidecar that has heard nothing yet.
    pub fn new(config: Config) -> Self {
        let guards = config.guards;
        Self {
            epoch: None,
            generation: 0,
            follower: Follower::new(config.early_max, guards),
            stamps: Stamps::new(config.stamps_max, 0, guards),
            lease: Lease::new(guards),
            pace: Pace::default(),
            witness: Witness::new(config.lease, config.grace),
            told_at: None,
            link: Link::Lost,
            newer: None,
            stopped: false,
            config,
        }
    }

    /// A fleet of one, without Redis: its lease never ends, and [`Self::invalidate_alone`] is its
    /// log.
    pub fn alone(config: Config, epoch: Epoch) -> Self {
        let lease = Lease::forever(config.guards);
        let pace = Pace::still();
        Self { epoch: Some(epoch), lease, pace, ..Self::new(config) }
    }

    /// Invalidates in a fleet of one; the token is acknowledged as soon as this returns.
    pub fn invalidate_alone(&mut self, scopes: Arc<[Scope]>) -> Option<Fence> {
        let entry = Entry { seq: self.follower.applied() + 1, scopes };
        self.follower.take(entry);
        self.apply(&mut Vec::new());
        self.applied()
    }

    /// Outdates all of memory and every flight in the air, for a reason of the owner's.
    pub fn empty(&mut self) -> Action {
        self.forget(Why::Owner)
    }

    /// Takes an event that happened by `now`; what there is to do is added to `actions`.
    pub fn handle(&mut self, now: Moment, event: Event, actions: &mut Vec<Action>) {
        if self.stopped {
            if let (false, Event::Heartbeat { sent, answer }) =
                (self.config.guards.hold(Guard::StopDeaf), event)
            {
                self.stopped = false;
                self.hear(now, sent, answer, actions);
            }
            return;
        }
        match event {
            Event::Tick => {}
            Event::LinkUp { ordered } => {
                self.doubt(if ordered { Link::Up(now) } else { Link::Unordered });
            }
            Event::LinkLost => self.doubt(Link::Lost),
            Event::Missed => self.miss(now),
            Event::Published(published) => {
                self.take(now, published.epoch, published.entries, actions);
            }
            Event::Heartbeat { sent, answer } => self.hear(now, sent, answer, actions),
            Event::Log(answer) => self.read(now, answer, actions),
            Event::Hint(scopes) => {
                actions.push(Action::Invalidate { scopes, unless_above: self.surely_heard() });
            }
            Event::Stop => return self.stop(actions),
        }
        self.keep_pace(now, actions);
    }

    /// The subscription is in another state, so something may be missing: a heartbeat will tell.
    fn doubt(&mut self, link: Link) {
        self.link = link;
        self.pace.hurry();
    }

    fn miss(&mut self, now: Moment) {
        let sure_again = matches!(self.link, Link::Up(_) | Link::Sure);
        self.doubt(if sure_again { Link::Up(now) } else { self.link });
    }

    /// A heartbeat's reply.
    #[allow(clippy::needless_pass_by_value, reason = "an answer is heard once")]
    fn hear(&mut self, now: Moment, sent: Moment, answer: Answer, actions: &mut Vec<Action>) {
        self.pace.answered(sent);
        let told = match answer {
            Answer::Told(told) => told,
            Answer::Newer(protocol) => return self.newer = Some(protocol),
            _ => return,
        };
        self.newer = None;
        if self.epoch != Some(told.end.epoch) {
            // A late reply may speak of an epoch that is over.
            if self.told_at.is_some_and(|before| sent < before) {
                return;
            }
            self.enter(told, actions);
        }
        self.told_at = self.told_at.max(Some(sent));
        self.witness.hear(told.end.epoch, told.longest, now);
        self.follower.confirm(told.end.seq);
        if matches!(self.link, Link::Up(since) if since < sent) {
            self.link = Link::Sure;
        }
        let from = if self.config.guards.hold(Guard::LeaseFromSent) { sent } else { now };
        self.lease
            .pledge(told.end.seq, from.after(self.config.lease.saturating_sub(self.config.drift)));
        self.lease.fulfil(self.follower.applied());
    }

    /// Begins with another log: nothing of the one before counts.
    fn enter(&mut self, told: Told, actions: &mut Vec<Action>) {
        self.epoch = Some(told.end.epoch);
        self.follower.restart(told.end.seq);
        self.pace.log_answered(false);
        if self.config.guards.hold(Guard::Epoch) {
            self.lease.give_up();
            actions.push(self.forget(Why::Epoch));
        }
    }

    fn forget(&mut self, why: Why) -> Action {
        self.generation += 1;
        match why {
            Why::Epoch => self.stamps.clear(self.follower.applied()),
            Why::StreamEnd | Why::Owner => self.stamps.raise_floor(self.follower.applied()),
        }
        Action::EmptyMemory(why)
    }

    /// Entries, from pub/sub or from the log.
    fn take(&mut self, now: Moment, epoch: Epoch, entries: Vec<Entry>, actions: &mut Vec<Action>) {
        if self.epoch != Some(epoch) {
            // Another epoch, older or newer: a heartbeat will tell. What it says is lost to us
            // until then.
            return self.miss(now);
        }
        for entry in entries {
            self.follower.take(entry);
        }
        self.apply(actions);
    }

    fn apply(&mut self, actions: &mut Vec<Action>) {
        while let Some(entry) = self.follower.next() {
            entry.scopes.iter().for_each(|scope| self.stamps.stamp(scope, entry.seq));
            actions.push(Action::Applied(entry));
        }
        self.lease.fulfil(self.follower.applied());
    }

    /// An answer of the log's.
    fn read(&mut self, now: Moment, answer: Answer, actions: &mut Vec<Action>) {
        let applied = self.follower.applied();
        match answer {
            Answer::Log { epoch, entries } => {
                let is_end = entries.is_empty();
                self.take(now, epoch, entries, actions);
                if is_end && self.epoch == Some(epoch) {
                    self.follower.reached_end();
                }
            }
            Answer::TooOld(end) if self.epoch != Some(end.epoch) => self.pace.hurry(),
            Answer::TooOld(end) if end.seq <= self.follower.applied() => {}
            Answer::TooOld(end) => {
                self.follower.jump(end.seq);
                if self.config.guards.hold(Guard::StreamEnd) {
                    actions.push(self.forget(Why::StreamEnd));
                }
                self.apply(actions);
            }
            Answer::Newer(protocol) => self.newer = Some(protocol),
            _ => self.pace.hurry(),
        }
        // What is still missing after a page that brought something on is read at once.
        self.pace.log_answered(self.follower.applied() > applied);
    }

    /// The bound above which a stamp surely is of after anything that pub/sub has brought so far.
    fn surely_heard(&self) -> Option<Fence> {
        let epoch = self.epoch?;
        if !self.config.guards.hold(Guard::HintBound) {
            return self.applied();
        }
        (self.link == Link::Sure).then_some(Fence { epoch, seq: self.follower.heard() })
    }

    fn stop(&mut self, actions: &mut Vec<Action>) {
        if self.config.guards.hold(Guard::StopFirst) {
            self.stopped = true;
            self.lease.give_up();
        }
        actions.push(Action::Deregister(self.config.name.clone()));
    }

    /// Heartbeats and readings of the log that are due.
    fn keep_pace(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let applied = self.applied();
        self.pace.look(now, applied, self.follower.behind());
        if self.pace.beat_due(now, &self.config) {
            self.pace.sent(now, applied);
            let settles =
                applied.is_some_and(|applied| self.witness.known_long(applied.epoch, now));
            let (name, lease) = (self.config.name.clone(), self.config.lease);
            actions.push(Action::Heartbeat(Heartbeat { name, lease, applied, settles }));
        }
        if let Some(applied) = applied.filter(|_| self.pace.log_due(now, &self.config)) {
            self.pace.asked(now);
            self.follower.asks_log();
            actions.push(Action::ReadLog(applied));
        }
    }
}
