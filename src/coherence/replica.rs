//! The replica: one sidecar's state machine of the protocol for one domain. Events go in, actions
//! come out, and reads query it (`replica/queries.rs`).
//!
//! It promises that what it allows is right at the moment of the query. Its owner keeps the clock,
//! the network, the datasets themselves, and the lock around the replica. Queries take `&self`; the
//! cost of applying an entry is that of its scopes.

mod queries;
mod store;

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
use super::store_view::StoreView;

/// An event that the owner hands to the replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaEvent {
    /// Time has passed: due at [`Replica::next_wake`], harmless at any other moment.
    Tick,
    /// The subscription to the domain's channels is made.
    LinkUp {
        /// Messages arrive in the order in which one server published them (not so with the classic
        /// pub/sub of a Cluster).
        ordered: bool,
    },
    /// The subscription broke.
    LinkLost,
    /// A message was dropped, by Redis or by the client library.
    Missed,
    /// Entries arrived by pub/sub.
    Published(PublishedEntries),
    /// The reply to a heartbeat that was sent at `sent`, or later.
    Heartbeat {
        /// No later than when its first byte left.
        sent: Moment,
        /// The reply.
        answer: ScriptReply,
    },
    /// The reply to a reading of the log.
    Log(ScriptReply),
    /// A hint arrived by pub/sub.
    Hint(Arc<[InvalidationScope]>),
    /// The process ends. Memory is not served from any more.
    Stop,
}

/// An action that the owner of the replica shall perform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaAction {
    /// Send this heartbeat; the `sent` of its reply is the moment that was handed in with the
    /// event.
    Heartbeat(Heartbeat),
    /// Read the log after this place.
    ReadLog(Fence),
    /// An entry was applied: the datasets that it names are no longer valid. Dropping them only
    /// frees memory.
    Applied(LogEntry),
    /// No dataset in memory is valid any more.
    EmptyMemory(EmptyReason),
    /// Run the invalidation script for a hint.
    Invalidate {
        /// The scopes that the hint names.
        scopes: Arc<[InvalidationScope]>,
        /// The bound: the script does nothing if all scopes are stamped above it.
        unless_above: Option<Fence>,
    },
    /// Leave the registry.
    Deregister(MemberName),
}

/// The reason for which memory was emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmptyReason {
    /// Another epoch has begun.
    Epoch,
    /// The stream no longer reached back to the entries that were missing.
    StreamEnd,
}

/// The start point of a flight: the place in the log at which it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartPoint {
    generation: u64,
    epoch: Option<Epoch>,
    seq: Seq,
    debts_paid: u64,
}

/// The state of one sidecar for one domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Replica {
    config: ReplicaConfig,
    epoch: Option<Epoch>,
    /// How many times memory was emptied.
    generation: u64,
    follower: LogFollower,
    stamps: Stamps,
    lease: Lease,
    schedule: Schedule,
    epoch_age: EpochAge,
    /// When the latest heartbeat was sent whose reply was applied.
    newest_reply_sent_at: Option<Moment>,
    link: LinkState,
    newer_protocol: Option<u32>,
    is_stopped: bool,
    store: Option<StoreView>,
}

/// The state of the subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum LinkState {
    Lost,
    /// It is made, but does not keep the order of messages.
    Unordered,
    /// It is made since that moment; messages from before may be missing.
    Up(Moment),
    /// Every message that Redis published before the newest one received has been received.
    Gapless,
}

impl StartPoint {
    /// The fence that the flight carries to Redis; `None` where no log is known.
    pub fn fence(&self) -> Option<Fence> {
        self.epoch.map(|epoch| Fence { epoch, seq: self.seq })
    }
}

impl ReplicaEvent {
    const fn is_heartbeat_reply(&self) -> bool {
        matches!(self, Self::Heartbeat { .. })
    }
}

/// The events.
impl Replica {
    /// A replica that follows no log yet.
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
            store: config.store.clone().map(StoreView::new),
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

    /// Handles an event that happened by `now`, and adds the actions to perform to `actions`.
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
        self.observe_store(now);
        self.push_due_actions(now, actions);
    }

    /// Sets the state of the subscription. Messages may be missing, so a heartbeat is requested,
    /// whose reply has the log's end.
    fn set_link(&mut self, link: LinkState) {
        self.link = link;
        self.schedule.request_heartbeat();
    }

    fn on_missed(&mut self, now: Moment) {
        let is_up = matches!(self.link, LinkState::Up(_) | LinkState::Gapless);
        self.set_link(if is_up { LinkState::Up(now) } else { self.link });
    }

    /// Applies the reply to a heartbeat.
    #[allow(clippy::needless_pass_by_value, reason = "a reply is applied once")]
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
            // A late reply may be of an epoch that is over.
            if self.newest_reply_sent_at.is_some_and(|before| sent < before) {
                return;
            }
            self.enter_epoch(reply, actions);
        }
        self.newest_reply_sent_at = self.newest_reply_sent_at.max(Some(sent));
        self.epoch_age.on_reply(reply.log_end.epoch, reply.longest_lease, now);
        self.follower.confirm(reply.log_end.seq);
        self.take_told_mark(reply.store_mark, reply.log_end.seq);
        if matches!(self.link, LinkState::Up(since) if since < sent) {
            self.link = LinkState::Gapless;
        }
        let from = Guard::S3LeaseFromSent.prescribes(sent, now);
        let lease = self.config.lease.saturating_sub(self.config.drift_margin);
        self.lease.add_renewal(reply.log_end.seq, from.after(lease));
        self.lease.apply_renewals(self.follower.applied());
    }

    /// Begins to follow another log.
    fn enter_epoch(&mut self, reply: HeartbeatReply, actions: &mut Vec<ReplicaAction>) {
        self.leave_epoch();
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

    /// Takes entries, from pub/sub or from the log.
    fn take_entries(
        &mut self,
        now: Moment,
        epoch: Epoch,
        entries: Vec<LogEntry>,
        actions: &mut Vec<ReplicaAction>,
    ) {
        if self.epoch != Some(epoch) {
            // Another epoch, older or newer: the next heartbeat's reply has the current one. Its
            // entries count as missed.
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

    /// Applies the reply to a reading of the log.
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
        // After a page with new entries, entries that are still missing are read at once.
        self.schedule.on_log_reply(self.follower.applied() > applied_before);
    }

    /// The bound of a hint: a stamp above it is newer than every message that was received so far.
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

    /// Adds the heartbeat and the reading of the log that are due.
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
                store: self.store_report(),
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
