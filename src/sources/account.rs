//! The account of one source: its breaker, its retry budget, its counters, and how it is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::breaker::BreakerState;
use super::metrics::{ClientMetrics, InflightGuard};
use super::retry::RetryBudget;
use super::shared_breaker::SharedBreaker;
use super::{Reason, SourceAnswer, SourceError, SourcesMetrics};
use crate::domain::Source;

/// What is kept about one source, whatever its kind.
#[derive(Debug)]
pub(super) struct SourceAccount {
    pub(super) source: Source,
    pub(super) breaker: SharedBreaker,
    pub(super) budget: RetryBudget,
    pub(super) metrics: ClientMetrics,
    inflight: AtomicU64,
    failed_in_a_row: AtomicU64,
    /// For `state` only; held to copy a word in or out.
    last_failure: Mutex<Option<(Reason, Instant)>>,
}

/// How a source's client is doing.
#[derive(Debug, Clone)]
pub struct ClientState {
    /// Where the breaker stands.
    pub breaker: BreakerState,
    /// Requests under way.
    pub inflight: u64,
    /// Questions that failed since one was answered.
    pub failed_in_a_row: u64,
    /// Why the last failed question failed, and when.
    pub last_failure: Option<(Reason, Instant)>,
}

impl SourceAccount {
    pub(super) fn new(source: Source, metrics: &SourcesMetrics) -> Self {
        let metrics = metrics.for_source(&source.name, source.mutual());
        Self {
            breaker: SharedBreaker::new(Arc::clone(&source.name), metrics.breaker_open.clone()),
            budget: RetryBudget::new(),
            metrics,
            inflight: AtomicU64::new(0),
            failed_in_a_row: AtomicU64::new(0),
            last_failure: Mutex::new(None),
            source,
        }
    }

    /// How the source is doing.
    pub(super) fn state(&self) -> ClientState {
        ClientState {
            breaker: self.breaker.state(),
            inflight: self.inflight.load(Ordering::Relaxed),
            failed_in_a_row: self.failed_in_a_row.load(Ordering::Relaxed),
            last_failure: *self.last_failure.lock(),
        }
    }

    /// Counts a request that is under way.
    pub(super) fn begin_request(&self) -> InflightGuard<'_> {
        InflightGuard::new(&self.metrics.inflight, &self.inflight)
    }

    /// Counts the end of a question; `missing`: by a 404, or no row, that has a meaning.
    pub(super) fn count_result(&self, result: &Result<SourceAnswer, SourceError>, missing: bool) {
        match result {
            Ok(answer) => {
                self.metrics.count_answer(answer, missing);
                self.failed_in_a_row.store(0, Ordering::Relaxed);
            }
            Err(failure) => self.count_failure(failure),
        }
    }

    /// Counts a failure of this source: its own, or one that prevented the request
    /// (`missing-reference`, `changed`).
    pub(super) fn count_failure(&self, failure: &SourceError) {
        if failure.reason.is_of_source() {
            self.metrics.count_failure(failure.reason);
            self.failed_in_a_row.fetch_add(1, Ordering::Relaxed);
            *self.last_failure.lock() = Some((failure.reason, Instant::now()));
        }
    }
}
