//! The steps of the exhaustive check: which may come next in a state, and the effect of each.

use std::sync::Arc;

use super::check::CheckState;
use super::fleet::{Process, TrialMessage, WriterState};
use super::node::{FlightStep, TrialNode};
use super::scenario::Scenario;
use bfb::coherence::*;

/// One step of an exploration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum CheckStep {
    Advance,
    AdvanceBut(usize),
    Wake(usize),
    Read(usize),
    Collect(usize, usize),
    EndFlight(usize, usize),
    Deliver(usize),
    DeliverToDeposed(usize),
    Duplicate(usize),
    Write(usize, usize),
    Question(usize),
    Restart,
    Wipe,
    Flush,
    Replicate,
    FailOver,
    Stop(usize),
    Hint,
    Subscribe(usize),
    Unsubscribe(usize),
    DeliverNext(usize),
    ExpireClaim,
    Reload(usize),
    Reboot(usize),
    CopyStore,
    ReturnStore,
    Scan(usize),
    RaiseFloor,
    DropStamps,
    Poison,
    GiveUp(usize, usize),
}

impl Scenario {
    /// Adds the steps that may come next.
    pub(super) fn steps(&self, state: &CheckState, steps: &mut Vec<CheckStep>) {
        let fleet = &state.fleet;
        let left = &state.budget;
        let mut offer = |allowed: bool, step: CheckStep| steps.extend(allowed.then_some(step));
        for (index, message) in state.wire.iter().enumerate() {
            let request = matches!(message, TrialMessage::Request { .. });
            let invalidates = matches!(
                message,
                TrialMessage::Request { call: ScriptCall::Invalidate { .. }, .. }
            );
            offer(true, CheckStep::Deliver(index));
            offer(left.duplicates > 0, CheckStep::Duplicate(index));
            offer(
                request && !invalidates && fleet.deposed.is_some(),
                CheckStep::DeliverToDeposed(index),
            );
        }
        for node in (0..fleet.nodes.len()).filter(|&node| fleet.nodes[node].is_alive) {
            let of = &fleet.nodes[node];
            let now = fleet.clock(Process::Node(node));
            offer(!self.idle && of.is_due(now), CheckStep::Wake(node));
            offer(left.reboots > 0, CheckStep::Reboot(node));
            offer(left.flights > 0 || !of.running.is_empty(), CheckStep::Read(node));
            offer(left.stalls > 0, CheckStep::AdvanceBut(node));
            offer(left.stops > 0, CheckStep::Stop(node));
            offer(left.reloads > 0, CheckStep::Reload(node));
            let subscription = state.subscriptions[node].as_ref();
            offer(self.ordered && subscription.is_none(), CheckStep::Subscribe(node));
            offer(subscription.is_some(), CheckStep::Unsubscribe(node));
            offer(
                subscription.is_some_and(|queue| !queue.is_empty()),
                CheckStep::DeliverNext(node),
            );
            for (index, flight) in of.running.iter().enumerate() {
                offer(
                    left.give_ups > 0 && matches!(flight.step, FlightStep::Consulting(_)),
                    CheckStep::GiveUp(node, index),
                );
                offer(
                    matches!(flight.step, FlightStep::Collecting(_)),
                    CheckStep::Collect(node, index),
                );
                offer(flight.is_done(), CheckStep::EndFlight(node, index));
            }
        }
        for (writer, of) in fleet.writers.iter().enumerate() {
            for scope in 0..self.scopes.len() {
                offer(
                    left.writes > 0 && of.state == WriterState::Idle,
                    CheckStep::Write(writer, scope),
                );
            }
            offer(matches!(of.state, WriterState::Waiting(_)), CheckStep::Question(writer));
        }
        offer(left.ticks > 0, CheckStep::Advance);
        offer(left.restarts > 0, CheckStep::Restart);
        offer(left.wipes > 0, CheckStep::Wipe);
        offer(left.flushes > 0, CheckStep::Flush);
        offer(left.failovers > 0, CheckStep::Replicate);
        offer(left.failovers > 0 && state.redis_replica.is_some(), CheckStep::FailOver);
        offer(left.hints > 0, CheckStep::Hint);
        offer(left.expiries > 0, CheckStep::ExpireClaim);
        Self::store_steps(state, steps);
    }
}

impl Scenario {
    /// Adds the steps of the store and of its faults.
    fn store_steps(state: &CheckState, steps: &mut Vec<CheckStep>) {
        let (store, left) = (&state.fleet.store, &state.budget);
        let mut offer = |allowed: bool, step: CheckStep| steps.extend(allowed.then_some(step));
        (0..store.scanning.len()).for_each(|scan| offer(true, CheckStep::Scan(scan)));
        offer(left.store_returns > 0, CheckStep::CopyStore);
        offer(left.store_returns > 0 && store.copy.is_some(), CheckStep::ReturnStore);
        offer(left.trims > 0, CheckStep::RaiseFloor);
        offer(left.trims > 0, CheckStep::DropStamps);
        offer(left.poisons > 0, CheckStep::Poison);
    }
}

impl CheckState {
    /// Takes a step; `None` where the budget does not allow it.
    pub(super) fn step(&mut self, scenario: &Scenario, step: CheckStep) -> Option<()> {
        let fleet = &mut self.fleet;
        let left = &mut self.budget;
        match step {
            CheckStep::Advance => {
                left.ticks -= 1;
                self.advance(None);
            }
            CheckStep::AdvanceBut(node) => {
                left.stalls -= 1;
                self.advance(Some(node));
            }
            CheckStep::Wake(node) => fleet.handle_event(node, ReplicaEvent::Tick),
            CheckStep::Read(node) => {
                let before = fleet.nodes[node].running.len();
                fleet.read(node, 0);
                left.flights =
                    left.flights.checked_sub(u8::from(fleet.nodes[node].running.len() > before))?;
            }
            CheckStep::Collect(node, flight) => fleet.collect(node, flight),
            CheckStep::EndFlight(node, flight) => fleet.end_flight(node, flight),
            CheckStep::Deliver(index) => fleet.deliver(self.wire.remove(index)),
            CheckStep::DeliverToDeposed(index) => fleet.serve(self.wire.remove(index), true),
            CheckStep::Duplicate(index) => {
                left.duplicates -= 1;
                fleet.deliver(self.wire[index].clone());
            }
            CheckStep::Write(writer, scope) => {
                left.writes -= 1;
                fleet.write(writer, 0, Arc::new([scenario.scopes[scope].clone()]));
            }
            CheckStep::Question(writer) => self.question(scenario, writer),
            CheckStep::Stop(node) => {
                left.stops -= 1;
                fleet.handle_event(node, ReplicaEvent::Stop);
            }
            CheckStep::Hint => self.hint(),
            CheckStep::Subscribe(node) => {
                self.subscriptions[node] = Some(Vec::new());
                fleet.handle_event(node, ReplicaEvent::LinkUp { ordered: true });
            }
            CheckStep::Unsubscribe(node) => {
                self.subscriptions[node] = None;
                fleet.handle_event(node, ReplicaEvent::LinkLost);
            }
            CheckStep::DeliverNext(node) => {
                fleet.deliver(self.subscriptions[node].as_mut()?.remove(0));
            }
            CheckStep::Reload(node) => {
                left.reloads -= 1;
                fleet.nodes[node].plan ^= 1;
            }
            CheckStep::GiveUp(node, flight) => {
                left.give_ups -= 1;
                fleet.give_up_store(node, flight);
            }
            CheckStep::Reboot(node) => {
                left.reboots -= 1;
                fleet.nodes[node] = scenario.node(node, 100 + left.reboots);
            }
            CheckStep::Scan(_)
            | CheckStep::CopyStore
            | CheckStep::ReturnStore
            | CheckStep::RaiseFloor
            | CheckStep::DropStamps
            | CheckStep::Poison => self.store_step(step),
            fault => self.server_step(scenario, fault)?,
        }
        Some(())
    }

    /// Takes a step of the store's.
    fn store_step(&mut self, step: CheckStep) {
        let store = &mut self.fleet.store;
        let left = &mut self.budget;
        match step {
            CheckStep::Scan(scan) => self.fleet.scan(scan),
            CheckStep::CopyStore => store.copy = Some(store.server.clone()),
            CheckStep::ReturnStore => {
                left.store_returns -= 1;
                store.go_back();
            }
            CheckStep::RaiseFloor => store.server.raise_floor(store.server.seq()),
            CheckStep::DropStamps => {
                left.trims -= 1;
                store.server.drop_stamps(store.server.seq());
            }
            CheckStep::Poison => {
                left.poisons -= 1;
                store.poison();
            }
            _ => {}
        }
    }

    /// Takes a step of the server's.
    fn server_step(&mut self, scenario: &Scenario, step: CheckStep) -> Option<()> {
        let fleet = &mut self.fleet;
        let left = &mut self.budget;
        match step {
            CheckStep::Restart => {
                left.restarts -= 1;
                fleet.restart(fleet.server.clone());
            }
            CheckStep::Wipe => {
                left.wipes -= 1;
                fleet.restart(ReferenceServer::new(scenario.limits));
            }
            CheckStep::Flush => {
                left.flushes -= 1;
                fleet.server = ReferenceServer::new(scenario.limits);
                fleet.next_epoch += 1;
            }
            CheckStep::Replicate => self.redis_replica = Some(fleet.server.clone()),
            CheckStep::FailOver => {
                left.failovers -= 1;
                self.fail_over(scenario)?;
            }
            CheckStep::ExpireClaim => {
                left.expiries -= 1;
                fleet.server.expire_claim(&TrialNode::place(0, 0));
            }
            _ => {}
        }
        Some(())
    }

    /// The replica of the server takes over.
    pub(super) fn fail_over(&mut self, scenario: &Scenario) -> Option<()> {
        let fleet = &mut self.fleet;
        let replica = self.redis_replica.take()?;
        let deposed = (std::mem::replace(&mut fleet.server, replica.clone()), fleet.life);
        fleet.restart(replica);
        self.deposed_for = scenario.grace;
        fleet.deposed = (scenario.grace > 0).then_some(deposed);
        Some(())
    }

    fn question(&mut self, scenario: &Scenario, writer: usize) {
        self.fleet.ask_progress(writer);
        if scenario.slow_questions {
            return;
        }
        for _ in 0..2 {
            for message in std::mem::take(&mut self.fleet.outgoing) {
                self.fleet.deliver(message);
            }
        }
    }

    /// A program that does not run the script writes at the source and publishes a hint.
    fn hint(&mut self) {
        self.budget.hints -= 1;
        self.fleet.source.write(0);
        let version = self.fleet.source.versions[0];
        let hints =
            (0..self.fleet.nodes.len()).map(|to| TrialMessage::Hint { to, key: 0, version });
        self.fleet.outgoing.extend(hints);
    }
}
