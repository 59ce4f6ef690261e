//! How hostile a simulated world is: drawn from the seed, so that some runs lose messages and
//! others delay them.

use std::time::Duration;

use bfb::coherence::LogLimits;

/// How hostile one run is. Means are in microseconds.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is drawn for itself")]
pub(super) struct FaultProfile {
    pub(super) lease: Duration,
    pub(super) grace: Duration,
    pub(super) latency: u64,
    /// The share of messages that are lost.
    pub(super) loss_share: f64,
    /// The share of messages that take a hundred times as long.
    pub(super) slow_share: f64,
    /// How long a sidecar may wait for pub/sub before it reads the log.
    pub(super) patience: Duration,
    pub(super) tick: u64,
    pub(super) read_gap: u64,
    pub(super) flight_gap: u64,
    pub(super) write_gap: u64,
    pub(super) fault_every: u64,
    pub(super) redis: bool,
    pub(super) ordered: bool,
    pub(super) hints: bool,
    pub(super) limits: LogLimits,
    /// The kind of fault that this run has most of.
    pub(super) favourite: u8,
    /// Redis keeps its epoch, so writers may assume shorter leases than the registry has.
    pub(super) keeps_epoch: bool,
    /// There is a store.
    pub(super) store: bool,
    /// What the store does in several steps.
    pub(super) splits: bool,
    pub(super) scans: bool,
    /// The invalidators do not have the store, and learn of it from the registry.
    pub(super) store_is_foreign: bool,
    pub(super) is_calm: bool,
}

impl FaultProfile {
    /// Kinds of faults.
    pub(super) const FAULTS: u8 = 12;
    /// Kinds of faults of a store.
    pub(super) const STORE_FAULTS: u8 = 8;

    pub(super) fn draw(rng: &mut fastrand::Rng) -> Self {
        let lease = Duration::from_millis(rng.u64(200..1_500));
        let ordered = rng.bool();
        // A run without a store is the same as if there were none to draw.
        let mut of_store = rng.clone();
        Self {
            lease,
            grace: if rng.bool() { lease / 2 } else { Duration::ZERO },
            latency: rng.u64(200..20_000),
            loss_share: if rng.bool() { 0.0 } else { 0.3 * rng.f64() },
            slow_share: if rng.bool() { 0.02 * rng.f64() } else { 0.3 * rng.f64() },
            patience: if rng.bool() { lease / 50 } else { lease },
            tick: 10_000,
            read_gap: rng.u64(5_000..50_000),
            flight_gap: rng.u64(2_000..100_000),
            write_gap: rng.u64(20_000..400_000),
            fault_every: 50_000 << rng.u32(..9),
            redis: rng.bool(),
            ordered,
            hints: ordered && rng.bool(),
            limits: LogLimits { entries_max: rng.usize(1..20), stamps_max: rng.usize(1..12) },
            favourite: rng.u8(..Self::FAULTS),
            keeps_epoch: rng.u8(..4) == 0,
            store: of_store.bool(),
            splits: of_store.bool(),
            scans: of_store.bool(),
            store_is_foreign: of_store.bool(),
            is_calm: false,
        }
    }

    /// Whether the invalidators have the store. Those that do not learn of it from the registry,
    /// so they rely on an epoch in which a sidecar has named it.
    pub(super) fn writers_have_store(&self) -> bool {
        self.store && !(self.store_is_foreign && self.keeps_epoch)
    }

    /// Makes one kind of fault the most frequent one, and faults frequent.
    pub(super) fn prefer(&mut self, favourite: u8) {
        (self.favourite, self.fault_every, self.write_gap) = (favourite, 300_000, 20_000);
    }

    /// The kind of the next fault.
    pub(super) fn fault(&self, rng: &mut fastrand::Rng) -> u8 {
        if rng.bool() { self.favourite } else { rng.u8(..Self::FAULTS) }
    }

    /// The lease that a writer assumes from its own configuration.
    pub(super) fn writer_lease(&self) -> Duration {
        if self.keeps_epoch { self.lease / 4 } else { self.lease }
    }

    /// Ends all faults of the network.
    pub(super) fn calm(&mut self) {
        (self.is_calm, self.loss_share, self.slow_share, self.latency) =
            (true, 0.0, 0.0, self.latency.min(2_000));
    }

    /// The rate of a clock: two of them differ by less than the margin that a lease leaves.
    pub(super) fn rate(rng: &mut fastrand::Rng) -> f64 {
        1.0 + 0.009 * (2.0 * rng.f64() - 1.0)
    }

    /// A delay of about `mean`.
    pub(super) fn delay(&self, rng: &mut fastrand::Rng, mean: u64) -> u64 {
        let usual = rng.u64(mean / 2..=mean + mean / 2);
        if rng.f64() < self.slow_share { usual.saturating_mul(100).min(5_000_000) } else { usual }
    }
}
