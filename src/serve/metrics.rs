//! The counters of the consumer's side. Handles are made once; a request looks nothing up.

use std::collections::HashMap;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The families of the consumer's side; clones share them.
#[derive(Debug, Clone)]
pub struct ServeMetrics {
    requests: Family<RequestLabels, Counter>,
    duration: Family<VersionLabels, Histogram, fn() -> Histogram>,
    /// Requests refused because the bound on requests under way was reached.
    pub overloaded: Counter,
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
        let help = "Requests refused by the bound on requests under way";
        registry.register("overloaded", help, metrics.overloaded.clone());
        metrics
    }

    /// The handles of one version; both empty for requests that reach no version.
    pub(crate) fn for_version(&self, domain: &str, version: &str) -> VersionMetrics {
        let domain = domain.to_owned();
        let version = version.to_owned();
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
