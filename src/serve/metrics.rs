//! The counters of the consumer's side, and those of any port. Handles are made once; a request
//! looks nothing up.

use std::collections::HashMap;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::eviction_candidate::ConnectionState;

/// The families of the consumer's side; clones share them.
#[derive(Debug, Clone)]
pub struct ServeMetrics {
    requests: Family<RequestLabels, Counter>,
    duration: Family<VersionLabels, Histogram, fn() -> Histogram>,
    /// Those of the consumers' port.
    pub consumers_port: PortMetrics,
    /// Those of the admin port.
    pub admin_port: PortMetrics,
    /// Those of the probes' port.
    pub probes_port: PortMetrics,
    /// Requests refused because the bound on requests under way was reached.
    pub overloaded: Counter,
}

/// The counters of one port; clones share them. The admin port's stand below `admin`, the probes'
/// below `probes`, the webhook's below `webhook`.
#[derive(Debug, Clone, Default)]
pub struct PortMetrics {
    /// Connections open now.
    pub connections: Gauge,
    /// Connections that came while all places but the kept ones were taken.
    pub connections_full: Counter,
    /// Connections that ended to make room, by what they were doing.
    evicted: Family<ConnectionStateLabel, Counter>,
    /// Connections closed because a request's head took too long to arrive.
    pub slow_requests: Counter,
    /// Requests whose body took too long to arrive.
    pub slow_bodies: Counter,
    /// Connections closed because an answer was not read.
    pub slow_readers: Counter,
    /// Connections closed because requests held too much, and this one was not sending or reading.
    pub requests_ended: Counter,
    /// Requests refused because those under way held too much.
    pub requests_refused: Counter,
    /// TLS handshakes that failed, on a port that speaks TLS.
    pub handshakes_failed: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionStateLabel {
    doing: &'static str,
}

impl PortMetrics {
    /// Registers all but those of TLS.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("connections", "Connections open now", self.connections.clone());
        let help = "Connections that came while all places were taken, \
                    but for those kept for whoever asks last";
        registry.register("connections_full", help, self.connections_full.clone());
        let help = "Connections that ended to make room, by what they were doing";
        registry.register("connections_evicted", help, self.evicted.clone());
        let help = "Connections closed because a request's head took too long to arrive";
        registry.register("slow_requests", help, self.slow_requests.clone());
        registry.register(
            "slow_bodies",
            "Requests whose body took too long to arrive",
            self.slow_bodies.clone(),
        );
        let help = "Connections closed because an answer was not read";
        registry.register("slow_readers", help, self.slow_readers.clone());
        let help = "Connections closed because requests held too much, \
                    and their peers neither sent nor read";
        registry.register("request_bytes_evicted", help, self.requests_ended.clone());
        let help = "Requests refused because those under way held too much";
        registry.register("request_bytes_refused", help, self.requests_refused.clone());
    }

    pub(super) fn count_evicted(&self, doing: ConnectionState) {
        let doing = match doing {
            ConnectionState::Handshake => "handshake",
            ConnectionState::Request => "request",
            ConnectionState::Answer => "answer",
            ConnectionState::Idle => "idle",
            ConnectionState::Stream => "stream",
        };
        self.evicted.get_or_create(&ConnectionStateLabel { doing }).inc();
    }
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
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The statuses that requests can end with.
const STATUSES: [u16; 10] = [200, 304, 400, 404, 405, 421, 500, 502, 503, 504];

impl Default for ServeMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            consumers_port: PortMetrics::default(),
            admin_port: PortMetrics::default(),
            probes_port: PortMetrics::default(),
            overloaded: Counter::default(),
        }
    }
}

impl ServeMetrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "requests",
            "Requests of consumers, by version and status",
            metrics.requests.clone(),
        );
        let help = "How long requests of consumers took";
        registry.register_with_unit(
            "request_duration",
            help,
            Unit::Seconds,
            metrics.duration.clone(),
        );
        metrics.consumers_port.register(registry);
        metrics.admin_port.register(registry.sub_registry_with_prefix("admin"));
        metrics.probes_port.register(registry.sub_registry_with_prefix("probes"));
        let help = "Requests refused by the bound on requests under way";
        registry.register("overloaded", help, metrics.overloaded.clone());
        metrics
    }

    /// The handles of one version; both empty for requests that reach no version.
    pub(crate) fn for_version(&self, domain: &str, version: &str) -> VersionMetrics {
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
