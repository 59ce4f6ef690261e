//! The driver, the one task of the bus: it hands the events of Redis and of the clock to the
//! replicas of all domains, and performs the actions that they return.
//!
//! Calls to Redis run in a set of tasks that the driver owns; the driver itself never waits for
//! Redis. When it is stopped, it gives up every lease and then deregisters.

mod fault_log;
mod heartbeats;
mod membership;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use self::fault_log::FaultLog;
use self::heartbeats::HeartbeatResult;
use super::clock;
use super::config::BusConfig;
use super::connections::RedisConnections;
use super::core::{BusCore, BusDomain, LocalInvalidations};
use super::entry_format;
use super::events::BusEventKind;
use super::fault::RedisFault;
use super::push_channel::{PushMessage, PushReceiver, PushSender, push_channel};
use super::resp_frames::ReplyExcess;
use crate::coherence::{
    Fence, Heartbeat, InvalidationScope, Moment, PublishedEntries, ReplicaAction, ReplicaEvent,
    ScriptCall, ScriptReply,
};

/// The most messages that are taken from the queue in one batch.
const MESSAGES_PER_TURN: usize = 256;
/// The most entries that one reading of the log asks for.
const PAGE_MAX: usize = 1_024;
/// The most hints handled at once; a further one is dropped, as if it had not been received.
const HINTS_MAX: usize = 64;
/// The time between two refreshes of the gauges.
const GAUGES_INTERVAL: Duration = Duration::from_millis(250);
/// The time between two log lines about the same excess of a server.
const EXCESS_LOG_INTERVAL: Duration = Duration::from_mins(1);
/// The pause between two attempts to connect, at first and at the most.
const RECONNECT_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(500));
/// The longest that deregistering may take.
const DEREGISTER_MAX: Duration = Duration::from_millis(500);

/// The driver; the owner of the bus spawns [`Driver::run`].
#[derive(Debug)]
pub struct Driver {
    core: Arc<BusCore>,
    settings: Arc<BusConfig>,
    push_sender: PushSender,
    push_receiver: PushReceiver,
    local_invalidations: LocalInvalidations,
    connections: Option<Arc<RedisConnections>>,
    tasks: JoinSet<TaskResult>,
    domains: BTreeMap<Arc<str>, DomainState>,
    /// The domain of each channel, and whether the channel carries hints.
    channels: HashMap<Vec<u8>, (Arc<BusDomain>, bool)>,
    due_heartbeats: Vec<(Arc<BusDomain>, Moment, Heartbeat)>,
    hints_in_flight: usize,
    silent_rounds: usize,
    backoff: Duration,
    /// The excess of a server that was logged last, and when.
    last_excess: Option<(ReplyExcess, Moment)>,
    faults: FaultLog,
}

/// A domain, and the driver's view of its lease and heartbeats.
#[derive(Debug)]
struct DomainState {
    domain: Arc<BusDomain>,
    had_lease: bool,
    observed_at: Moment,
    /// How many heartbeats in a row stayed unanswered.
    silent_heartbeats: usize,
}

/// The result of a task of the driver.
#[derive(Debug)]
enum TaskResult {
    Connected(Result<(RedisConnections, Vec<Arc<BusDomain>>), RedisFault>),
    Subscribed(Arc<RedisConnections>, Arc<BusDomain>, Result<(), RedisFault>),
    HeartbeatReplies(Option<Arc<RedisConnections>>, Vec<HeartbeatResult>),
    LogReply(Arc<BusDomain>, Result<ScriptReply, RedisFault>),
    HintHandled(Arc<BusDomain>, Result<ScriptReply, RedisFault>),
    Deregistered,
}

impl Driver {
    pub(super) fn new(
        core: Arc<BusCore>,
        settings: BusConfig,
        local_invalidations: LocalInvalidations,
    ) -> Self {
        let (push_sender, push_receiver) = push_channel();
        Self {
            core,
            settings: Arc::new(settings),
            push_sender,
            push_receiver,
            local_invalidations,
            connections: None,
            tasks: JoinSet::new(),
            domains: BTreeMap::new(),
            channels: HashMap::new(),
            due_heartbeats: Vec::new(),
            hints_in_flight: 0,
            silent_rounds: 0,
            backoff: RECONNECT_BACKOFF.0,
            last_excess: None,
            faults: FaultLog::default(),
        }
    }

    /// Runs until `stop`; then gives up the leases and leaves the registry.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        tokio::pin!(stop);
        self.update_domains();
        self.connect(Duration::ZERO);
        loop {
            self.tick();
            self.send_heartbeats();
            let due = self.refresh_gauges();
            let connections = self.connections.clone();
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = self.core.domains_changed.notified() => self.update_domains(),
                Some(done) = self.tasks.join_next() => self.on_task_done(done),
                () = wait_closed(connections.as_deref()) => self.on_connections_lost(),
                message = self.push_receiver.next() => self.on_pushed(message),
                Some((domain, published)) = self.local_invalidations.recv() => {
                    self.apply_local_invalidation(&domain, published);
                }
                () = sleep(due) => {}
            }
        }
        self.leave_fleet().await;
    }

    /// Hands an event to a domain's replica, and performs the actions that it returns.
    fn handle(&mut self, domain: &Arc<BusDomain>, event: ReplicaEvent) {
        let now = clock::now();
        let mut actions = Vec::new();
        domain.replica_mut().handle(now, event, &mut actions);
        for action in actions {
            if let Some(action) = self.core.apply_to_memory(domain, action) {
                self.perform(domain, now, action);
            }
        }
    }

    fn handle_all(&mut self, event: &ReplicaEvent) {
        for domain in self.all_domains() {
            self.handle(&domain, event.clone());
        }
    }

    fn all_domains(&self) -> Vec<Arc<BusDomain>> {
        self.domains.values().map(|state| Arc::clone(&state.domain)).collect()
    }

    fn perform(&mut self, domain: &Arc<BusDomain>, now: Moment, action: ReplicaAction) {
        match action {
            ReplicaAction::Heartbeat(beat) => {
                self.due_heartbeats.push((Arc::clone(domain), now, beat));
            }
            ReplicaAction::ReadLog(after) => self.read_log(domain, after),
            ReplicaAction::Invalidate { scopes, unless_above } => {
                self.invalidate_for_hint(domain, scopes, unless_above);
            }
            ReplicaAction::Deregister(name) => {
                let core = Arc::clone(&self.core);
                let domain = Arc::clone(domain);
                self.tasks.spawn(async move {
                    let _ = core
                        .call(&domain, ScriptCall::Deregister(name), Duration::ZERO, DEREGISTER_MAX)
                        .await;
                    TaskResult::Deregistered
                });
            }
            ReplicaAction::Applied(_) | ReplicaAction::EmptyMemory(_) => {}
        }
    }

    fn read_log(&mut self, domain: &Arc<BusDomain>, after: Fence) {
        self.core.metrics.count_catch_up(&domain.name);
        let core = Arc::clone(&self.core);
        let domain = Arc::clone(domain);
        self.tasks.spawn(async move {
            let call = ScriptCall::ReadLog { after, max: PAGE_MAX };
            let answered = core.call(&domain, call, Duration::ZERO, core.reply_timeout()).await;
            TaskResult::LogReply(domain, answered)
        });
    }

    /// Runs the invalidation script for a hint.
    fn invalidate_for_hint(
        &mut self,
        domain: &Arc<BusDomain>,
        scopes: Arc<[InvalidationScope]>,
        unless_above: Option<Fence>,
    ) {
        if self.hints_in_flight >= HINTS_MAX {
            self.core.metrics.hints_dropped.inc();
            return;
        }
        self.hints_in_flight += 1;
        let core = Arc::clone(&self.core);
        let domain = Arc::clone(domain);
        self.tasks.spawn(async move {
            let call = ScriptCall::Invalidate { scopes, unless_above };
            let answered = core.call(&domain, call, Duration::ZERO, core.reply_timeout()).await;
            TaskResult::HintHandled(domain, answered)
        });
    }

    /// Hands a tick to every replica whose next wake is due.
    fn tick(&mut self) {
        let now = clock::now();
        for domain in self.all_domains() {
            let due = domain.replica().next_wake() <= now;
            if due {
                self.handle(&domain, ReplicaEvent::Tick);
            }
        }
    }

    /// Refreshes the gauges of leases and lag, and logs what changed; returns when to refresh them
    /// again.
    fn refresh_gauges(&mut self) -> Duration {
        let core = Arc::clone(&self.core);
        let now = clock::now();
        let mut due = now.after(GAUGES_INTERVAL);
        for state in self.domains.values_mut() {
            let replica = state.domain.replica();
            let held = replica.may_serve(now);
            let lag = replica.lag();
            due = due.min(replica.next_wake());
            due = due.min(replica.lease_until().filter(|_| held).unwrap_or(due));
            drop(replica);
            core.metrics.set_domain_gauges(&state.domain.name, held, lag);
            state.count_bypass(&core, now);
            state.log_changes(&core, held);
        }
        due.since(now)
    }

    fn on_task_done(&mut self, done: Result<TaskResult, tokio::task::JoinError>) {
        match done {
            Ok(TaskResult::Connected(Ok((connections, subscribed)))) => {
                self.on_connected(connections, &subscribed);
            }
            Ok(TaskResult::Connected(Err(fault))) => self.on_connect_failed(&fault),
            Ok(TaskResult::Subscribed(connections, domain, subscribed))
                if self.is_current(Some(&connections)) =>
            {
                match subscribed {
                    Ok(()) => self.handle(&domain, ReplicaEvent::LinkUp { ordered: true }),
                    Err(_) => connections.close(),
                }
            }
            Ok(TaskResult::HeartbeatReplies(connections, beats)) => {
                self.on_heartbeats(connections.as_ref(), beats);
            }
            Ok(TaskResult::LogReply(domain, Ok(answer))) => {
                self.handle(&domain, ReplicaEvent::Log(answer));
            }
            Ok(TaskResult::LogReply(domain, Err(RedisFault::NewerProtocol(protocol)))) => {
                self.handle(&domain, ReplicaEvent::Log(ScriptReply::NewerProtocol(protocol)));
            }
            Ok(TaskResult::HintHandled(domain, answered)) => {
                self.hints_in_flight -= 1;
                match answered {
                    Ok(_) => self.core.send_event(&domain, BusEventKind::HintHandled),
                    Err(_) => drop(self.core.metrics.hints_dropped.inc()),
                }
            }
            // The replica repeats a failed reading of the log when it is overdue.
            Ok(
                TaskResult::LogReply(..) | TaskResult::Subscribed(..) | TaskResult::Deregistered,
            ) => {}
            Err(error) => tracing::error!(%error, "a task of the bus ended unexpectedly"),
        }
    }

    fn is_current(&self, connections: Option<&Arc<RedisConnections>>) -> bool {
        let pair = connections.zip(self.connections.as_ref());
        pair.is_some_and(|(one, current)| Arc::ptr_eq(one, current))
    }

    /// Handles a message of pub/sub and those queued behind it.
    fn on_pushed(&mut self, first: Option<PushMessage>) {
        if first.is_none() {
            self.note_reply_excess();
        }
        let mut next = first;
        for _ in 0..MESSAGES_PER_TURN {
            if self.push_receiver.take_gap() {
                self.core.metrics.gaps.inc();
                self.core.metrics.queue_full.inc_by(self.push_receiver.take_overflowed());
                self.note_reply_excess();
                self.handle_all(&ReplicaEvent::Missed);
            }
            let Some(message) = next.take().or_else(|| self.push_receiver.try_next()) else {
                return;
            };
            self.on_message(&message);
        }
    }

    fn on_message(&mut self, message: &PushMessage) {
        let Some((domain, is_hints)) = self.channels.get(&message.channel).cloned() else { return };
        if !is_hints {
            let published = message.payload.as_deref().and_then(entry_format::parse_published);
            return self
                .handle(&domain, published.map_or(ReplicaEvent::Missed, ReplicaEvent::Published));
        }
        let hint = message
            .payload
            .as_deref()
            .map_or_else(|| Some(entry_format::all_scopes()), entry_format::parse_hint);
        let Some(scopes) = hint else {
            self.core.metrics.hints_dropped.inc();
            return;
        };
        self.handle(&domain, ReplicaEvent::Hint(scopes));
    }

    fn apply_local_invalidation(&mut self, domain: &Arc<BusDomain>, published: PublishedEntries) {
        // Only to a replica that follows this log: it learns of another epoch by its heartbeat.
        if domain.replica().applied().is_some_and(|applied| applied.epoch == published.epoch) {
            self.handle(domain, ReplicaEvent::Published(published));
        }
    }
}

impl DomainState {
    fn new(domain: Arc<BusDomain>) -> Self {
        Self { domain, had_lease: false, observed_at: clock::now(), silent_heartbeats: 0 }
    }

    /// Counts the time since the last refresh if the lease was not held at that refresh. The end of
    /// a lease makes a refresh due.
    fn count_bypass(&mut self, core: &BusCore, now: Moment) {
        let observed_before = std::mem::replace(&mut self.observed_at, now);
        if !self.had_lease {
            core.metrics.count_bypass(&self.domain.name, now.since(observed_before));
        }
    }

    /// Logs a lease that was gained or lost, and sends its event.
    fn log_changes(&mut self, core: &BusCore, held: bool) {
        let domain = &self.domain.name;
        if std::mem::replace(&mut self.had_lease, held) != held {
            tracing::info!(domain = &**domain, held, "lease");
            core.send_event(
                &self.domain,
                if held { BusEventKind::LeaseHeld } else { BusEventKind::LeaseLost },
            );
            if !held {
                core.metrics.count_lease_loss(domain);
            }
        }
    }
}

async fn wait_closed(connections: Option<&RedisConnections>) {
    match connections {
        Some(connections) => connections.wait_closed().await,
        None => std::future::pending().await,
    }
}
