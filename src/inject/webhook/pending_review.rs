//! A parsed review on its way to a decision: first by the pod alone, then, where the pod does not
//! name its domains, by the label of its namespace. Both steps run on a thread of the budget.

use bytes::Bytes;
use tokio::time::Instant;

use super::super::Defaults;
use super::metrics::AdmissionOutcome;
use super::review::{AdmissionReview, ReviewSubject};
use super::review_budget::mounts_bytes;
use super::review_error::ReviewError;
use super::verdict::{AdmissionVerdict, decide_by_label, decide_without_namespace};
use crate::resources::{MemoryShare, Reservation, RunClock};

/// The longest response that needs no reservation while it is sent, in bytes.
const SHORT_RESPONSE_BYTES: usize = 64 * 1024;

/// A parsed review, and the reservation of its memory.
pub(super) struct PendingReview {
    pub review: AdmissionReview,
    pub memory: Reservation,
    /// The memory of long responses.
    pub response_memory: MemoryShare,
    /// The time at which the API server stops waiting for a response.
    pub until: Instant,
}

/// The result of the first step of a decision.
pub(super) enum ReviewStep {
    Decided(DecidedReview),
    /// The decision depends on the label of this namespace.
    NeedsLabel(Box<PendingReview>, String),
}

/// A decided review: the outcome to count, and the text of the response.
pub(super) struct DecidedReview {
    pub outcome: AdmissionOutcome,
    pub response: Bytes,
}

impl PendingReview {
    /// Decides as far as the review itself suffices.
    pub(super) fn decide_without_label(
        mut self,
        defaults: &Defaults,
        clock: &RunClock,
    ) -> Result<ReviewStep, ReviewError> {
        let ReviewSubject::Pod { namespace, pod } = &self.review.subject else {
            let response = Bytes::from(self.review.answer_unrelated().to_string());
            let outcome = AdmissionOutcome::Skipped;
            return Ok(ReviewStep::Decided(DecidedReview { outcome, response }));
        };
        if !self.memory.try_grow(mounts_bytes(count_containers(pod))) {
            return Err(ReviewError::memory_full());
        }
        self.check_deadline(clock)?;
        if let Some(verdict) = decide_without_namespace(pod, defaults) {
            return self.respond(&verdict, clock).map(ReviewStep::Decided);
        }
        let namespace = namespace.clone();
        Ok(ReviewStep::NeedsLabel(Box::new(self), namespace))
    }

    /// Decides by the label of the pod's namespace; `None` for a namespace without the label.
    pub(super) fn decide_with_label(
        &self,
        defaults: &Defaults,
        label: Option<&str>,
        clock: &RunClock,
    ) -> Result<DecidedReview, ReviewError> {
        let ReviewSubject::Pod { namespace, pod } = &self.review.subject else {
            return Err(ReviewError::time_up());
        };
        let verdict = decide_by_label(pod, defaults, namespace, label);
        self.respond(&verdict, clock)
    }

    /// Fails once the API server has stopped waiting. Each step of a decision takes time in
    /// proportion to the review, so a check between two steps is soon enough.
    fn check_deadline(&self, clock: &RunClock) -> Result<(), ReviewError> {
        if clock.is_cancelled() || Instant::now() >= self.until {
            Err(ReviewError::time_up())
        } else {
            Ok(())
        }
    }

    /// Writes the response. A long one holds memory until its reader has taken all of it.
    fn respond(
        &self,
        verdict: &AdmissionVerdict,
        clock: &RunClock,
    ) -> Result<DecidedReview, ReviewError> {
        self.check_deadline(clock)?;
        let outcome = AdmissionOutcome::from(verdict);
        // The verdict is in the response; the log must not hold all of it.
        tracing::debug!(uid = self.review.uid, admission = ?outcome, "admission");
        let text = self.review.answer(verdict).to_string();
        if text.len() <= SHORT_RESPONSE_BYTES {
            return Ok(DecidedReview { outcome, response: Bytes::from(text) });
        }
        let memory = self
            .response_memory
            .try_reserve(text.len() as u64)
            .ok_or_else(ReviewError::memory_full)?;
        let response = Bytes::from_owner(ReservedResponse { text, _memory: memory });
        Ok(DecidedReview { outcome, response })
    }
}

fn count_containers(pod: &serde_json::Value) -> usize {
    pod.pointer("/spec/containers").and_then(serde_json::Value::as_array).map_or(0, Vec::len)
}

/// The text of a response, and the reservation of its memory.
struct ReservedResponse {
    text: String,
    _memory: Reservation,
}

impl AsRef<[u8]> for ReservedResponse {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}
