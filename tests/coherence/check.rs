//! The exhaustive check: every order in which messages can arrive, be lost, or come twice, with
//! time and faults between.
//!
//! The messages on the wire have no order; one that is never delivered is lost. A node that takes
//! no step is paused. Time is discrete; a lease is a few ticks. Two states that no process can tell
//! apart count as one.

use std::sync::Arc;

use stateright::{Checker, Model, Property};

use super::fleet::{Process, TrialFleet, TrialMessage, Violation, WriterState};
use super::node::TrialNode;
use super::scenario::{Scenario, StepBudget, TICK};
use super::source::{key_name, tags_of};
use super::steps::CheckStep;
use bfb::coherence::*;

/// The first promise of the protocol.
pub(super) const FRESH: &str = "no read after an acknowledgement is older than it";

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

    pub(super) fn end_collected_flights(&mut self, node: usize) {
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
