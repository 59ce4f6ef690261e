//! The steps of the exhaustive check: which may come next in a state, and what each does.

use std::sync::Arc;

use super::super::*;
use super::check::{Scenario, State};
use super::fleet::{Message, Who, Writing};
use super::node::{Node, Step as FlightStep};

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Advance,
    AdvanceBut(usize),
    Wake(usize),
    Read(usize),
    Collect(usize, usize),
    Land(usize, usize),
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
    Empty(usize),
    Reload(usize),
}

impl Scenario {
    /// What may come next.
    pub(super) fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        let (fleet, left) = (&state.fleet, &state.left);
        let mut offer = |allowed: bool, step: Step| steps.extend(allowed.then_some(step));
        for (index, message) in state.wire.iter().enumerate() {
            let request = matches!(message, Message::Request { .. });
            let invalidates =
                matches!(message, Message::Request { call: Call::Invalidate { .. }, .. });
            offer(true, Step::Deliver(index));
            offer(left.duplicates > 0, Step::Duplicate(index));
            offer(
                request && !invalidates && fleet.deposed.is_some(),
                Step::DeliverToDeposed(index),
            );
        }
        for node in (0..fleet.nodes.len()).filter(|&node| fleet.nodes[node].alive) {
            let of = &fleet.nodes[node];
            let now = fleet.clock(Who::Node(node));
            offer(of.sidecar.wakes_at() <= now, Step::Wake(node));
            offer(left.flights > 0 || !of.air.is_empty(), Step::Read(node));
            offer(left.stalls > 0, Step::AdvanceBut(node));
            offer(left.stops > 0, Step::Stop(node));
            offer(left.empties > 0, Step::Empty(node));
            offer(left.reloads > 0, Step::Reload(node));
            let subscription = state.subscriptions[node].as_ref();
            offer(self.ordered && subscription.is_none(), Step::Subscribe(node));
            offer(subscription.is_some(), Step::Unsubscribe(node));
            offer(subscription.is_some_and(|queue| !queue.is_empty()), Step::DeliverNext(node));
            for (index, flight) in of.air.iter().enumerate() {
                let done =
                    matches!(flight.step, FlightStep::Collected(..) | FlightStep::Fetched(..));
                offer(matches!(flight.step, FlightStep::Collecting(_)), Step::Collect(node, index));
                offer(done, Step::Land(node, index));
            }
        }
        for (writer, of) in fleet.writers.iter().enumerate() {
            for scope in 0..self.scopes.len() {
                offer(left.writes > 0 && of.state == Writing::Idle, Step::Write(writer, scope));
            }
            offer(matches!(of.state, Writing::Waiting(_)), Step::Question(writer));
        }
        offer(left.ticks > 0, Step::Advance);
        offer(left.restarts > 0, Step::Restart);
        offer(left.wipes > 0, Step::Wipe);
        offer(left.flushes > 0, Step::Flush);
        offer(left.failovers > 0, Step::Replicate);
        offer(left.failovers > 0 && state.replica.is_some(), Step::FailOver);
        offer(left.hints > 0, Step::Hint);
        offer(left.expiries > 0, Step::ExpireClaim);
    }
}

impl State {
    /// Takes a step; nothing where it is beyond what is left.
    pub(super) fn step(&mut self, scenario: &Scenario, step: Step) -> Option<()> {
        let (fleet, left) = (&mut self.fleet, &mut self.left);
        match step {
            Step::Advance => {
                left.ticks -= 1;
                self.advance(None);
            }
            Step::AdvanceBut(node) => {
                left.stalls -= 1;
                self.advance(Some(node));
            }
            Step::Wake(node) => fleet.tell(node, Event::Tick),
            Step::Read(node) => {
                let before = fleet.nodes[node].air.len();
                fleet.read(node, 0);
                left.flights =
                    left.flights.checked_sub(u8::from(fleet.nodes[node].air.len() > before))?;
            }
            Step::Collect(node, flight) => fleet.collect(node, flight),
            Step::Land(node, flight) => fleet.land(node, flight),
            Step::Deliver(index) => fleet.deliver(self.wire.remove(index)),
            Step::DeliverToDeposed(index) => fleet.serve(self.wire.remove(index), true),
            Step::Duplicate(index) => {
                left.duplicates -= 1;
                fleet.deliver(self.wire[index].clone());
            }
            Step::Write(writer, scope) => {
                left.writes -= 1;
                fleet.write(writer, 0, Arc::new([scenario.scopes[scope].clone()]));
            }
            Step::Question(writer) => self.question(scenario, writer),
            Step::Restart => {
                left.restarts -= 1;
                fleet.restart(fleet.server.clone());
            }
            Step::Wipe => {
                left.wipes -= 1;
                fleet.restart(Server::new(scenario.limits, scenario.guards));
            }
            Step::Flush => {
                left.flushes -= 1;
                fleet.server = Server::new(scenario.limits, scenario.guards);
                fleet.era += 1;
            }
            Step::Replicate => self.replica = Some(fleet.server.clone()),
            Step::FailOver => {
                left.failovers -= 1;
                let replica = self.replica.take()?;
                let deposed = (std::mem::replace(&mut fleet.server, replica.clone()), fleet.life);
                fleet.restart(replica);
                self.deposed_for = scenario.grace;
                fleet.deposed = (scenario.grace > 0).then_some(deposed);
            }
            Step::Stop(node) => {
                left.stops -= 1;
                fleet.tell(node, Event::Stop);
            }
            Step::Hint => self.hint(),
            Step::Subscribe(node) => {
                self.subscriptions[node] = Some(Vec::new());
                fleet.tell(node, Event::LinkUp { ordered: true });
            }
            Step::Unsubscribe(node) => {
                self.subscriptions[node] = None;
                fleet.tell(node, Event::LinkLost);
            }
            Step::DeliverNext(node) => fleet.deliver(self.subscriptions[node].as_mut()?.remove(0)),
            Step::ExpireClaim => {
                left.expiries -= 1;
                fleet.server.expire(&Node::place(0, 0));
            }
            Step::Empty(node) => {
                left.empties -= 1;
                fleet.nodes[node].sidecar.empty();
            }
            Step::Reload(node) => {
                left.reloads -= 1;
                fleet.nodes[node].plan ^= 1;
            }
        }
        Some(())
    }

    fn question(&mut self, scenario: &Scenario, writer: usize) {
        self.fleet.question(writer);
        if scenario.slow_questions {
            return;
        }
        for _ in 0..2 {
            for message in std::mem::take(&mut self.fleet.out) {
                self.fleet.deliver(message);
            }
        }
    }

    /// A program that knows nothing of the script writes at the source and publishes a hint.
    fn hint(&mut self) {
        self.left.hints -= 1;
        self.fleet.source.write(0);
        let version = self.fleet.source.versions[0];
        let heard = (0..self.fleet.nodes.len()).map(|to| Message::Hint { to, key: 0, version });
        self.fleet.out.extend(heard);
    }
}
