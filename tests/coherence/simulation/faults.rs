//! The faults of a simulation: processes, links, the server.

use super::*;

impl Simulation {
    pub(super) fn fault(&mut self) {
        self.after(self.profile.fault_every, SimulatedEvent::Fault);
        if self.rng.u8(..3) == 0 {
            // A replica of the server has the data of the last copy, which is made here.
            self.redis_replica = self.fleet.server.clone();
        }
        if self.profile.is_calm {
            return;
        }
        self.tally.faults += 1;
        let lease = u64::try_from(self.profile.lease.as_micros()).unwrap_or(u64::MAX);
        let process = self.rng.usize(..self.rates.len());
        let node = self.rng.usize(..self.size.sidecars);
        let duration = self.rng.u64(1..=3 * lease);
        match self.profile.fault(&mut self.rng) {
            0 => self.mute_until[process] = self.now + duration,
            1 => self.deaf_until[process] = self.now + duration,
            2 => {
                self.mute_until[process] = self.now + duration;
                self.deaf_until[process] = self.now + duration;
            }
            3..5 => self.paused_until[process] = self.now + duration,
            5 => self.break_subscription(node),
            6 => self.kill(node, duration),
            7 => self.stop(node, duration),
            8 => {
                self.fleet.nodes[node].plan ^= 1;
                self.fleet.server.expire_claim(&TrialNode::place(self.rng.u8(..KEYS), 0));
            }
            _ if self.profile.keeps_epoch => {}
            _ => self.server_fault(duration),
        }
    }

    pub(super) fn kill(&mut self, node: usize, duration: u64) {
        self.fleet.nodes[node].is_alive = false;
        self.at(self.now + duration, SimulatedEvent::RestartNode(node));
    }

    pub(super) fn stop(&mut self, node: usize, duration: u64) {
        if self.fleet.nodes[node].is_alive {
            self.fleet.handle_event(node, ReplicaEvent::Stop);
            if self.rng.bool() {
                // Its connections end as soon as it has sent its deregistration; messages on their
                // way to it still arrive.
                self.dispatch();
                self.mute_until[node] = self.now + duration;
            }
            self.at(self.now + duration, SimulatedEvent::RestartNode(node));
        }
    }

    pub(super) fn server_fault(&mut self, duration: u64) {
        if !self.server_up || self.fleet.deposed.is_some() {
            return;
        }
        match self.rng.u8(..5) {
            0 => self.fleet.restart(ReferenceServer::new(self.profile.limits)),
            1 => self.fleet.restart(self.fleet.server.clone()),
            2 => {
                self.fleet.server = ReferenceServer::new(self.profile.limits);
                self.fleet.next_epoch += 1;
                return;
            }
            _ => return self.fail_over(),
        }
        if self.rng.bool() {
            self.server_up = false;
            self.at(self.now + duration, SimulatedEvent::ServerUp);
        }
        (0..self.size.sidecars).for_each(|node| self.break_subscription(node));
    }

    /// Lets a replica take over; some processes go on talking to the old primary for a while.
    pub(super) fn fail_over(&mut self) {
        let old = (self.fleet.server.clone(), self.fleet.life);
        self.fleet.restart(self.redis_replica.clone());
        let grace = u64::try_from(self.profile.grace.as_micros()).unwrap_or(u64::MAX);
        if grace > 0 {
            self.fleet.deposed = Some(old);
            self.uses_deposed.iter_mut().for_each(|attached| *attached = self.rng.bool());
            let until = self.now + self.rng.u64(..grace);
            self.at(until, SimulatedEvent::Depose);
        }
        (0..self.size.sidecars).for_each(|node| self.break_subscription(node));
    }

    pub(super) fn depose(&mut self) {
        self.fleet.deposed = None;
        self.uses_deposed.fill(false);
    }
}
