//! The settings of one replica, with the usual proportions for a lease.

use std::time::Duration;

use super::protocol::{MemberName, Moment};

/// How one sidecar is set up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReplicaConfig {
    /// Random for each process.
    pub name: MemberName,
    /// How long it may serve after a heartbeat was sent, before `drift`.
    pub lease: Duration,
    /// Taken off the lease: what this clock may lose on an invalidator's while one lease passes.
    pub drift_margin: Duration,
    /// How long a deposed primary may go on answering.
    pub failover_grace: Duration,
    /// Between two heartbeats when nothing happens.
    pub heartbeat_interval: Duration,
    /// Where the heartbeats of all domains of a process fall together, whenever each had something
    /// to say in between: a [`Self::heartbeat_interval`] after this moment, two, three … Without it
    /// each domain goes by its own last heartbeat.
    pub heartbeat_origin: Option<Moment>,
    /// Between two heartbeats in any case.
    pub heartbeat_spacing: Duration,
    /// How long to wait for pub/sub to bring what is missing before the log is read.
    pub gap_patience: Duration,
    /// How long a call may stay unanswered before it is made again.
    pub retry_interval: Duration,
    /// Stamps that memory holds.
    pub stamps_max: usize,
    /// Entries that wait for their turn.
    pub early_entries_max: usize,
    /// Entries that one reading of the log asks for.
    pub log_page_max: usize,
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
        }
    }
}
