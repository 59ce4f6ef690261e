//! One sidecar's part in the protocol, for one domain: events in, actions out, and the questions
//! that a read asks.
//!
//! It promises that whatever it allows is right at the moment it is asked. It leaves to its owner:
//! the clock, the network, the datasets themselves, and the lock around it. Reads ask through
//! `&self`; applying an entry costs what it names.

mod queries;

use std::sync::Arc;

use super::calls::{Heartbeat, HeartbeatReply, ScriptReply};
use super::epoch_age::EpochAge;
use super::guards::Guard;
use super::lease::Lease;
use super::log_follower::LogFollower;
use super::protocol::{
    Epoch, Fence, InvalidationScope, LogEntry, MemberName, Moment, PublishedEntries, Seq,
};
use super::replica_config::ReplicaConfig;
use super::schedule::Schedule;
use super::stamps::Stamps;

/// An event: what happened to a sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaEvent {
    /// Time has passed: due at [`Replica::next_wake`], harmless at any other moment.
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
    Published(PublishedEntries),
    /// A heartbeat that was sent at `sent`, or later, was answered.
    Heartbeat {
        /// No later than when its first byte left.
        sent: Moment,
        /// What came back.
        answer: ScriptReply,
    },
    /// A reading of the log was answered.
    Log(ScriptReply),
    /// Pub/sub brought a hint.
    Hint(Arc<[InvalidationScope]>),
    /// The process ends. Nothing is served from memory any more.
    Stop,
}

/// An action: what the owner of the replica shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaAction {
    /// Send this; the moment to hand back is the one that was handed in with the event.
    Heartbeat(Heartbeat),
    /// Read the log after this place.
    ReadLog(Fence),
    /// An entry was applied: what it names is not believed any more. Dropping it frees room, no
    /// more.
    Applied(LogEntry),
    /// Nothing in memory is believed any more.
    EmptyMemory(EmptyReason),
    /// Run the script for a hint.
    Invalidate {
        /// What it named.
        scopes: Arc<[InvalidationScope]>,
        /// Nothing needs doing if all of it is stamped above this.
        unless_above: Option<Fence>,
    },
    /// Leave the registry.
    Deregister(MemberName),
}

/// Why memory was emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmptyReason {
    /// Another epoch has begun.
    Epoch,
    /// The stream no longer reached back to what was missing.
    StreamEnd,
}

/// When a flight began, in the protocol's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartPoint {
    generation: u64,
    epoch: Option<Epoch>,
    seq: Seq,
}

/// The state of one sidecar for one domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Replica {
    config: ReplicaConfig,
    epoch: Option<Epoch>,
    /// Counts the times that memory was emptied.
    generation: u64,
    follower: LogFollower,
    stamps: Stamps,
    lease: Lease,
    schedule: Schedule,
    epoch_age: EpochAge,
    /// When the heartbeat was sent whose reply was the latest to count.
    newest_reply_sent_at: Option<Moment>,
    link: LinkState,
    newer_protocol: Option<u32>,
    is_stopped: bool,
}

/// The subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum LinkState {
    Lost,
    /// It stands, and proves nothing about what came before what.
    Unordered,
    /// It stands since that moment, but what came before it may be missing.
    Up(Moment),
    /// Everything that Redis published before the newest thing heard has been heard of.
    Gapless,
}

impl StartPoint {
    /// What the flight carries to Redis; nothing where no log is known.
    pub fn fence(&self) -> Option<Fence> {
        self.epoch.map(|epoch| Fence { epoch, seq: self.seq })
    }
}

impl ReplicaEvent {
    const fn is_heartbeat_reply(&self) -> bool {
        matches!(self, Self::Heartbeat { .. })
    }
}

/// What happens.
impl Replica {
    /// A sidecar that has heard nothing yet.
    pub fn new(config: ReplicaConfig) -> Self {
        Self {
            epoch: None,
            generation: 0,
            follower: LogFollower::new(config.early_entries_max),
            stamps: Stamps::new(config.stamps_max, 0),
            lease: Lease::default(),
            schedule: Schedule::default(),
            epoch_age: EpochAge::new(config.lease, config.failover_grace),
            newest_reply_sent_at: None,
            link: LinkState::Lost,
            newer_protocol: None,
            is_stopped: false,
            config,
        }
    }

    /// A fleet of one, without Redis: its lease never ends, and [`Self::invalidate_standalone`] is
    /// its log.
    pub fn standalone(config: ReplicaConfig, epoch: Epoch) -> Self {
        let lease = Lease::forever();
        let schedule = Schedule::standalone();
        Self { epoch: Some(epoch), lease, schedule, ..Self::new(config) }
    }

    /// Invalidates in a fleet of one; the token is acknowledged as soon as this returns.
    pub fn invalidate_standalone(&mut self, scopes: Arc<[InvalidationScope]>) -> Option<Fence> {
        let entry = LogEntry { seq: self.follower.applied() + 1, scopes };
        self.follower.add_entry(entry);
        self.apply_entries(&mut Vec::new());
        self.applied()
    }

    /// Takes an event that happened by `now`; what there is to do is added to `actions`.
    pub fn handle(&mut self, now: Moment, event: ReplicaEvent, actions: &mut Vec<ReplicaAction>) {
        if self.is_stopped && Guard::S7NoMoreReplies.prescribes(true, !event.is_heartbeat_reply()) {
            return;
        }
        match event {
            ReplicaEvent::Tick => {}
            ReplicaEvent::LinkUp { ordered } => {
                self.set_link(if ordered { LinkState::Up(now) } else { LinkState::Unordered });
            }
            ReplicaEvent::LinkLost => self.set_link(LinkState::Lost),
            ReplicaEvent::Missed => self.on_missed(now),
            ReplicaEvent::Published(published) => {
                self.take_entries(now, published.epoch, published.entries, actions);
            }
            ReplicaEvent::Heartbeat { sent, answer } => {
                self.on_heartbeat(now, sent, answer, actions);
            }
            ReplicaEvent::Log(answer) => self.on_log_reply(now, answer, actions),
            ReplicaEvent::Hint(scopes) => {
                actions.push(ReplicaAction::Invalidate { scopes, unless_above: self.hint_bound() });
            }
            ReplicaEvent::Stop => return self.stop(actions),
        }
        self.push_due_actions(now, actions);
    }

    /// The subscription is in another state, so something may be missing: a heartbeat will tell.
    fn set_link(&mut self, link: LinkState) {
        self.link = link;
        self.schedule.request_heartbeat();
    }

    fn on_missed(&mut self, now: Moment) {
        let is_up = matches!(self.link, LinkState::Up(_) | LinkState::Gapless);
        self.set_link(if is_up { LinkState::Up(now) } else { self.link });
    }

    /// A heartbeat's reply.
    #[allow(clippy::needless_pass_by_value, reason = "an answer counts once")]
    fn on_heartbeat(
        &mut self,
        now: Moment,
        sent: Moment,
        answer: ScriptReply,
        actions: &mut Vec<ReplicaAction>,
    ) {
        self.schedule.on_heartbeat_reply(sent);
        let reply = match answer {
            ScriptReply::Heartbeat(reply) => reply,
            ScriptReply::NewerProtocol(protocol) => return self.newer_protocol = Some(protocol),
            _ => return,
        };
        self.newer_protocol = None;
        if self.epoch != Some(reply.log_end.epoch) {
            // A late reply may speak of an epoch that is over.
            if self.newest_reply_sent_at.is_some_and(|before| sent < before) {
                return;
            }
            self.enter_epoch(reply, actions);
        }
        self.newest_reply_sent_at = self.newest_reply_sent_at.max(Some(sent));
        self.epoch_age.on_reply(reply.log_end.epoch, reply.longest_lease, now);
        self.follower.confirm(reply.log_end.seq);
        if matches!(self.link, LinkState::Up(since) if since < sent) {
            self.link = LinkState::Gapless;
        }
        let from = Guard::S3LeaseFromSent.prescribes(sent, now);
        let lease = self.config.lease.saturating_sub(self.config.drift_margin);
        self.lease.add_renewal(reply.log_end.seq, from.after(lease));
        self.lease.apply_renewals(self.follower.applied());
    }

    /// Begins with another log: nothing of the one before counts.
    fn enter_epoch(&mut self, reply: HeartbeatReply, actions: &mut Vec<ReplicaAction>) {
        self.epoch = Some(reply.log_end.epoch);
        self.follower.restart_at(reply.log_end.seq);
        self.schedule.on_log_reply(false);
        Guard::S2Epoch.demands(|| {
            self.lease.give_up();
            actions.push(self.outdate_memory(EmptyReason::Epoch));
        });
    }

    fn outdate_memory(&mut self, reason: EmptyReason) -> ReplicaAction {
        self.generation += 1;
        match reason {
            EmptyReason::Epoch => self.stamps.clear(self.follower.applied()),
            EmptyReason::StreamEnd => self.stamps.raise_floor(self.follower.applied()),
        }
        ReplicaAction::EmptyMemory(reason)
    }

    /// Entries, from pub/sub or from the log.
    fn take_entries(
        &mut self,
        now: Moment,
        epoch: Epoch,
        entries: Vec<LogEntry>,
        actions: &mut Vec<ReplicaAction>,
    ) {
        if self.epoch != Some(epoch) {
            // Another epoch, older or newer: a heartbeat will tell. What it says is lost to us
            // until then.
            return self.on_missed(now);
        }
        for entry in entries {
            self.follower.add_entry(entry);
        }
        self.apply_entries(actions);
    }

    fn apply_entries(&mut self, actions: &mut Vec<ReplicaAction>) {
        while let Some(entry) = self.follower.pop_next() {
            entry.scopes.iter().for_each(|scope| self.stamps.stamp(scope, entry.seq));
            actions.push(ReplicaAction::Applied(entry));
        }
        self.lease.apply_renewals(self.follower.applied());
    }

    /// An answer of the log's.
    fn on_log_reply(&mut self, now: Moment, answer: ScriptReply, actions: &mut Vec<ReplicaAction>) {
        let applied_before = self.follower.applied();
        match answer {
            ScriptReply::Log { epoch, entries } => {
                let is_end = entries.is_empty();
                self.take_entries(now, epoch, entries, actions);
                if is_end && self.epoch == Some(epoch) {
                    self.follower.on_log_end();
                }
            }
            ScriptReply::LogTruncated(end) if self.epoch != Some(end.epoch) => {
                self.schedule.request_heartbeat();
            }
            ScriptReply::LogTruncated(end) if end.seq <= self.follower.applied() => {}
            ScriptReply::LogTruncated(end) => {
                self.follower.skip_to(end.seq);
                Guard::S1StreamEnd
                    .demands(|| actions.push(self.outdate_memory(EmptyReason::StreamEnd)));
                self.apply_entries(actions);
            }
            ScriptReply::NewerProtocol(protocol) => self.newer_protocol = Some(protocol),
            _ => self.schedule.request_heartbeat(),
        }
        // What is still missing after a page that brought something on is read at once.
        self.schedule.on_log_reply(self.follower.applied() > applied_before);
    }

    /// The bound above which a stamp surely is of after anything that pub/sub has brought so far.
    fn hint_bound(&self) -> Option<Fence> {
        let newest_heard = Fence { epoch: self.epoch?, seq: self.follower.newest_heard() };
        let bound = (self.link == LinkState::Gapless).then_some(newest_heard);
        Guard::H1HintBound.prescribes(bound, self.applied())
    }

    fn stop(&mut self, actions: &mut Vec<ReplicaAction>) {
        Guard::S7LeaseBeforeDeregister.demands(|| {
            self.is_stopped = true;
            self.lease.give_up();
        });
        actions.push(ReplicaAction::Deregister(self.config.name.clone()));
    }

    /// Heartbeats and readings of the log that are due.
    fn push_due_actions(&mut self, now: Moment, actions: &mut Vec<ReplicaAction>) {
        let applied = self.applied();
        self.schedule.observe(now, applied, self.follower.is_behind());
        if self.schedule.is_heartbeat_due(now, &self.config) {
            self.schedule.on_heartbeat_sent(now, applied);
            let marks_settled = applied
                .is_some_and(|applied| self.epoch_age.is_known_for_whole_lease(applied.epoch, now));
            actions.push(ReplicaAction::Heartbeat(Heartbeat {
                name: self.config.name.clone(),
                lease: self.config.lease,
                applied,
                marks_settled,
            }));
        }
        if let Some(applied) = applied.filter(|_| self.schedule.is_log_read_due(now, &self.config))
        {
            self.schedule.on_log_read_sent(now);
            self.follower.on_log_read_sent();
            actions.push(ReplicaAction::ReadLog(applied));
        }
    }
}
