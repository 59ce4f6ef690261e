//! The metrics of the webhook. The counters of each outcome are created once, so that an admission
//! needs no lookup by label.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::verdict::AdmissionVerdict;
use crate::http::{PortMetrics, exposition};
use crate::identity;

/// The buckets of admissions' durations, in seconds.
const BUCKETS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct NamespaceLabel {
    namespace: String,
}

/// The metrics, and their registry.
#[derive(Debug)]
pub(super) struct WebhookMetrics {
    registry: Registry,
    admissions: Family<OutcomeLabel, Counter>,
    injected: Counter,
    skipped: Counter,
    refused: Counter,
    malformed: Counter,
    failed: Counter,
    seconds: Histogram,
    /// Admissions that were refused because the memory or the time of all reviews was used up.
    pub overloaded: Counter,
    certificate_not_after: Gauge,
    /// 1 while API servers trust the served certificate.
    pub trusted: Gauge,
    /// 1 while this replica is the leader.
    pub leader: Gauge,
    /// Writes of the bundles.
    pub bundles: Counter,
    /// Certificates that were generated.
    pub certificates: Counter,
    /// Requests to the API server that failed.
    pub cluster_failures: Counter,
    without_sidecar: Family<NamespaceLabel, Gauge>,
    /// The connections of the port.
    pub port: PortMetrics,
    /// The files of `--identity`.
    pub identity: identity::IdentityMetrics,
}

/// The outcome of an admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AdmissionOutcome {
    /// The pod gets a sidecar.
    Injected,
    /// The pod stays unchanged.
    Skipped,
    /// The pod is refused.
    Refused,
    /// The request is no review.
    Malformed,
    /// The review got no decision: the API server acts on its `failurePolicy`.
    Failed,
}

impl From<&AdmissionVerdict> for AdmissionOutcome {
    fn from(verdict: &AdmissionVerdict) -> Self {
        match verdict {
            AdmissionVerdict::Skip(_) => Self::Skipped,
            AdmissionVerdict::Inject(_) => Self::Injected,
            AdmissionVerdict::Refuse(_) => Self::Refused,
        }
    }
}

impl WebhookMetrics {
    /// Creates and registers the metrics.
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("bfb");
        registry.register(
            "build",
            "The build",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let identity = identity::IdentityMetrics::register(&mut registry);
        let admissions = Family::<OutcomeLabel, Counter>::default();
        let counter = |outcome| admissions.get_or_create(&OutcomeLabel { outcome }).clone();
        let mut metrics = Self {
            injected: counter("injected"),
            skipped: counter("left"),
            refused: counter("refused"),
            malformed: counter("malformed"),
            failed: counter("failed"),
            admissions,
            seconds: Histogram::new(BUCKETS),
            overloaded: Counter::default(),
            certificate_not_after: Gauge::default(),
            trusted: Gauge::default(),
            leader: Gauge::default(),
            bundles: Counter::default(),
            certificates: Counter::default(),
            cluster_failures: Counter::default(),
            without_sidecar: Family::default(),
            port: PortMetrics::register(registry.sub_registry_with_prefix("webhook")),
            identity,
            registry: Registry::default(),
        };
        metrics.register(registry.sub_registry_with_prefix("webhook"));
        metrics.registry = registry;
        metrics
    }

    fn register(&self, to: &mut Registry) {
        to.register("admissions", "Admissions, by outcome", self.admissions.clone());
        to.register_with_unit(
            "admission",
            "How long admissions took",
            Unit::Seconds,
            self.seconds.clone(),
        );
        to.register(
            "overloaded",
            "Admissions turned away at the bound of those under way",
            self.overloaded.clone(),
        );
        let help = "When the certificate that is served expires";
        to.register(
            "certificate_expiry_timestamp_seconds",
            help,
            self.certificate_not_after.clone(),
        );
        to.register(
            "trusted",
            "1 while API servers trust the certificate that is served",
            self.trusted.clone(),
        );
        to.register("leader", "1 while this replica leads", self.leader.clone());
        to.register(
            "bundles_written",
            "Times that this replica wrote the bundles",
            self.bundles.clone(),
        );
        to.register(
            "certificates_made",
            "Certificates that this replica made",
            self.certificates.clone(),
        );
        to.register(
            "cluster_failures",
            "Requests to the API server that failed",
            self.cluster_failures.clone(),
        );
        let help = "Pods that should have a sidecar and have none, as the leader last saw them";
        to.register("pods_without_sidecar", help, self.without_sidecar.clone());
        to.register(
            "tls_handshakes_failed",
            "TLS handshakes that failed",
            self.port.handshakes_failed.clone(),
        );
    }

    /// The registry for further metrics of the webhook.
    pub(super) fn registry(&mut self) -> &mut Registry {
        self.registry.sub_registry_with_prefix("webhook")
    }

    /// Counts an admission and its duration.
    pub(super) fn observe(&self, outcome: AdmissionOutcome, duration: Duration) {
        let counter = match outcome {
            AdmissionOutcome::Injected => &self.injected,
            AdmissionOutcome::Skipped => &self.skipped,
            AdmissionOutcome::Refused => &self.refused,
            AdmissionOutcome::Malformed => &self.malformed,
            AdmissionOutcome::Failed => &self.failed,
        };
        counter.inc();
        self.seconds.observe(duration.as_secs_f64());
    }

    /// Sets the expiry of the served certificate.
    pub(super) fn set_not_after(&self, not_after: Option<SystemTime>) {
        let seconds = not_after
            .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
            .map_or(0, |at| at.as_secs());
        self.certificate_not_after.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// Sets the number of pods without their sidecar for each namespace, and removes the namespaces
    /// that only the previous scan counted.
    pub(super) fn set_without_sidecar(
        &self,
        counts: &BTreeMap<String, usize>,
        previous: &BTreeMap<String, usize>,
    ) {
        let label = |namespace: &String| NamespaceLabel { namespace: namespace.clone() };
        for namespace in previous.keys().filter(|namespace| !counts.contains_key(*namespace)) {
            self.without_sidecar.remove(&label(namespace));
        }
        for (namespace, count) in counts {
            self.without_sidecar
                .get_or_create(&label(namespace))
                .set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    /// The response to a scrape, in the format that its headers accept.
    pub(super) fn respond(&self, headers: &HeaderMap) -> Response<Bytes> {
        exposition::respond(headers, &self.registry)
    }
}

impl Default for WebhookMetrics {
    fn default() -> Self {
        Self::new()
    }
}
