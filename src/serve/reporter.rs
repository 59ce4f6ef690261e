//! Reports requests to the operator: one log line where the decision was made, and the spans of the
//! trace.
//!
//! Keys are personal data: a line holds one only where `--log-keys` or `--trace-key` asked for it.
//! An outage fails every request alike, so warnings are bounded a second, and the next line says
//! how many were left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::consumer_problem::ConsumerProblem;
use super::request_report::RequestReport;
use super::spans::Spans;
use crate::http::millis;
use crate::sources::TraceContext;

/// Which keys may be logged.
#[derive(Debug, Clone, Default)]
pub struct KeyLogPolicy {
    /// `--log-keys`: all.
    pub all: bool,
    /// `--trace-key KEY`: this one, and its requests are logged whole.
    pub traced_key: Option<String>,
}

/// Writes the lines and exports the spans.
#[derive(Debug)]
pub struct Reporter {
    keys: KeyLogPolicy,
    spans: Option<Spans>,
    warnings: Arc<WarningLimiter>,
}

/// The most warnings about failed datasets in one second.
const WARNINGS_PER_SECOND: u64 = 10;

impl Reporter {
    /// Logs keys as `keys` allows; exports to `spans` where there are any.
    pub fn new(keys: KeyLogPolicy, spans: Option<Spans>) -> Self {
        Self { keys, spans, warnings: Arc::new(WarningLimiter::new(WARNINGS_PER_SECOND)) }
    }

    /// The trace of a request, and whether it is exported.
    pub(super) fn trace(&self, headers: &http::HeaderMap) -> TraceContext {
        let mut trace = TraceContext::from_headers(headers);
        if let Some(spans) = &self.spans {
            trace.sampled = spans.is_sampled(&trace);
        }
        trace
    }

    pub(super) fn report(
        &self,
        trace: &TraceContext,
        started: Instant,
        report: &RequestReport<'_>,
    ) {
        if let Some(spans) = &self.spans {
            spans.export(trace, started, report, report.key.filter(|key| self.may_log(key)));
        }
        self.log(trace, started.elapsed(), report);
    }

    fn may_log(&self, key: &str) -> bool {
        self.keys.all || self.keys.traced_key.as_deref() == Some(key)
    }

    fn log(&self, trace: &TraceContext, took: Duration, report: &RequestReport<'_>) {
        let trace_id = trace.trace_id_hex();
        let (domain, version) = report.domain_and_version();
        let key = report.key.filter(|key| self.may_log(key));
        let took_ms = millis(took);
        let status = report.status();
        let is_traced = report.key.is_some() && self.keys.traced_key.as_deref() == report.key;
        match report.response {
            // `--no-cache` asked for it: that nothing is cached is no fault.
            Err(problem) if status >= 500 && !matches!(problem, ConsumerProblem::NotCached) => {
                let Some(left_out) = self.warnings.admit() else { return };
                let failed = problem.failures().map(join_failures);
                let problem = problem.problem_type().name;
                tracing::warn!(
                    domain,
                    version,
                    status,
                    problem,
                    failed,
                    key,
                    took_ms,
                    trace_id,
                    left_out,
                    "no dataset"
                );
            }
            _ if is_traced => {
                tracing::info!(domain, version, status, key, took_ms, trace_id, "answered");
            }
            _ => tracing::debug!(domain, version, status, key, took_ms, trace_id, "answered"),
        }
        if let Some(timeline) = report.timeline.filter(|_| is_traced) {
            for step in &timeline.steps {
                tracing::info!(
                    key,
                    trace_id,
                    source = %step.source,
                    round = step.round,
                    start_ms = millis(step.offset),
                    took_ms = millis(step.took),
                    tries = step.attempts.len(),
                    outcome = step.outcome.as_str(),
                    "asked a source"
                );
            }
        }
    }
}

impl RequestReport<'_> {
    pub(super) fn domain_and_version(&self) -> (Option<&str>, Option<&str>) {
        let route = self.route;
        (route.map(|v| v.domain().name.as_ref()), route.map(|v| v.version.name.as_ref()))
    }

    pub(super) fn status(&self) -> u16 {
        match self.response {
            Ok(response) => response.status().as_u16(),
            Err(problem) => problem.problem_type().status.as_u16(),
        }
    }
}

fn join_failures(failures: &[crate::sources::SourceError]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Lets so many through a second, and counts the rest.
#[derive(Debug)]
struct WarningLimiter {
    per_second: u64,
    since: Instant,
    second: AtomicU64,
    admitted: AtomicU64,
    left_out: AtomicU64,
}

impl WarningLimiter {
    fn new(per_second: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            per_second,
            since: Instant::now(),
            second: zero(),
            admitted: zero(),
            left_out: zero(),
        }
    }

    /// How many were left out since the last that was let through; `None`: this one is left out
    /// too.
    fn admit(&self) -> Option<u64> {
        let now = self.since.elapsed().as_secs();
        if self.second.swap(now, Ordering::Relaxed) != now {
            self.admitted.store(0, Ordering::Relaxed);
        }
        if self.admitted.fetch_add(1, Ordering::Relaxed) < self.per_second {
            Some(self.left_out.swap(0, Ordering::Relaxed))
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_bounded_and_the_rest_is_counted() {
        let bounded = WarningLimiter::new(2);
        let admitted: Vec<_> = (0..5).map(|_| bounded.admit()).collect();
        // A second may end in between, so only what holds in any case is asserted.
        assert_eq!(admitted[0], Some(0));
        assert_eq!(WarningLimiter { since: bounded.since, ..WarningLimiter::new(0) }.admit(), None);
        let through = admitted.iter().flatten().count() as u64;
        assert!((2..=4).contains(&through), "{through}");
    }
}
