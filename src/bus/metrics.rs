//! The counters of this module. No label holds a key or a tag.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::fault::Fault;
use crate::coherence::Why;

/// The counters of this module.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(super) connected: Gauge,
    lease_held: Family<DomainLabels, Gauge>,
    log_lag_entries: Family<DomainLabels, Gauge>,
    lease_losses: Family<DomainLabels, Counter>,
    bypass: Family<DomainLabels, Counter<f64, AtomicU64>>,
    pub(super) gaps: Counter,
    pub(super) queue_full: Counter,
    pub(super) hints_dropped: Counter,
    catch_ups: Family<DomainLabels, Counter>,
    applied: Family<DomainLabels, Counter>,
    emptied: Family<EmptiedLabels, Counter>,
    faults: Family<FaultLabels, Counter>,
    acknowledged: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DomainLabels {
    domain: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EmptiedLabels {
    domain: String,
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    kind: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connected: Gauge::default(),
            lease_held: Family::default(),
            log_lag_entries: Family::default(),
            lease_losses: Family::default(),
            bypass: Family::default(),
            gaps: Counter::default(),
            queue_full: Counter::default(),
            hints_dropped: Counter::default(),
            catch_ups: Family::default(),
            applied: Family::default(),
            emptied: Family::default(),
            faults: Family::default(),
            // From a round trip to more than any sensible lease.
            acknowledged: Histogram::new([
                0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1.0, 3.0, 10.0, 60.0,
            ]),
        }
    }
}

impl Metrics {
    /// The handles, in a registry whose prefix is `bfb`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let m = &metrics;
        registry.register(
            "redis_connected",
            "Whether the bus has its connections",
            m.connected.clone(),
        );
        registry.register("lease_held", "Whether memory may be served from", m.lease_held.clone());
        registry.register(
            "log_lag_entries",
            "Invalidations heard of and not applied",
            m.log_lag_entries.clone(),
        );
        registry.register("lease_losses", "Times that the lease ran out", m.lease_losses.clone());
        let help = "Time without the lease: memory was not trusted";
        registry.register_with_unit("bypass", help, Unit::Seconds, m.bypass.clone());
        registry.register(
            "bus_gaps",
            "Times that something published may have been missed",
            m.gaps.clone(),
        );
        registry.register(
            "bus_queue_full",
            "Messages that did not fit the queue",
            m.queue_full.clone(),
        );
        registry.register(
            "bus_hints_dropped",
            "Hints that could not be handled",
            m.hints_dropped.clone(),
        );
        registry.register("bus_catch_ups", "Readings of the log", m.catch_ups.clone());
        registry.register("invalidations_applied", "Entries of the log applied", m.applied.clone());
        registry.register(
            "memory_emptied",
            "Times that all of memory was outdated",
            m.emptied.clone(),
        );
        registry.register("redis_faults", "What Redis did not do", m.faults.clone());
        let help = "From an invalidation's answer to its acknowledgement by the fleet";
        registry.register("invalidation_acknowledged_seconds", help, m.acknowledged.clone());
        metrics
    }

    /// The counters of a domain begin at nought: what has never happened is told as that.
    pub(super) fn begin(&self, domain: &str) {
        let labels = labels(domain);
        for counters in [&self.lease_losses, &self.catch_ups, &self.applied] {
            drop(counters.get_or_create(&labels));
        }
        drop(self.bypass.get_or_create(&labels));
        for why in [Why::Epoch, Why::StreamEnd, Why::Owner] {
            drop(self.emptied.get_or_create(&emptied_labels(domain, why)));
        }
    }

    pub(super) fn stand(&self, domain: &str, held: bool, lag: u64) {
        let labels = labels(domain);
        self.lease_held.get_or_create(&labels).set(i64::from(held));
        self.log_lag_entries.get_or_create(&labels).set(i64::try_from(lag).unwrap_or(i64::MAX));
    }

    pub(super) fn lease_lost(&self, domain: &str) {
        self.lease_losses.get_or_create(&labels(domain)).inc();
    }

    pub(super) fn bypassed(&self, domain: &str, time: Duration) {
        self.bypass.get_or_create(&labels(domain)).inc_by(time.as_secs_f64());
    }

    pub(super) fn caught_up(&self, domain: &str) {
        self.catch_ups.get_or_create(&labels(domain)).inc();
    }

    pub(super) fn applied(&self, domain: &str) {
        self.applied.get_or_create(&labels(domain)).inc();
    }

    pub(super) fn emptied(&self, domain: &str, why: Why) {
        self.emptied.get_or_create(&emptied_labels(domain, why)).inc();
    }

    pub(super) fn fault(&self, fault: &Fault) {
        self.faults.get_or_create(&FaultLabels { kind: fault.kind() }).inc();
    }

    pub(super) fn acknowledged(&self, took: Duration) {
        self.acknowledged.observe(took.as_secs_f64());
    }

    /// Forgets a domain that is not served any more.
    pub(super) fn forget(&self, domain: &str) {
        self.lease_held.remove(&labels(domain));
        self.log_lag_entries.remove(&labels(domain));
    }
}

fn labels(domain: &str) -> DomainLabels {
    DomainLabels { domain: domain.to_owned() }
}

fn emptied_labels(domain: &str, why: Why) -> EmptiedLabels {
    let why = match why {
        Why::Epoch => "epoch",
        Why::StreamEnd => "stream_end",
        Why::Owner => "owner",
    };
    EmptiedLabels { domain: domain.to_owned(), why }
}
