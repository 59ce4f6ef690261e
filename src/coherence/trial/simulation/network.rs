//! What the fleet sends, on its way: delayed, doubled, lost.

use super::*;

impl Simulation {
    /// What the fleet sent sets out.
    pub(super) fn dispatch(&mut self) {
        for message in std::mem::take(&mut self.fleet.out) {
            match &message {
                Message::Published { to, .. } | Message::Hint { to, .. } => {
                    self.publish(*to, message)
                }
                Message::Request { from: who, .. } | Message::Answer { to: who, .. } => {
                    let index = self.index(*who);
                    self.carry(index, message);
                }
            }
        }
    }

    pub(super) fn publish(&mut self, to: usize, message: Message) {
        if !self.subscribed[to] || !self.fleet.nodes[to].alive {
            return;
        }
        if self.deaf_until[to] > self.now || self.rng.f64() < self.hostility.loss {
            // Redis drops a subscriber that is too slow; a client that drops something says so.
            if self.hostility.ordered {
                return self.break_subscription(to);
            }
            return;
        }
        let mut time = self.now + self.hostility.delay(&mut self.rng, self.hostility.latency);
        if self.hostility.ordered {
            time = time.max(self.subscription_until[to]);
            self.subscription_until[to] = time;
        } else if self.rng.f64() < self.hostility.loss {
            self.at(time + 1_000, Happening::Arrive(message.clone(), self.subscription[to]));
        }
        self.at(time, Happening::Arrive(message, self.subscription[to]));
    }

    pub(super) fn carry(&mut self, process: usize, message: Message) {
        let token = self.incarnation[process];
        let cut = if matches!(message, Message::Request { .. }) {
            &self.mute_until
        } else {
            &self.deaf_until
        };
        if cut[process] > self.now || self.rng.f64() < self.hostility.loss {
            // A call that is not answered in time is a miss.
            if let Message::Request {
                from,
                sent,
                about: about @ (About::Fetch(..) | About::Claim(..)),
                ..
            }
            | Message::Answer {
                to: from,
                sent,
                about: about @ (About::Fetch(..) | About::Claim(..)),
                ..
            } = message
            {
                let gone = Message::Answer { to: from, sent, about, answer: Answer::OtherLife };
                self.at(self.now + 50_000, Happening::Arrive(gone, token));
            }
            return;
        }
        let delay = self.hostility.delay(&mut self.rng, self.hostility.latency);
        if self.rng.f64() < self.hostility.loss / 4.0 && !matches!(message, Message::Request { .. })
        {
            self.at(self.now + 3 * delay, Happening::Arrive(message.clone(), token));
        }
        self.at(self.now + delay, Happening::Arrive(message, token));
    }

    pub(super) fn arrive(&mut self, message: Message, token: u32) {
        match &message {
            Message::Request { from, call, .. } => {
                let process = self.index(*from);
                let invalidates = matches!(call, Call::Invalidate { .. });
                let deposed = self.attached[process] && self.fleet.deposed.is_some();
                if deposed && !invalidates {
                    return self.fleet.serve(message, true);
                }
                if self.server_up {
                    return self.fleet.serve(message, false);
                }
                self.carry_back_nothing(process, message);
            }
            Message::Answer { to: Who::Node(to), .. } => {
                if self.incarnation[*to] == token && self.fleet.nodes[*to].alive {
                    self.fleet.deliver(message);
                }
            }
            Message::Published { to, .. } | Message::Hint { to, .. } => {
                if self.subscription[*to] == token && self.fleet.nodes[*to].alive {
                    self.fleet.deliver(message);
                }
            }
            Message::Answer { .. } => self.fleet.deliver(message),
        }
    }

    /// The server is away: whoever asked for a dataset learns that, in time.
    pub(super) fn carry_back_nothing(&mut self, process: usize, message: Message) {
        if let Message::Request {
            from,
            sent,
            about: about @ (About::Fetch(..) | About::Claim(..)),
            ..
        } = message
        {
            let gone = Message::Answer { to: from, sent, about, answer: Answer::OtherLife };
            self.at(self.now + 50_000, Happening::Arrive(gone, self.incarnation[process]));
        }
    }
}
