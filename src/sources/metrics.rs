//! The counters of this module. A client looks its handles up once, when it is made, never for a
//! request.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Reason, SourceAnswer};
use crate::domain::Mutuality;

/// The counters of this module.
#[derive(Debug, Clone, Default)]
pub struct SourcesMetrics {
    requests: Family<ResultLabels, Counter>,
    failures: Family<ReasonLabels, Counter>,
    retries: Family<SourceLabels, Counter>,
    retries_refused: Family<SourceLabels, Counter>,
    resends: Family<SourceLabels, Counter>,
    breaker_open: Family<SourceLabels, Gauge>,
    inflight: Family<SourceLabels, Gauge>,
    durations: Durations,
    floods: Family<SourceLabels, Counter>,
    tape_failures: Family<SourceLabels, Counter>,
    mutual: Family<SourceLabels, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    source: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    source: String,
    reason: &'static str,
}

/// From a millisecond to ten seconds: upstreams on the same network up to the longest sensible
/// deadline.
#[derive(Debug, Clone, Copy)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
    }
}

#[derive(Debug, Clone)]
struct Durations(Family<SourceLabels, Histogram, Buckets>);

impl Default for Durations {
    fn default() -> Self {
        Self(Family::new_with_constructor(Buckets))
    }
}

impl SourcesMetrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register(
            "source_requests",
            "What sources were asked, by what became of it",
            new.requests.clone(),
        );
        registry.register(
            "source_failures",
            "Questions that no retry saved, by reason",
            new.failures.clone(),
        );
        registry.register("source_retries", "Requests sent again", new.retries.clone());
        let help = "Retries that the retry budget refused";
        registry.register("source_retry_budget_exhausted", help, new.retries_refused.clone());
        let help =
            "Requests sent again outside the retry budget, which the source had not processed";
        registry.register("source_resends", help, new.resends.clone());
        registry.register(
            "source_breaker_open",
            "Circuit breakers that are not closed",
            new.breaker_open.clone(),
        );
        registry.register("source_inflight", "Requests under way", new.inflight.clone());
        let help = "How long single requests took, retries apart";
        registry.register("source_request_duration_seconds", help, new.durations.0.clone());
        let help = "Answers and idle connections given up because they brought too little for the \
                    work that they were";
        registry.register("source_floods", help, new.floods.clone());
        let help = "Whether a source's connections are proven mutual (1), or it says otherwise";
        registry.register("source_mutual", help, new.mutual.clone());
        registry.register(
            "source_tape_failures",
            "Answers that `--record` did not write",
            new.tape_failures.clone(),
        );
        new
    }

    /// Counts connections and answers of a source that are given up because they brought too little
    /// for the work that they caused.
    pub(super) fn floods(&self, source: &str) -> Counter {
        self.floods.get_or_create_owned(&SourceLabels { source: source.to_owned() })
    }

    pub(super) fn for_source(&self, source: &str, mutual: Mutuality) -> ClientMetrics {
        let source = source.to_owned();
        let labels = SourceLabels { source: source.clone() };
        self.mutual.get_or_create(&labels).set(i64::from(mutual == Mutuality::Proven));
        let result = |result| {
            self.requests.get_or_create_owned(&ResultLabels { source: source.clone(), result })
        };
        let reason = |reason: Reason| {
            let labels = ReasonLabels { source: source.clone(), reason: reason.as_str() };
            (reason, self.failures.get_or_create_owned(&labels))
        };
        ClientMetrics {
            ok: result("ok"),
            unchanged: result("unchanged"),
            missing: result("missing"),
            failed: result("failed"),
            failures: REASONS.map(reason),
            retries: self.retries.get_or_create_owned(&labels),
            retries_refused: self.retries_refused.get_or_create_owned(&labels),
            resends: self.resends.get_or_create_owned(&labels),
            breaker_open: self.breaker_open.get_or_create_owned(&labels),
            inflight: self.inflight.get_or_create_owned(&labels),
            durations: self.durations.0.get_or_create_owned(&labels),
            tape_failures: self.tape_failures.get_or_create_owned(&labels),
        }
    }
}

/// All of them, so that each has its handle.
const REASONS: [Reason; 12] = [
    Reason::Connect,
    Reason::Tls,
    Reason::NotMutual,
    Reason::Timeout,
    Reason::Status,
    Reason::Rows,
    Reason::TooLarge,
    Reason::NotJson,
    Reason::Incomplete,
    Reason::MissingReference,
    Reason::BreakerOpen,
    Reason::Changed,
];

/// One source's handles.
#[derive(Debug, Clone)]
pub(super) struct ClientMetrics {
    ok: Counter,
    unchanged: Counter,
    missing: Counter,
    failed: Counter,
    failures: [(Reason, Counter); REASONS.len()],
    pub(super) retries: Counter,
    pub(super) retries_refused: Counter,
    pub(super) resends: Counter,
    pub(super) breaker_open: Gauge,
    pub(super) inflight: Gauge,
    pub(super) durations: Histogram,
    pub(super) tape_failures: Counter,
}

impl ClientMetrics {
    /// Counts a question that was answered; `missing`: by a 404 that has a meaning.
    pub(super) fn count_answer(&self, answer: &SourceAnswer, missing: bool) {
        match answer {
            _ if missing => self.missing.inc(),
            SourceAnswer::NotFound => self.missing.inc(),
            SourceAnswer::Part(_) => self.ok.inc(),
            SourceAnswer::Unchanged => self.unchanged.inc(),
        };
    }

    /// Counts a question that no retry saved.
    pub(super) fn count_failure(&self, reason: Reason) {
        self.failed.inc();
        if let Some((_, counter)) = self.failures.iter().find(|(known, _)| *known == reason) {
            counter.inc();
        }
    }
}

/// Counts one request in, and out when it is dropped.
#[derive(Debug)]
pub(super) struct InflightGuard<'a> {
    gauge: &'a Gauge,
    inflight: &'a AtomicU64,
}

impl<'a> InflightGuard<'a> {
    pub(super) fn new(gauge: &'a Gauge, own: &'a AtomicU64) -> Self {
        gauge.inc();
        own.fetch_add(1, Ordering::Relaxed);
        Self { gauge, inflight: own }
    }
}

impl Drop for InflightGuard<'_> {
    fn drop(&mut self) {
        self.gauge.dec();
        self.inflight.fetch_sub(1, Ordering::Relaxed);
    }
}
