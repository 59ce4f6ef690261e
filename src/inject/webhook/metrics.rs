//! The counters and gauges of the webhook. Handles are made once; an admission looks nothing up.

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

/// Seconds; an admission that takes longer than the last fails.
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

/// The counters and gauges, and where they are registered.
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
    /// Admissions that were turned away because the bound on those under way was reached.
    pub overloaded: Counter,
    certificate_not_after: Gauge,
    /// 1 while the bundles of the configuration are right.
    pub trusted: Gauge,
    /// 1 while this replica leads.
    pub leader: Gauge,
    /// Times that a bundle was written.
    pub bundles: Counter,
    /// Certificates that were made.
    pub certificates: Counter,
    /// Requests to the API server that failed.
    pub cluster_failures: Counter,
    without_sidecar: Family<NamespaceLabel, Gauge>,
    /// The connections.
    pub port: PortMetrics,
    /// The files of `--identity`.
    pub identity: identity::IdentityMetrics,
}

/// What became of an admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AdmissionOutcome {
    /// The pod got its sidecar.
    Injected,
    /// It was left as it is.
    Skipped,
    /// It was refused.
    Refused,
    /// The request was no review.
    Malformed,
    /// The question could not be answered: the API server decides by its `failurePolicy`.
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
    /// Creates and registers them.
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("bfb");
        registry.register(
            "build",
            "The build",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let identity = identity::IdentityMetrics::register(&mut registry);
        let admissions = Family::<OutcomeLabel, Counter>::default();
        let of = |outcome| admissions.get_or_create(&OutcomeLabel { outcome }).clone();
        let mut metrics = Self {
            injected: of("injected"),
            skipped: of("left"),
            refused: of("refused"),
            malformed: of("malformed"),
            failed: of("failed"),
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

    /// Where more counters of the webhook may be registered.
    pub(super) fn registry(&mut self) -> &mut Registry {
        self.registry.sub_registry_with_prefix("webhook")
    }

    /// Counts an admission.
    pub(super) fn observe(&self, admission: AdmissionOutcome, took: Duration) {
        let counter = match admission {
            AdmissionOutcome::Injected => &self.injected,
            AdmissionOutcome::Skipped => &self.skipped,
            AdmissionOutcome::Refused => &self.refused,
            AdmissionOutcome::Malformed => &self.malformed,
            AdmissionOutcome::Failed => &self.failed,
        };
        counter.inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// When what is served ends.
    pub(super) fn set_not_after(&self, not_after: Option<SystemTime>) {
        let seconds = not_after
            .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
            .map_or(0, |at| at.as_secs());
        self.certificate_not_after.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// How many pods of each namespace lack their sidecar now, and did before.
    pub(super) fn set_without_sidecar(
        &self,
        now: &BTreeMap<String, usize>,
        before: &BTreeMap<String, usize>,
    ) {
        let label = |namespace: &String| NamespaceLabel { namespace: namespace.clone() };
        for namespace in before.keys().filter(|namespace| !now.contains_key(*namespace)) {
            self.without_sidecar.remove(&label(namespace));
        }
        for (namespace, count) in now {
            self.without_sidecar
                .get_or_create(&label(namespace))
                .set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }

    /// The answer to a scrape, in the format that it asks for.
    pub(super) fn respond(&self, headers: &HeaderMap) -> Response<Bytes> {
        exposition::respond(headers, &self.registry)
    }
}

impl Default for WebhookMetrics {
    fn default() -> Self {
        Self::new()
    }
}
