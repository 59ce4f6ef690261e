//! The counters of the consumer's side. Handles are made once; a request looks nothing up.

use std::collections::HashMap;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The families of the consumer's side; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    duration: Family<VersionLabels, Histogram, fn() -> Histogram>,
    /// Connections open now.
    pub connections: Gauge,
    /// Times that a connection had to wait because the bound on connections was reached.
    pub connections_full: Counter,
    /// Requests refused because the bound on requests under way was reached.
    pub overloaded: Counter,
    /// Connections closed because a request took too long to arrive.
    pub slow_requests: Counter,
    /// TLS handshakes that failed, on a port that speaks TLS.
    pub handshakes_failed: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    domain: String,
    version: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabels {
    domain: String,
    version: String,
}

/// Seconds; from a cache hit to a long deadline.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The statuses that requests can end with.
const STATUSES: [u16; 10] = [200, 304, 400, 404, 405, 421, 500, 502, 503, 504];

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            connections: Gauge::default(),
            connections_full: Counter::default(),
            overloaded: Counter::default(),
            slow_requests: Counter::default(),
            handshakes_failed: Counter::default(),
        }
    }
}

impl Metrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("requests", "Requests of consumers, by version and status", metrics.requests.clone());
        let help = "How long requests of consumers took";
        registry.register_with_unit("request_duration", help, Unit::Seconds, metrics.duration.clone());
        registry.register("connections", "Connections of consumers open now", metrics.connections.clone());
        let help = "Times that a connection waited for the bound on connections";
        registry.register("connections_full", help, metrics.connections_full.clone());
        let help = "Requests refused by the bound on requests under way";
        registry.register("overloaded", help, metrics.overloaded.clone());
        let help = "Connections closed because a request took too long to arrive";
        registry.register("slow_requests", help, metrics.slow_requests.clone());
        metrics
    }

    /// The handles of one version; both empty for requests that reach no version.
    pub(crate) fn of(&self, domain: &str, version: &str) -> VersionMetrics {
        let (domain, version) = (domain.to_owned(), version.to_owned());
        let requests = |status| {
            let labels = RequestLabels { domain: domain.clone(), version: version.clone(), status };
            (status, self.requests.get_or_create(&labels).clone())
        };
        VersionMetrics {
            requests: STATUSES.into_iter().map(requests).collect(),
            duration: self.duration.get_or_create(&VersionLabels { domain, version }).clone(),
        }
    }
}

/// The handles of one version.
#[derive(Debug)]
pub(crate) struct VersionMetrics {
    requests: HashMap<u16, Counter>,
    duration: Histogram,
}

impl VersionMetrics {
    pub(crate) fn observe(&self, status: u16, took: Duration) {
        if let Some(counter) = self.requests.get(&status) {
            counter.inc();
        }
        self.duration.observe(took.as_secs_f64());
    }
}
