//! The settings of one replica, with the usual proportions for a lease.

use std::time::Duration;

use super::protocol::{MemberName, Moment};
use super::store_calls::StoreId;

/// The settings of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReplicaConfig {
    /// The name in the registry, random for each process.
    pub name: MemberName,
    /// How long it may serve after a heartbeat was sent, before `drift_margin` is taken off.
    pub lease: Duration,
    /// The time taken off the lease: how far this clock may fall behind an invalidator's while one
    /// lease passes.
    pub drift_margin: Duration,
    /// How long a deposed primary may go on answering.
    pub failover_grace: Duration,
    /// The time between two heartbeats when nothing happens.
    pub heartbeat_interval: Duration,
    /// The origin to which the heartbeats of all domains of a process are aligned, so that they
    /// share a round trip: they are due one [`Self::heartbeat_interval`] after this moment, two,
    /// three … Without it each domain counts from its own last heartbeat.
    pub heartbeat_origin: Option<Moment>,
    /// The least time between two heartbeats.
    pub heartbeat_spacing: Duration,
    /// How long to wait for missing entries to arrive by pub/sub before the log is read.
    pub gap_patience: Duration,
    /// How long a call may stay unanswered before it is repeated.
    pub retry_interval: Duration,
    /// The most stamps that the replica holds.
    pub stamps_max: usize,
    /// The most early entries that the replica holds.
    pub early_entries_max: usize,
    /// The most entries that one reading of the log asks for.
    pub log_page_max: usize,
    /// The store, if the sidecar has one.
    pub store: Option<StoreId>,
    /// How long the store's mark may be behind before this replica sees to it: whoever invalidates
    /// moves it as a rule.
    pub store_patience: Duration,
}

impl ReplicaConfig {
    /// The usual proportions for a `lease`.
    pub fn new(name: MemberName, lease: Duration) -> Self {
        Self {
            name,
            lease,
            drift_margin: lease / 50,
            failover_grace: Duration::ZERO,
            heartbeat_interval: lease / 4,
            heartbeat_origin: None,
            heartbeat_spacing: Duration::from_millis(2),
            gap_patience: Duration::from_millis(20),
            retry_interval: lease / 4,
            stamps_max: 65_536,
            early_entries_max: 4_096,
            log_page_max: 1_024,
            store: None,
            store_patience: lease / 8,
        }
    }
}
