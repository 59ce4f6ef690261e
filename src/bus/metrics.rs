//! The metrics of the bus. No label holds a key or a tag.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::fault::RedisFault;
use crate::coherence::EmptyReason;

/// The metrics of the bus; clones share them.
#[derive(Debug, Clone)]
pub struct BusMetrics {
    pub(super) connected: Gauge,
    lease_held: Family<BusDomainLabels, Gauge>,
    log_lag_entries: Family<BusDomainLabels, Gauge>,
    lease_losses: Family<BusDomainLabels, Counter>,
    bypass: Family<BusDomainLabels, Counter<f64, AtomicU64>>,
    pub(super) gaps: Counter,
    pub(super) queue_full: Counter,
    pub(super) hints_dropped: Counter,
    catch_ups: Family<BusDomainLabels, Counter>,
    applied: Family<BusDomainLabels, Counter>,
    emptied: Family<EmptiedLabels, Counter>,
    faults: Family<FaultLabels, Counter>,
    acknowledged: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BusDomainLabels {
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

impl Default for BusMetrics {
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
            // From the time of a round trip to more than any sensible lease.
            acknowledged: Histogram::new([
                0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1.0, 3.0, 10.0, 60.0,
            ]),
        }
    }
}

impl BusMetrics {
    /// Creates and registers them, in a registry whose prefix is `bfb`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "redis_connected",
            "Whether the bus has its connections",
            metrics.connected.clone(),
        );
        registry.register(
            "lease_held",
            "Whether memory may be served from",
            metrics.lease_held.clone(),
        );
        registry.register(
            "log_lag_entries",
            "Invalidations heard of and not applied",
            metrics.log_lag_entries.clone(),
        );
        registry.register(
            "lease_losses",
            "Times that the lease ran out",
            metrics.lease_losses.clone(),
        );
        let help = "Time without the lease: memory was not trusted";
        registry.register_with_unit("bypass", help, Unit::Seconds, metrics.bypass.clone());
        registry.register(
            "bus_gaps",
            "Times that something published may have been missed",
            metrics.gaps.clone(),
        );
        registry.register(
            "bus_queue_full",
            "Messages that did not fit the queue",
            metrics.queue_full.clone(),
        );
        registry.register(
            "bus_hints_dropped",
            "Hints that could not be handled",
            metrics.hints_dropped.clone(),
        );
        registry.register("bus_catch_ups", "Readings of the log", metrics.catch_ups.clone());
        registry.register(
            "invalidations_applied",
            "Entries of the log applied",
            metrics.applied.clone(),
        );
        registry.register(
            "memory_emptied",
            "Times that all of memory was outdated",
            metrics.emptied.clone(),
        );
        registry.register("redis_faults", "What Redis did not do", metrics.faults.clone());
        let help = "From an invalidation's answer to its acknowledgement by the fleet";
        registry.register("invalidation_acknowledged_seconds", help, metrics.acknowledged.clone());
        metrics
    }

    /// Creates the counters of a domain, at nought, so that an event that never happened is
    /// exported as zero.
    pub(super) fn init_domain(&self, domain: &str) {
        let labels = labels(domain);
        for counters in [&self.lease_losses, &self.catch_ups, &self.applied] {
            drop(counters.get_or_create(&labels));
        }
        drop(self.bypass.get_or_create(&labels));
        for why in [EmptyReason::Epoch, EmptyReason::StreamEnd] {
            drop(self.emptied.get_or_create(&emptied_labels(domain, why)));
        }
    }

    pub(super) fn set_domain_gauges(&self, domain: &str, held: bool, lag: u64) {
        let labels = labels(domain);
        self.lease_held.get_or_create(&labels).set(i64::from(held));
        self.log_lag_entries.get_or_create(&labels).set(i64::try_from(lag).unwrap_or(i64::MAX));
    }

    pub(super) fn count_lease_loss(&self, domain: &str) {
        self.lease_losses.get_or_create(&labels(domain)).inc();
    }

    pub(super) fn count_bypass(&self, domain: &str, time: Duration) {
        self.bypass.get_or_create(&labels(domain)).inc_by(time.as_secs_f64());
    }

    pub(super) fn count_catch_up(&self, domain: &str) {
        self.catch_ups.get_or_create(&labels(domain)).inc();
    }

    pub(super) fn count_applied(&self, domain: &str) {
        self.applied.get_or_create(&labels(domain)).inc();
    }

    pub(super) fn count_emptied(&self, domain: &str, reason: EmptyReason) {
        self.emptied.get_or_create(&emptied_labels(domain, reason)).inc();
    }

    pub(super) fn count_fault(&self, fault: &RedisFault) {
        self.faults.get_or_create(&FaultLabels { kind: fault.kind() }).inc();
    }

    pub(super) fn observe_acknowledged(&self, took: Duration) {
        self.acknowledged.observe(took.as_secs_f64());
    }

    /// Removes the gauges of a domain that is not served any more.
    pub(super) fn remove_domain(&self, domain: &str) {
        self.lease_held.remove(&labels(domain));
        self.log_lag_entries.remove(&labels(domain));
    }
}

fn labels(domain: &str) -> BusDomainLabels {
    BusDomainLabels { domain: domain.to_owned() }
}

fn emptied_labels(domain: &str, why: EmptyReason) -> EmptiedLabels {
    let why = match why {
        EmptyReason::Epoch => "epoch",
        EmptyReason::StreamEnd => "stream_end",
    };
    EmptiedLabels { domain: domain.to_owned(), why }
}
