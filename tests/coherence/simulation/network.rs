//! The network of a simulation: messages are delayed, doubled, lost.

use super::*;

impl Simulation {
    /// Puts the messages that the fleet sent on their way.
    pub(super) fn dispatch(&mut self) {
        for message in std::mem::take(&mut self.fleet.outgoing) {
            match &message {
                TrialMessage::Published { to, .. } | TrialMessage::Hint { to, .. } => {
                    self.publish(*to, message);
                }
                TrialMessage::StoreRequest { from: who, .. }
                | TrialMessage::StoreAnswer { to: who, .. } => {
                    let index = self.index(*who);
                    self.carry_to_store(index, message);
                }
                TrialMessage::Request { from: who, .. } | TrialMessage::Answer { to: who, .. } => {
                    let index = self.index(*who);
                    self.carry(index, message);
                }
            }
        }
    }

    pub(super) fn publish(&mut self, to: usize, message: TrialMessage) {
        if !self.subscribed[to] || !self.fleet.nodes[to].is_alive {
            return;
        }
        if self.deaf_until[to] > self.now || self.rng.f64() < self.profile.loss_share {
            // Redis drops a subscriber that is too slow; a client that drops a message reports
            // that.
            if self.profile.ordered {
                return self.break_subscription(to);
            }
            return;
        }
        let mut time = self.now + self.profile.delay(&mut self.rng, self.profile.latency);
        if self.profile.ordered {
            time = time.max(self.subscription_until[to]);
            self.subscription_until[to] = time;
        } else if self.rng.f64() < self.profile.loss_share {
            self.at(time + 1_000, SimulatedEvent::Arrive(message.clone(), self.subscription[to]));
        }
        self.at(time, SimulatedEvent::Arrive(message, self.subscription[to]));
    }

    pub(super) fn carry(&mut self, process: usize, message: TrialMessage) {
        let token = self.incarnation[process];
        let cut = if matches!(message, TrialMessage::Request { .. }) {
            &self.mute_until
        } else {
            &self.deaf_until
        };
        if cut[process] > self.now || self.rng.f64() < self.profile.loss_share {
            // A call that is not answered in time is a miss.
            if let TrialMessage::Request {
                from,
                sent,
                about: about @ (CallPurpose::Fetch(..) | CallPurpose::Claim(..)),
                ..
            }
            | TrialMessage::Answer {
                to: from,
                sent,
                about: about @ (CallPurpose::Fetch(..) | CallPurpose::Claim(..)),
                ..
            } = message
            {
                let lost =
                    TrialMessage::Answer { to: from, sent, about, answer: ScriptReply::OtherLife };
                self.at(self.now + 50_000, SimulatedEvent::Arrive(lost, token));
            }
            return;
        }
        let delay = self.profile.delay(&mut self.rng, self.profile.latency);
        if self.rng.f64() < self.profile.loss_share / 4.0
            && !matches!(message, TrialMessage::Request { .. })
        {
            self.at(self.now + 3 * delay, SimulatedEvent::Arrive(message.clone(), token));
        }
        self.at(self.now + delay, SimulatedEvent::Arrive(message, token));
    }

    pub(super) fn arrive(&mut self, message: TrialMessage, token: u32) {
        match &message {
            TrialMessage::Request { from, call, .. } => {
                let process = self.index(*from);
                let invalidates = matches!(call, ScriptCall::Invalidate { .. });
                let deposed = self.uses_deposed[process] && self.fleet.deposed.is_some();
                if deposed && !invalidates {
                    return self.fleet.serve(message, true);
                }
                if self.server_up {
                    return self.fleet.serve(message, false);
                }
                self.carry_back_nothing(process, message);
            }
            TrialMessage::Answer { to: Process::Node(to), .. }
            | TrialMessage::StoreAnswer { to: Process::Node(to), .. } => {
                if self.incarnation[*to] == token && self.fleet.nodes[*to].is_alive {
                    self.fleet.deliver(message);
                }
            }
            TrialMessage::Published { to, .. } | TrialMessage::Hint { to, .. } => {
                if self.subscription[*to] == token && self.fleet.nodes[*to].is_alive {
                    self.fleet.deliver(message);
                }
            }
            TrialMessage::StoreRequest { .. } if self.store_frozen_until > self.now => {
                let until = self.store_frozen_until;
                self.at(until, SimulatedEvent::Arrive(message, token));
            }
            TrialMessage::StoreRequest { .. } => {
                self.fleet.deliver(message);
                if !self.fleet.store.scanning.is_empty() {
                    self.after(self.profile.latency, SimulatedEvent::ScanStore);
                }
            }
            TrialMessage::Answer { .. } | TrialMessage::StoreAnswer { .. } => {
                self.fleet.deliver(message);
            }
        }
    }

    /// Reports to the callers of reads from Redis, after the time that a call may take, that the
    /// server is away.
    pub(super) fn carry_back_nothing(&mut self, process: usize, message: TrialMessage) {
        if let TrialMessage::Request {
            from,
            sent,
            about: about @ (CallPurpose::Fetch(..) | CallPurpose::Claim(..)),
            ..
        } = message
        {
            let lost =
                TrialMessage::Answer { to: from, sent, about, answer: ScriptReply::OtherLife };
            self.at(self.now + 50_000, SimulatedEvent::Arrive(lost, self.incarnation[process]));
        }
    }
}
