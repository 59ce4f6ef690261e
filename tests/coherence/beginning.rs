//! How a scenario of the exhaustive check begins: everybody has joined, and perhaps something is
//! under way.

use super::check::CheckState;
use super::fleet::{TrialFleet, TrialMessage, TrialWriter, WriterState};
use super::scenario::{Scenario, TICK};
use super::source::TrialSource;
use super::store::TrialStore;
use bfb::coherence::*;

impl Scenario {
    /// All nodes have joined, and hold a lease and a dataset.
    pub(super) fn start(&self) -> CheckState {
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
        if self.restarted {
            state.restart_first(self);
        }
        if self.failed_over {
            state.fail_over(self);
        }
        state
    }
}

impl CheckState {
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

    /// The first node hears the news and reports it, and then another process takes its place.
    fn restart_first(&mut self, scenario: &Scenario) {
        let is_for_store =
            |message: &TrialMessage| matches!(message, TrialMessage::StoreRequest { .. });
        self.fleet.outgoing.append(&mut self.wire);
        self.settle_but(is_for_store);
        self.fleet.nodes[0] = scenario.node(0, 200);
        self.fleet.handle_event(0, ReplicaEvent::Tick);
        self.settle_but(is_for_store);
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
}
