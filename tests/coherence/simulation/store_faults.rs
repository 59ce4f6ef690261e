//! The faults of a simulated store, and the network before it.

use super::*;

impl Simulation {
    /// A sidecar of before has named the store, and left.
    pub(super) fn name_store(&mut self) {
        let name = MemberName("before".into());
        let beat = Heartbeat {
            name: name.clone(),
            lease: self.profile.lease,
            applied: None,
            marks_settled: false,
            store: Some(StoreReport { id: store_id(), mark: None }),
        };
        let fresh_epoch = Epoch(self.fleet.next_epoch);
        for call in [ScriptCall::Heartbeat(beat), ScriptCall::Deregister(name)] {
            let request = ScriptRequest { protocol: PROTOCOL, fresh_epoch, call };
            self.fleet.server.run(self.fleet.life, &request);
        }
    }

    pub(super) fn store_fault(&mut self) {
        self.after(self.profile.fault_every, SimulatedEvent::StoreFault);
        if self.rng.u8(..3) == 0 {
            self.fleet.store.copy = Some(self.fleet.store.server.clone());
        }
        if self.profile.is_calm {
            return;
        }
        self.tally.faults += 1;
        let lease = u64::try_from(self.profile.lease.as_micros()).unwrap_or(u64::MAX);
        let duration = self.rng.u64(1..=3 * lease);
        let process = self.rng.usize(..self.rates.len());
        match self.rng.u8(..FaultProfile::STORE_FAULTS) {
            0 | 1 => self.store_cut_until[process] = self.now + duration,
            2 => self.store_cut_until.fill(self.now + duration),
            3 => self.store_frozen_until = self.now + duration,
            4 => self.fleet.store.go_back(),
            5 => {
                let up_to = self.rng.u64(..=self.fleet.store.server.seq());
                self.fleet.store.server.raise_floor(up_to);
                self.after(duration, SimulatedEvent::DropStamps(up_to));
            }
            6 => self.fleet.store.poison(),
            _ => {
                let after = self.rng.u64(1..=lease);
                (0..self.size.sidecars).for_each(|node| self.kill(node, after));
            }
        }
    }

    /// Does the next stage of one reading.
    pub(super) fn scan_store(&mut self) {
        let begun = self.fleet.store.scanning.len();
        if begun > 0 {
            let scan = self.rng.usize(..begun);
            self.fleet.scan(scan);
            self.after(self.profile.latency / 4, SimulatedEvent::ScanStore);
        }
    }

    pub(super) fn carry_to_store(&mut self, process: usize, message: TrialMessage) {
        let token = self.incarnation[process];
        let is_cut = self.store_cut_until[process] > self.now;
        if is_cut || self.rng.f64() < self.profile.loss_share {
            return self.answer_nothing(message, token);
        }
        let delay = self.profile.delay(&mut self.rng, self.profile.latency);
        self.at(self.now + delay, SimulatedEvent::Arrive(message, token));
    }

    /// A flight that hears nothing goes on without the store.
    fn answer_nothing(&mut self, message: TrialMessage, token: u32) {
        if let TrialMessage::StoreRequest {
            from: to,
            sent,
            about: about @ StorePurpose::Flight(..),
            ..
        }
        | TrialMessage::StoreAnswer {
            to, sent, about: about @ StorePurpose::Flight(..), ..
        } = message
        {
            let reply = TrialStoreReply::LOST;
            let lost = TrialMessage::StoreAnswer { to, sent, about, reply };
            self.at(self.now + 50_000, SimulatedEvent::Arrive(lost, token));
        }
    }
}
