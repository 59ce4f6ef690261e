//! A fleet as the trials run it: nodes, writers, Redis, the source of truth, and an oracle that
//! watches every step.
//!
//! The messages that the fleet sends are left in `outgoing`: the model checker and the simulation
//! each have a network of their own.

use std::sync::Arc;
use std::time::Duration;

use super::node::{FlightStep, ReadOutcome, TrialEntry, TrialFlight, TrialNode};
use super::source::{TrialKey, TrialSource, TrialVersion, key_name};
use super::store::{StorePurpose, TrialStore, TrialStoreReply, store_id, version_of_reading};
use bfb::coherence::*;

/// A promise that was seen to be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Violation {
    /// Memory answered with a version older than an acknowledged invalidation.
    StaleFromMemory,
    /// A flight answered with a version older than an acknowledged invalidation.
    StaleFromFlight,
    /// A dataset was put into memory although an invalidation of it was acknowledged, or applied
    /// here.
    StaleIntoMemory,
    /// Redis took a dataset although the script of an invalidation of it had run.
    StaleIntoRedis,
    /// A hint was received, and nothing was invalidated.
    HintLost,
    /// A dataset of another plan was served.
    OtherPlan,
    /// The store gave what an entry names that was applied here.
    OutdatedHere,
    /// A row of the store was replaced by what was read before it.
    RowWentBack,
}

/// The whole state of a fleet but for its network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TrialFleet {
    /// The nodes' clocks, then the writers'.
    pub(super) clocks: Vec<Duration>,
    pub(super) source: TrialSource,
    pub(super) nodes: Vec<TrialNode>,
    pub(super) writers: Vec<TrialWriter>,
    pub(super) server: ReferenceServer,
    pub(super) life: ServerLife,
    /// A primary that was deposed and has not noticed it yet.
    pub(super) deposed: Option<(ReferenceServer, ServerLife)>,
    /// The name of the next epoch; every fault that can end one changes it.
    pub(super) next_epoch: u128,
    pub(super) store: TrialStore,
    pub(super) outgoing: Vec<TrialMessage>,
    pub(super) violation: Option<Violation>,
}

/// A process that writes at the source and invalidates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TrialWriter {
    pub(super) state: WriterState,
    pub(super) epoch_age: EpochAge,
    /// What it invalidated last.
    pub(super) scopes: Arc<[InvalidationScope]>,
    /// It stamps the store.
    pub(super) has_store: bool,
}

/// The progress of a writer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum WriterState {
    Idle,
    Sent(Moment),
    Waiting(Invalidation),
}

/// A client of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Process {
    Node(usize),
    Writer(usize),
}

/// The purpose of a call: it determines where the answer belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum CallPurpose {
    Heartbeat,
    Log,
    Fetch(TrialKey, u8, FlightId),
    Claim(TrialKey, u8, FlightId),
    Invalidation,
    Progress(Fence),
    Hint(TrialKey, TrialVersion),
    /// The dataset in it is from the store.
    Pass(TrialKey),
    /// A step towards a store that holds everything.
    StoreStep,
    Nothing,
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum TrialMessage {
    Request { from: Process, sent: Moment, about: CallPurpose, call: ScriptCall },
    Answer { to: Process, sent: Moment, about: CallPurpose, answer: ScriptReply },
    StoreRequest { from: Process, sent: Moment, about: StorePurpose, call: StoreCall },
    StoreAnswer { to: Process, sent: Moment, about: StorePurpose, reply: TrialStoreReply },
    Published { to: usize, published: PublishedEntries },
    Hint { to: usize, key: TrialKey, version: TrialVersion },
}

impl TrialFleet {
    pub(super) fn clock(&self, who: Process) -> Moment {
        let index = match who {
            Process::Node(index) => index,
            Process::Writer(index) => self.nodes.len() + index,
        };
        Moment::from_origin(self.clocks[index])
    }

    pub(super) fn send(&mut self, from: Process, about: CallPurpose, call: ScriptCall) {
        let sent = self.clock(from);
        self.outgoing.push(TrialMessage::Request { from, sent, about, call });
    }

    pub(super) fn note_violation(&mut self, wrong: Violation, is: bool) {
        if is {
            self.violation = self.violation.or(Some(wrong));
        }
    }

    /// Hands an event to a node, and sends the requests that the node returns.
    pub(super) fn handle_event(&mut self, node: usize, event: ReplicaEvent) {
        let now = self.clock(Process::Node(node));
        let mut actions = Vec::new();
        self.nodes[node].replica.handle(now, event, &mut actions);
        for action in actions {
            let (about, call) = match action {
                ReplicaAction::Heartbeat(beat) => {
                    (CallPurpose::Heartbeat, ScriptCall::Heartbeat(beat))
                }
                ReplicaAction::ReadLog(after) => {
                    (CallPurpose::Log, ScriptCall::ReadLog { after, max: 2 })
                }
                ReplicaAction::Deregister(name) => {
                    (CallPurpose::Nothing, ScriptCall::Deregister(name))
                }
                ReplicaAction::Applied(entry) => {
                    self.note_applied(node, entry.seq);
                    continue;
                }
                ReplicaAction::Invalidate { .. } | ReplicaAction::EmptyMemory(_) => continue,
            };
            self.send(Process::Node(node), about, call);
        }
        self.take_store_step(node);
    }

    fn note_applied(&mut self, node: usize, seq: Seq) {
        let Some(at) = self.nodes[node].replica.applied() else { return };
        let about = self.source.issued.get(&Fence { seq, ..at }).cloned().unwrap_or_default();
        for (key, version) in (0..).zip(about) {
            let newest = self.nodes[node].newest_applied.entry(key).or_default();
            *newest = version.unwrap_or(0).max(*newest);
        }
    }

    /// Runs the script of a request on Redis, and sends its answer and the entries that it
    /// publishes.
    pub(super) fn serve(&mut self, request: TrialMessage, deposed: bool) {
        let TrialMessage::Request { from, sent, about, call } = request else { return };
        let run = ScriptRequest { protocol: PROTOCOL, fresh_epoch: Epoch(self.next_epoch), call };
        let outcome = match &mut self.deposed {
            Some((server, life)) if deposed => server.run(*life, &run),
            _ => self.server.run(self.life, &run),
        };
        if let (ScriptCall::Invalidate { scopes, .. }, ScriptReply::Issued(issued)) =
            (&run.call, &outcome.answer)
            && outcome.published.is_some()
        {
            self.source.stamp(issued.token, scopes);
        }
        if let (
            ScriptCall::Store { dataset, .. },
            ScriptReply::Done(true),
            CallPurpose::Fetch(key, ..),
        ) = (&run.call, &outcome.answer, &about)
        {
            let (version, _) = super::source::version_in(&dataset.body);
            let stale = version < self.source.stamped[usize::from(*key)];
            self.note_violation(Violation::StaleIntoRedis, stale && !deposed);
        }
        if let (
            ScriptCall::Store { dataset, .. },
            ScriptReply::Done(true),
            CallPurpose::Pass(key),
        ) = (&run.call, &outcome.answer, &about)
        {
            let (version, _) = super::source::version_in(&dataset.body);
            let stale = version < self.source.acknowledged[usize::from(*key)];
            self.note_violation(Violation::StaleIntoRedis, stale && !deposed);
        }
        if let CallPurpose::Hint(key, version) = about {
            let lost = self.source.stamped[usize::from(key)] < version;
            return self.publish(outcome.published, lost);
        }
        let needed = !matches!(run.call, ScriptCall::Store { .. } | ScriptCall::Deregister(_))
            && about != CallPurpose::Nothing;
        if needed {
            self.outgoing.push(TrialMessage::Answer {
                to: from,
                sent,
                about,
                answer: outcome.answer,
            });
        }
        self.publish(outcome.published, false);
    }

    fn publish(&mut self, published: Option<PublishedEntries>, lost: bool) {
        self.note_violation(Violation::HintLost, lost);
        let Some(published) = published else { return };
        for to in (0..self.nodes.len()).filter(|&to| self.nodes[to].is_alive) {
            self.outgoing.push(TrialMessage::Published { to, published: published.clone() });
        }
    }

    /// Hands a message to its process.
    pub(super) fn deliver(&mut self, message: TrialMessage) {
        match message {
            TrialMessage::Request { .. } => self.serve(message, false),
            TrialMessage::StoreRequest { .. } => self.serve_store(message),
            TrialMessage::StoreAnswer { to, sent, about, reply } => {
                self.on_store_answer(to, sent, about, reply);
            }
            TrialMessage::Published { to, published } => {
                self.handle_event(to, ReplicaEvent::Published(published));
            }
            TrialMessage::Hint { to, key, version } => self.on_hint(to, key, version),
            TrialMessage::Answer { to: Process::Node(to), sent, about, answer } => match about {
                CallPurpose::Heartbeat => {
                    self.handle_event(to, ReplicaEvent::Heartbeat { sent, answer });
                }
                CallPurpose::Log => self.handle_event(to, ReplicaEvent::Log(answer)),
                CallPurpose::StoreStep => {
                    let now = self.clock(Process::Node(to));
                    self.nodes[to].replica.on_store_log(now, sent, &answer);
                    self.handle_event(to, ReplicaEvent::Tick);
                }
                about => self.on_flight_reply(to, sent, &about, answer),
            },
            TrialMessage::Answer { to: Process::Writer(to), sent, about, answer } => {
                self.on_writer_reply(to, sent, &about, &answer);
            }
        }
    }

    fn on_hint(&mut self, to: usize, key: TrialKey, version: TrialVersion) {
        let now = self.clock(Process::Node(to));
        let mut actions = Vec::new();
        self.nodes[to].replica.handle(
            now,
            ReplicaEvent::Hint(Arc::new([InvalidationScope::Key(key_name(key))])),
            &mut actions,
        );
        for action in actions {
            if let ReplicaAction::Invalidate { scopes, unless_above } = action {
                self.send(
                    Process::Node(to),
                    CallPurpose::Hint(key, version),
                    ScriptCall::Invalidate { scopes, unless_above },
                );
            }
        }
    }

    /// A request for `key` at a node; returns whether memory answered.
    pub(super) fn read(&mut self, node: usize, key: TrialKey) -> bool {
        let need = self.source.acknowledged[usize::from(key)];
        let now = self.clock(Process::Node(node));
        let reading = self.nodes[node].read(key, need, now);
        match reading {
            ReadOutcome::Served(TrialEntry { version, plan, .. }) => {
                self.note_violation(Violation::StaleFromMemory, version < need);
                self.note_violation(Violation::OtherPlan, plan != self.nodes[node].plan);
            }
            ReadOutcome::Joined => {}
            ReadOutcome::Began(id) => {
                let at = (key, self.nodes[node].plan);
                if let Some(flight) =
                    self.nodes[node].running.iter().position(|flight| flight.has_id(at, id))
                {
                    self.ask_tier(node, flight);
                }
            }
        }
        matches!(reading, ReadOutcome::Served(_))
    }

    /// Sends the request to Redis or to the store of a flight that has just begun, or come to its
    /// next step.
    pub(super) fn ask_tier(&mut self, node: usize, flight: usize) {
        self.nodes[node].running[flight].asked_at = self.clock(Process::Node(node));
        let TrialFlight { key, plan, id, ref step, .. } = self.nodes[node].running[flight];
        let place = TrialNode::place(key, plan);
        match *step {
            FlightStep::Asking(_) => self.send(
                Process::Node(node),
                CallPurpose::Fetch(key, plan, id),
                ScriptCall::Fetch { place, bytes_max: u64::MAX },
            ),
            FlightStep::Claiming(start) => match start.fence() {
                None => {
                    let next = self.nodes[node].step_after_redis(start);
                    self.nodes[node].running[flight].step = next;
                    self.ask_tier(node, flight);
                }
                Some(fence) => {
                    let holder = self.nodes[node].name.clone();
                    let bytes_max = Some(u64::MAX);
                    let claim = ScriptCall::Claim { place, holder, fence, bytes_max };
                    self.send(Process::Node(node), CallPurpose::Claim(key, plan, id), claim);
                }
            },
            FlightStep::Consulting(_) => {
                let call = self.nodes[node].replica.store_read(place);
                self.send_to_store(Process::Node(node), StorePurpose::Flight(key, plan, id), call);
            }
            _ => {}
        }
    }

    /// The index of the flight that sent its request at that moment.
    pub(super) fn flight(
        &self,
        node: usize,
        (key, plan, id): (TrialKey, u8, FlightId),
        sent: Moment,
    ) -> Option<usize> {
        self.nodes[node]
            .running
            .iter()
            .position(|flight| flight.has_id((key, plan), id) && flight.asked_at == sent)
    }

    /// Takes Redis's answer to a flight that requested its dataset or its claim.
    fn on_flight_reply(
        &mut self,
        node: usize,
        sent: Moment,
        about: &CallPurpose,
        answer: ScriptReply,
    ) {
        let (CallPurpose::Fetch(key, plan, id) | CallPurpose::Claim(key, plan, id)) = *about else {
            return;
        };
        let Some(flight) = self.flight(node, (key, plan, id), sent) else { return };
        let has_claims = self.nodes[node].has_claims;
        let has_store = self.nodes[node].has_store;
        let step = &mut self.nodes[node].running[flight].step;
        let start = match (about, &*step) {
            (CallPurpose::Fetch(..), FlightStep::Asking(start))
            | (CallPurpose::Claim(..), FlightStep::Claiming(start)) => *start,
            _ => return,
        };
        *step = match (about, answer) {
            (_, ScriptReply::Hit(fetched)) => FlightStep::Fetched(start, fetched),
            (CallPurpose::Fetch(..), ScriptReply::Miss) if has_claims => {
                FlightStep::Claiming(start)
            }
            (CallPurpose::Claim(..), ScriptReply::HeldBy(_)) => FlightStep::Asking(start),
            _ if has_store => FlightStep::Consulting(start),
            _ => FlightStep::Collecting(start),
        };
        self.ask_tier(node, flight);
    }

    /// Starts a flight that waits, because its callers can wait no longer.
    pub(super) fn start_waiting(&mut self, node: usize, flight: usize) {
        self.nodes[node].start_waiting(flight);
        if self.nodes[node].running[flight].is_about_to_ask() {
            self.ask_tier(node, flight);
        }
    }

    /// Lets a flight read the source.
    pub(super) fn collect(&mut self, node: usize, flight: usize) {
        let flight = &mut self.nodes[node].running[flight];
        if let FlightStep::Collecting(start) = flight.step {
            flight.step =
                FlightStep::Collected(start, self.source.versions[usize::from(flight.key)]);
        }
    }

    /// Ends a flight: it answers its callers, and stores in memory and in Redis what it may.
    pub(super) fn end_flight(&mut self, node: usize, flight: usize) {
        let now = self.clock(Process::Node(node));
        if self.refuses_reading(node, flight) {
            return;
        }
        let before: Vec<_> = self.nodes[node]
            .running
            .iter()
            .map(|flight| flight.step == FlightStep::Waiting)
            .collect();
        let flight = self.nodes[node].end_flight(flight, now);
        let (version, plan) = match &flight.step {
            FlightStep::Collected(_, version) => (*version, flight.plan),
            FlightStep::Fetched(_, fetched) => super::source::version_in(&fetched.dataset.body),
            FlightStep::Consulted(_, reading) => version_of_reading(reading),
            _ => return,
        };
        self.note_violation(Violation::StaleFromFlight, version < flight.oldest_acceptable);
        self.note_violation(Violation::OtherPlan, plan != flight.plan);
        if self.nodes[node].store_in_memory(&flight, now).is_some() {
            let applied = self.nodes[node].newest_applied.get(&flight.key).copied().unwrap_or(0);
            let newest = applied.max(self.source.acknowledged[usize::from(flight.key)]);
            self.note_violation(Violation::StaleIntoMemory, version < newest);
        }
        self.end_in_store(node, &flight, version);
        if let Some(dataset) = flight.redis_dataset().filter(|_| self.nodes[node].has_redis) {
            let about = CallPurpose::Fetch(flight.key, flight.plan, flight.id);
            let place = TrialNode::place(flight.key, flight.plan);
            self.send(
                Process::Node(node),
                about,
                ScriptCall::Store { place: place.clone(), dataset, age: Duration::ZERO },
            );
            if self.nodes[node].has_claims {
                let holder = self.nodes[node].name.clone();
                self.send(
                    Process::Node(node),
                    CallPurpose::Nothing,
                    ScriptCall::Release { place, holder },
                );
            }
        }
        if before.contains(&true) {
            (0..self.nodes[node].running.len())
                .for_each(|next| self.ask_if_new(node, next, &flight));
        }
    }

    fn ask_if_new(&mut self, node: usize, next: usize, ended: &TrialFlight) {
        let flight = &self.nodes[node].running[next];
        let same_key = (flight.key, flight.plan) == (ended.key, ended.plan);
        if same_key && flight.is_about_to_ask() {
            self.ask_tier(node, next);
        }
    }

    /// Lets a writer write at the source and send the script.
    pub(super) fn write(&mut self, writer: usize, key: TrialKey, scopes: Arc<[InvalidationScope]>) {
        self.source.write(key);
        self.store.time = StoreTime(self.store.time.0 + 1);
        self.invalidate(writer, scopes);
    }

    /// Lets a writer send the script, perhaps again.
    pub(super) fn invalidate(&mut self, writer: usize, scopes: Arc<[InvalidationScope]>) {
        let now = self.clock(Process::Writer(writer));
        self.writers[writer].state = WriterState::Sent(now);
        self.writers[writer].scopes = Arc::clone(&scopes);
        self.send(
            Process::Writer(writer),
            CallPurpose::Invalidation,
            ScriptCall::Invalidate { scopes, unless_above: None },
        );
    }

    /// Lets a writer ask Redis for the progress of its invalidation.
    pub(super) fn ask_progress(&mut self, writer: usize) {
        let now = self.clock(Process::Writer(writer));
        let TrialWriter { state: WriterState::Waiting(invalidation), epoch_age, .. } =
            &self.writers[writer]
        else {
            return;
        };
        let call = invalidation.progress_call(epoch_age, now);
        let token = invalidation.token();
        self.send(Process::Writer(writer), CallPurpose::Progress(token), call);
    }

    fn on_writer_reply(
        &mut self,
        to: usize,
        sent: Moment,
        about: &CallPurpose,
        answer: &ScriptReply,
    ) {
        let now = self.clock(Process::Writer(to));
        let writer = &mut self.writers[to];
        match (&mut writer.state, about, answer) {
            (WriterState::Sent(at), CallPurpose::Invalidation, ScriptReply::Issued(issued))
                if *at == sent =>
            {
                let mut invalidation = Invalidation::new(issued, &mut writer.epoch_age, now);
                if writer.has_store {
                    invalidation = invalidation.with_store(store_id());
                }
                writer.state = WriterState::Waiting(invalidation);
                self.stamp(to);
            }
            (WriterState::Waiting(invalidation), CallPurpose::Progress(token), answer)
                if *token == invalidation.token() =>
            {
                invalidation.on_reply_to(sent, now, answer);
            }
            _ => {}
        }
        self.check_acknowledged(to);
    }

    /// Records a writer's invalidation as acknowledged if it is by now.
    pub(super) fn check_acknowledged(&mut self, writer: usize) {
        let now = self.clock(Process::Writer(writer));
        let TrialWriter { state: WriterState::Waiting(invalidation), epoch_age, .. } =
            &self.writers[writer]
        else {
            return;
        };
        let state = invalidation.state_at(epoch_age, now);
        let token = invalidation.token();
        let last = invalidation.progress_call(epoch_age, now);
        match state {
            InvalidationState::Waiting(_) | InvalidationState::Unstamped(_) => return,
            InvalidationState::Over => {
                let scopes = Arc::clone(&self.writers[writer].scopes);
                return self.invalidate(writer, scopes);
            }
            InvalidationState::Reported | InvalidationState::Lapsed(_) => {}
        }
        self.source.acknowledge(token);
        self.writers[writer].state = WriterState::Idle;
        if matches!(state, InvalidationState::Lapsed(_)) {
            self.send(Process::Writer(writer), CallPurpose::Nothing, last);
        }
    }

    /// Replaces the life of the server with another one, with `data`.
    pub(super) fn restart(&mut self, data: ReferenceServer) {
        self.server = data;
        self.life = ServerLife(self.life.0 + 1);
        self.next_epoch += 1;
    }
}
