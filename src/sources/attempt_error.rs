//! The error of one attempt: the text that the consumer reads, and the facts that retries and
//! breaker decide by.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::AttemptHealth;
use super::{Reason, SourceError};
use crate::identity::{ConnectError, ConnectErrorKind};

/// Why one request gave no part.
#[derive(Debug, Clone)]
pub(super) struct AttemptError {
    pub(super) reason: Reason,
    /// The value found and the value expected; never data.
    pub(super) detail: String,
    pub(super) retry: bool,
    pub(super) retry_after: Option<Duration>,
    /// The evidence about the source's health.
    pub(super) health: AttemptHealth,
    /// Whether the request may be sent again outside the retry budget.
    pub(super) resend: Resend,
    /// How it will be sent again outside the budget; set by the sender.
    pub(super) resend_plan: Option<ResendPlan>,
}

/// How a request that the source has not processed may be sent again. Requests are always GET:
/// sending one twice is harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resend {
    Never,
    /// The response was not the answer to this request: earlier bytes on a reused connection
    /// preceded it.
    OnFreshConnection,
    /// The source refused it unprocessed.
    OnAnyConnection,
}

/// When and how a request is sent again outside the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ResendPlan {
    pub(super) at: Instant,
    pub(super) on_fresh_connection: bool,
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

    /// The source is unhealthy, and may be healthy at the next request.
    pub(super) fn of_unhealthy_source(reason: Reason, detail: impl Into<String>) -> Self {
        Self { retry: true, health: AttemptHealth::Unhealthy, ..Self::answered(reason, detail) }
    }

    /// Nothing was learnt about the source.
    pub(super) fn inconclusive(reason: Reason, detail: impl Into<String>) -> Self {
        Self { health: AttemptHealth::Unknown, ..Self::answered(reason, detail) }
    }

    /// There is no connection to the source.
    pub(super) fn from_connect(error: ConnectError) -> Self {
        let reason = match error.kind {
            ConnectErrorKind::Connect => Reason::Connect,
            ConnectErrorKind::Tls | ConnectErrorKind::ClosedUnanswered => Reason::Tls,
            ConnectErrorKind::NotMutual => Reason::NotMutual,
        };
        // A server that closes without a word may have been stopped in just that moment.
        let retry =
            matches!(error.kind, ConnectErrorKind::Connect | ConnectErrorKind::ClosedUnanswered);
        Self { retry, ..Self::of_unhealthy_source(reason, error.detail) }
    }

    /// The connection ended before the answer was whole.
    #[cfg(any(feature = "postgres", feature = "mongodb"))]
    pub(super) fn of_lost_connection() -> Self {
        let detail = "broke the connection off before it answered";
        Self::of_unhealthy_source(Reason::Connect, detail)
    }

    /// The same, where a retry would meet it again.
    #[cfg(any(feature = "postgres", feature = "mongodb"))]
    pub(super) fn without_retry(self) -> Self {
        Self { retry: false, ..self }
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

/// The breaker of the source is open for so long.
pub(super) fn breaker_open_error(wait: Duration) -> AttemptError {
    let retry_after = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
    let detail = format!(
        "too many requests failed, so that none is sent for {} more",
        format_duration(retry_after)
    );
    AttemptError {
        retry_after: Some(retry_after),
        retry: false,
        ..AttemptError::inconclusive(Reason::BreakerOpen, detail)
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
