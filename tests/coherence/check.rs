//! The exhaustive check: every order in which messages can arrive, be lost, or come twice, with
//! time and faults between.
//!
//! The messages on the wire have no order; one that is never delivered is lost. A node that takes
//! no step is paused. Time is discrete; a lease is a few ticks. Two states that no process can tell
//! apart count as one.

use std::sync::Arc;
use std::time::Duration;

use stateright::{Checker, Model, Property};

use super::fleet::{Process, TrialFleet, TrialMessage, TrialWriter, Violation, WriterState};
use super::guard_removal::GuardRemoval;
use super::node::TrialNode;
use super::source::{TrialSource, key_name, tags_of};
use super::steps::CheckStep;
use super::store::{TrialStore, store_id};
use bfb::coherence::*;

pub(super) const TICK: Duration = Duration::from_secs(1);

/// The first promise of the protocol.
pub(super) const FRESH: &str = "no read after an acknowledgement is older than it";

/// Longer than any exploration.
const NEVER: Duration = Duration::from_hours(1);

/// One bounded world to explore.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub(super) struct Scenario {
    /// The leases of the nodes, in ticks.
    pub(super) leases: Vec<u32>,
    /// The plan of each node.
    pub(super) plans: Vec<u8>,
    pub(super) writers: usize,
    /// The lease that the writers assume before they ask Redis, in ticks.
    pub(super) writer_lease: u32,
    /// The scopes that a write may invalidate.
    pub(super) scopes: Vec<InvalidationScope>,
    pub(super) redis: bool,
    pub(super) claims: bool,
    /// No node holds a dataset when the exploration begins.
    pub(super) starts_empty: bool,
    pub(super) drift: Duration,
    pub(super) grace: u32,
    pub(super) limits: LogLimits,
    pub(super) stamps_max: usize,
    /// The epoch is old and settled when the exploration begins.
    pub(super) settled: bool,
    /// A writer's request for progress is a message too, instead of one step.
    pub(super) slow_questions: bool,
    /// Pub/sub keeps its order, as hints need it; subscriptions come and go.
    pub(super) ordered: bool,
    pub(super) wire_max: usize,
    /// Which nodes have the store.
    pub(super) stores: Vec<bool>,
    /// Which writers stamp it.
    pub(super) stamping: Vec<bool>,
    /// A stamping takes several calls.
    pub(super) splits: bool,
    /// A reading of the store has several stages.
    pub(super) scans: bool,
    /// The nodes carry entries as soon as the mark is behind, not only if they found it so.
    pub(super) carries: bool,
    /// What keeps the store up to date is one step, call and reply.
    pub(super) prompt: bool,
    /// The mark of the epoch is open when the exploration begins.
    pub(super) opens: bool,
    /// The scopes that were invalidated when the exploration begins, and acknowledged.
    pub(super) before: Vec<InvalidationScope>,
    /// A flight has ended after those, and what it wrote is on its way to the store.
    pub(super) late_row: bool,
    /// The script of an invalidation has run, and its reply arrived; its stamping is on its way to
    /// the store, and the news to the sidecars.
    pub(super) issued: bool,
    /// Another primary has taken over since, and the old one has not noticed.
    pub(super) failed_over: bool,
    /// No node sends anything to Redis by itself.
    pub(super) idle: bool,
    /// All that is published is lost.
    pub(super) deaf: bool,
    pub(super) removal: GuardRemoval,
    /// The only property to check.
    pub(super) only: Option<&'static str>,
    pub(super) budget: StepBudget,
}

/// How often each event may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StepBudget {
    pub(super) ticks: u8,
    pub(super) writes: u8,
    pub(super) flights: u8,
    pub(super) duplicates: u8,
    pub(super) restarts: u8,
    pub(super) wipes: u8,
    pub(super) flushes: u8,
    pub(super) failovers: u8,
    pub(super) stops: u8,
    pub(super) stalls: u8,
    pub(super) hints: u8,
    pub(super) expiries: u8,
    pub(super) reloads: u8,
    pub(super) reboots: u8,
    pub(super) store_returns: u8,
    pub(super) trims: u8,
    pub(super) poisons: u8,
    /// Flights that go on without the store, which does not answer.
    pub(super) give_ups: u8,
}

/// A budget without any event.
pub(super) const NO_STEPS: StepBudget = StepBudget {
    ticks: 0,
    writes: 0,
    flights: 0,
    duplicates: 0,
    restarts: 0,
    wipes: 0,
    flushes: 0,
    failovers: 0,
    stops: 0,
    stalls: 0,
    hints: 0,
    expiries: 0,
    reloads: 0,
    reboots: 0,
    store_returns: 0,
    trims: 0,
    poisons: 0,
    give_ups: 0,
};

/// The state of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CheckState {
    pub(super) fleet: TrialFleet,
    pub(super) wire: Vec<TrialMessage>,
    /// Subscriptions that keep the order, and the undelivered messages of each; where a scenario
    /// has none, all messages are on the wire.
    pub(super) subscriptions: Vec<Option<Vec<TrialMessage>>>,
    /// The replica's copy of the primary.
    pub(super) redis_replica: Option<ReferenceServer>,
    /// The ticks for which the deposed primary goes on answering.
    pub(super) deposed_for: u32,
    pub(super) budget: StepBudget,
}

impl Scenario {
    /// Nodes with memory alone and the shortest lease, one writer, no faults.
    pub(super) fn new(nodes: usize, left: StepBudget) -> Self {
        Self {
            leases: vec![1; nodes],
            plans: vec![0; nodes],
            writers: 1,
            writer_lease: 1,
            scopes: vec![InvalidationScope::Key(key_name(0))],
            redis: false,
            claims: false,
            starts_empty: false,
            drift: Duration::ZERO,
            grace: 0,
            limits: LogLimits { entries_max: 4, stamps_max: 4 },
            stamps_max: 4,
            settled: true,
            slow_questions: false,
            ordered: false,
            wire_max: 8,
            stores: vec![false; nodes],
            stamping: Vec::new(),
            splits: false,
            scans: false,
            carries: false,
            prompt: false,
            opens: true,
            before: Vec::new(),
            late_row: false,
            issued: false,
            failed_over: false,
            idle: false,
            deaf: false,
            removal: GuardRemoval::default(),
            only: None,
            budget: left,
        }
    }

    /// The same with a store, which everybody has.
    pub(super) fn with_store(self) -> Self {
        let (stores, stamping) = (vec![true; self.leases.len()], vec![true; self.writers]);
        Self { stores, stamping, ..self }
    }

    pub(super) fn node(&self, index: usize, name: u8) -> TrialNode {
        let name = MemberName(key_name(name));
        let config = ReplicaConfig {
            drift_margin: self.drift,
            failover_grace: self.grace * TICK,
            heartbeat_interval: TICK,
            retry_interval: TICK,
            heartbeat_spacing: Duration::ZERO,
            gap_patience: Duration::ZERO,
            stamps_max: self.stamps_max,
            early_entries_max: 2,
            store: self.stores[index].then(store_id),
            store_patience: if self.carries { Duration::ZERO } else { NEVER },
            ..ReplicaConfig::new(name.clone(), self.leases[index] * TICK)
        };
        TrialNode {
            replica: Replica::new(config),
            name,
            plan: self.plans[index],
            memory: [].into(),
            flights: [].into(),
            running: Vec::new(),
            newest_applied: [].into(),
            is_alive: true,
            has_redis: self.redis,
            has_claims: self.claims,
            is_urgent: false,
            has_store: self.stores[index],
        }
    }

    /// All nodes have joined, and hold a lease and a dataset.
    fn start(&self) -> CheckState {
        let writer = |writer: usize| TrialWriter {
            state: WriterState::Idle,
            epoch_age: EpochAge::new(self.writer_lease * TICK, self.grace * TICK),
            scopes: [].into(),
            has_store: self.stamping.get(writer).is_some_and(|stamps| *stamps),
        };
        let node = |index| self.node(index, u8::try_from(index).unwrap());
        let fleet = TrialFleet {
            clocks: vec![TICK; self.leases.len() + self.writers],
            source: TrialSource::new(1),
            nodes: (0..self.leases.len()).map(node).collect(),
            writers: (0..self.writers).map(writer).collect(),
            server: ReferenceServer::new(self.limits),
            life: ServerLife(0),
            deposed: None,
            next_epoch: 1,
            store: TrialStore {
                splits: self.splits,
                scans: self.scans,
                prompt: self.prompt,
                ..TrialStore::new()
            },
            outgoing: Vec::new(),
            violation: None,
        };
        let mut state = CheckState {
            fleet,
            wire: Vec::new(),
            subscriptions: vec![None; self.leases.len()],
            redis_replica: None,
            deposed_for: 0,
            budget: self.budget,
        };
        let rounds =
            if self.settled { 2 * self.leases.iter().max().unwrap() + self.grace + 2 } else { 1 };
        for round in 0..rounds {
            if round > 0 {
                state.advance(None);
            }
            state.settle_down();
        }
        // The mark of the epoch is opened.
        for node in state.fleet.nodes.iter_mut().filter(|_| self.opens) {
            node.replica.on_store_found_behind();
        }
        state.settle_down();
        state.seed(self);
        state.fleet.store.copy = Some(state.fleet.store.server.clone());
        for scope in &self.before {
            state.fleet.write(0, 0, [scope.clone()].into());
            state.settle_down();
            state.fleet.ask_progress(0);
            state.settle_down();
        }
        state.seed(self);
        if self.late_row {
            state.leave_late_row();
        }
        if self.issued {
            state.redis_replica = Some(state.fleet.server.clone());
            state.leave_issued(&self.scopes[0]);
        }
        if self.failed_over {
            state.fail_over(self);
        }
        state
    }
}

impl CheckState {
    /// Delivers everything that is under way, in the order of sending, until nothing is.
    pub(super) fn settle_down(&mut self) {
        for _ in 0..64 {
            for node in 0..self.fleet.nodes.len() {
                if self.fleet.nodes[node].is_due(self.fleet.clock(Process::Node(node))) {
                    self.fleet.handle_event(node, ReplicaEvent::Tick);
                }
                self.end_collected_flights(node);
            }
            while !self.fleet.store.scanning.is_empty() {
                self.fleet.scan(0);
            }
            self.wire.append(&mut self.fleet.outgoing);
            if self.wire.is_empty() {
                break;
            }
            for message in std::mem::take(&mut self.wire) {
                self.fleet.deliver(message);
            }
        }
        self.wire.append(&mut self.fleet.outgoing);
    }

    /// Every node holds a dataset.
    fn seed(&mut self, scenario: &Scenario) {
        for node in (0..self.fleet.nodes.len()).filter(|_| !scenario.starts_empty) {
            self.fleet.read(node, 0);
            self.settle_down();
        }
    }

    /// A flight ends, and its row is on the way.
    fn leave_late_row(&mut self) {
        self.fleet.read(0, 0);
        self.settle_but(|message| {
            matches!(message, TrialMessage::StoreRequest { call: StoreCall::Write { .. }, .. })
        });
        self.fleet.nodes[0].memory.clear();
    }

    /// The script of an invalidation has run, and its reply has arrived.
    fn leave_issued(&mut self, scope: &InvalidationScope) {
        self.fleet.write(0, 0, [scope.clone()].into());
        self.settle_but(|message| {
            matches!(message, TrialMessage::Published { .. } | TrialMessage::StoreRequest { .. })
        });
    }

    /// Delivers everything but some messages, which stay under way.
    fn settle_but(&mut self, stays: impl Fn(&TrialMessage) -> bool) {
        for _ in 0..8 {
            for message in std::mem::take(&mut self.fleet.outgoing) {
                if stays(&message) {
                    self.wire.push(message);
                } else {
                    self.fleet.deliver(message);
                }
            }
            (0..self.fleet.nodes.len()).for_each(|node| self.end_collected_flights(node));
        }
    }

    fn end_collected_flights(&mut self, node: usize) {
        for flight in (0..self.fleet.nodes[node].running.len()).rev() {
            self.fleet.collect(node, flight);
            if self.fleet.nodes[node].running[flight].is_done() {
                self.fleet.end_flight(node, flight);
            }
        }
    }

    pub(super) fn advance(&mut self, stalled: Option<usize>) {
        for (index, clock) in self.fleet.clocks.iter_mut().enumerate() {
            if stalled != Some(index) {
                *clock += TICK;
            }
        }
        self.fleet.store.time = StoreTime(self.fleet.store.time.0 + 1);
        self.deposed_for = self.deposed_for.saturating_sub(1);
        if self.deposed_for == 0 {
            self.fleet.deposed = None;
        }
        (0..self.fleet.writers.len()).for_each(|writer| self.fleet.check_acknowledged(writer));
    }

    /// Whether every invalidation is acknowledged and every sidecar holds a lease, once links heal
    /// and Redis stays up.
    fn heals(&self, scenario: &Scenario, rounds: u32) -> bool {
        let mut state = self.clone();
        state.wire.clear();
        // Somebody has the store, if the fleet had one.
        for index in (0..state.fleet.nodes.len()).filter(|&index| scenario.stores[index]) {
            if state.fleet.nodes[index].replica.next_wake() == Moment::NEVER {
                state.fleet.nodes[index] = scenario.node(index, 200);
            }
        }
        for _ in 0..rounds {
            state.advance(None);
            state.settle_down();
            for writer in 0..state.fleet.writers.len() {
                if let WriterState::Sent(_) = state.fleet.writers[writer].state {
                    state.fleet.invalidate(writer, Arc::new([InvalidationScope::Key(key_name(0))]));
                }
                state.fleet.stamp(writer);
                state.fleet.ask_progress(writer);
            }
            state.settle_down();
            // A read finds it if the mark is behind.
            for node in 0..state.fleet.nodes.len() {
                state.fleet.nodes[node].replica.on_store_found_behind();
            }
        }
        // A row that no flight can have written is replaced by what is collected.
        state.fleet.nodes.iter_mut().for_each(|node| node.memory.clear());
        for node in 0..state.fleet.nodes.len() {
            state.fleet.read(node, 0);
            state.settle_down();
        }
        let idle = !state.fleet.store.is_poisoned()
            && state.fleet.writers.iter().all(|writer| writer.state == WriterState::Idle);
        let serving = |node: usize| {
            let of = &state.fleet.nodes[node];
            of.replica.next_wake() == Moment::NEVER
                || of.replica.may_serve(state.fleet.clock(Process::Node(node)))
                    && !of.replica.owes_store()
        };
        idle && (0..state.fleet.nodes.len()).all(serving)
    }

    /// Whether memory's answer to a request that came now is fresh.
    fn believed_is_fresh(&self) -> bool {
        let fleet = &self.fleet;
        fleet.nodes.iter().enumerate().all(|(index, node)| {
            let now = fleet.clock(Process::Node(index));
            node.memory.iter().all(|(&(key, plan), entry)| {
                let served = plan == node.plan
                    && node.replica.may_serve(now)
                    && node.replica.is_valid(entry.fence, &key_name(key), &tags_of(key));
                !served
                    || entry.version >= fleet.source.acknowledged[usize::from(key)]
                        && entry.plan == plan
            })
        })
    }

    /// Puts the messages that were sent on the wire, and drops those that can make no difference
    /// any more.
    fn normalise(&mut self, scenario: &Scenario) {
        let Scenario { ordered, deaf, .. } = *scenario;
        for message in std::mem::take(&mut self.fleet.outgoing) {
            match message {
                TrialMessage::Published { to, .. } | TrialMessage::Hint { to, .. } if ordered => {
                    self.subscriptions[to].iter_mut().for_each(|queue| queue.push(message.clone()));
                }
                _ => self.wire.push(message),
            }
        }
        let nodes = &mut self.fleet.nodes;
        self.wire.retain(|message| match message {
            TrialMessage::Published { .. } if deaf => false,
            TrialMessage::Published { to, published } => {
                nodes[*to].replica.applied().is_none_or(|applied| {
                    applied.epoch != published.epoch
                        || published.entries.iter().any(|entry| entry.seq > applied.seq)
                })
            }
            TrialMessage::Answer { to: Process::Node(to), .. }
            | TrialMessage::StoreAnswer { to: Process::Node(to), .. } => nodes[*to].is_alive,
            _ => true,
        });
        nodes.iter_mut().for_each(TrialNode::drop_invalid);
        self.wire.sort();
        self.wire.dedup();
    }
}

impl Model for Scenario {
    type State = CheckState;
    type Action = CheckStep;

    fn init_states(&self) -> Vec<CheckState> {
        self.removal.apply();
        let mut start = self.start();
        start.normalise(self);
        vec![start]
    }

    fn actions(&self, state: &CheckState, steps: &mut Vec<CheckStep>) {
        self.steps(state, steps);
    }

    fn next_state(&self, before: &CheckState, step: CheckStep) -> Option<CheckState> {
        self.removal.apply();
        let mut state = before.clone();
        state.step(self, step)?;
        state.normalise(self);
        // No new state: the step had no effect, or leads beyond the bounds of this scenario.
        (state != *before && state.wire.len() <= self.wire_max).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always(FRESH, |model: &Self, state: &CheckState| {
                model.removal.apply();
                state.believed_is_fresh()
                    && !matches!(
                        state.fleet.violation,
                        Some(Violation::StaleFromFlight | Violation::StaleFromMemory)
                    )
            }),
            Property::always(
                "the store gives nothing that an entry applied here names",
                |_, state: &CheckState| state.fleet.violation != Some(Violation::OutdatedHere),
            ),
            Property::always("rows never go back", |_, state: &CheckState| {
                state.fleet.violation != Some(Violation::RowWentBack)
            }),
            Property::always("nothing stale is written", |_, state: &CheckState| {
                !matches!(
                    state.fleet.violation,
                    Some(Violation::StaleIntoMemory | Violation::StaleIntoRedis)
                )
            }),
            Property::always("a hint that is heard invalidates", |_, state: &CheckState| {
                state.fleet.violation != Some(Violation::HintLost)
            }),
            Property::always("no dataset of another plan is served", |_, state: &CheckState| {
                state.fleet.violation != Some(Violation::OtherPlan)
            }),
            Property::always(
                "what is invalidated is acknowledged once links heal",
                |model: &Self, state: &CheckState| {
                    model.removal.apply();
                    let rounds = 4 * model.leases.iter().max().unwrap() + 2 * model.grace + 6;
                    !(state.budget.ticks == 0 && state.wire.is_empty())
                        || state.heals(model, rounds)
                },
            ),
        ];
        all.retain(|property| self.only.is_none_or(|only| property.name == only));
        all
    }
}

/// The result of an exploration.
#[derive(Debug)]
pub(super) struct Exploration {
    pub(super) states: usize,
    pub(super) depth: usize,
    pub(super) complete: bool,
    /// The property that does not hold, and the steps that show it.
    pub(super) counterexample: Option<(&'static str, Vec<CheckStep>)>,
}

/// Explores a scenario until it is exhausted, broken, or `states` are seen.
pub(super) fn explore(scenario: Scenario, states: usize) -> Exploration {
    let checker = scenario
        .checker()
        .target_state_count(states)
        .finish_when(stateright::HasDiscoveries::AnyFailures)
        .threads(2)
        .spawn_bfs()
        .join();
    let counterexample =
        checker.discoveries().into_iter().map(|(name, path)| (name, path.into_actions())).next();
    let complete = counterexample.is_none() && checker.is_done() && checker.state_count() < states;
    Exploration {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        complete,
        counterexample,
    }
}
