//! A scenario of the exhaustive check: one bounded world.

use std::time::Duration;

use super::guard_removal::GuardRemoval;
use super::node::TrialNode;
use super::source::key_name;
use super::store::store_id;
use bfb::coherence::*;

pub(super) const TICK: Duration = Duration::from_secs(1);

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
    /// The first node has applied and reported it, and was restarted.
    pub(super) restarted: bool,
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
            restarted: false,
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
}
