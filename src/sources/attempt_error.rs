//! A failure within this module: what the consumer will read of it, and what retries and breaker
//! make of it.

use std::sync::Arc;
use std::time::Duration;

use super::breaker::AttemptHealth;
use super::retry::ResendPlan;
use super::{Reason, SourceError};

/// Why one request gave no part.
#[derive(Debug)]
pub(super) struct AttemptError {
    pub(super) reason: Reason,
    /// What was met and expected; never data.
    pub(super) detail: String,
    pub(super) retry: bool,
    pub(super) retry_after: Option<Duration>,
    /// What it says about the source.
    pub(super) health: AttemptHealth,
    /// Whether the request may be sent again outside the retry budget.
    pub(super) resend: Resend,
    /// How it will be sent again outside the budget; set by whoever sent it.
    pub(super) resend_plan: Option<ResendPlan>,
}

/// How a request may be sent again that the source has not processed. What we send is always a
/// GET: sending it twice is harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resend {
    Never,
    /// What came was not its answer: what had come unasked on a reused connection was in the way.
    OnFreshConnection,
    /// The source refused it unprocessed.
    OnAnyConnection,
}

impl AttemptError {
    /// The source answered, and it will answer the same again.
    pub(super) fn answered(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            retry: false,
            retry_after: None,
            health: AttemptHealth::Healthy,
            resend: Resend::Never,
            resend_plan: None,
        }
    }

    /// The source is in trouble, and may be out of it at the next request.
    pub(super) fn of_unhealthy_source(reason: Reason, detail: impl Into<String>) -> Self {
        Self { retry: true, health: AttemptHealth::Unhealthy, ..Self::answered(reason, detail) }
    }

    /// Nothing was learnt about the source.
    pub(super) fn inconclusive(reason: Reason, detail: impl Into<String>) -> Self {
        Self { health: AttemptHealth::Unknown, ..Self::answered(reason, detail) }
    }

    /// There is no memory for the answer: nothing that the source could help.
    pub(super) fn no_memory() -> Self {
        Self::inconclusive(Reason::NoMemory, "there was no memory for its answer")
    }

    pub(super) fn into_source_error(self, source: &Arc<str>) -> SourceError {
        let Self { reason, detail, retry, retry_after, .. } = self;
        SourceError { source_name: Arc::clone(source), reason, detail, retry, retry_after }
    }
}

/// A number of bytes for people.
pub(super) fn format_size(bytes: usize) -> String {
    match bytes {
        _ if bytes != 0 && bytes.is_multiple_of(1024 * 1024) => {
            format!("{} MiB", bytes / (1024 * 1024))
        }
        _ if bytes != 0 && bytes.is_multiple_of(1024) => format!("{} KiB", bytes / 1024),
        _ => format!("{bytes} bytes"),
    }
}

/// A time for people: `400ms`, `1.5s`.
pub(super) fn format_duration(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{}ms", duration.as_millis());
    }
    let tenths = (duration.as_millis() + 50) / 100;
    if tenths.is_multiple_of(10) {
        format!("{}s", tenths / 10)
    } else {
        format!("{}.{}s", tenths / 10, tenths % 10)
    }
}
