//! Why an admission review gets no decision, and the response that says so. The API server then
//! acts on its `failurePolicy`.

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use super::metrics::AdmissionOutcome;
use super::responses::text_response;
use crate::resources::{ComputeBusy, MemoryFull};

const MEMORY_FULL_MESSAGE: &str = "the reviews under way hold all the memory that they may; \
                                   expected less at once (hint: it is retried)";
const TIME_UP_MESSAGE: &str = "the reviews under way take all the time that there is; \
                               expected less at once (hint: it is retried)";

/// Why a review has no decision.
#[derive(Debug)]
pub(super) enum ReviewError {
    /// The body is no review, or one that is too large. The status is a 4xx.
    Malformed(StatusCode, String),
    /// There is no memory or no time for the review now: a 429.
    Overloaded(&'static str),
    /// The label of the pod's namespace is not known. The status is a 5xx.
    Failed(StatusCode, String),
}

impl ReviewError {
    /// The reviews under way hold all the memory of their budget.
    pub(super) fn memory_full() -> Self {
        Self::Overloaded(MEMORY_FULL_MESSAGE)
    }

    /// The deadline of the review is over.
    pub(super) fn time_up() -> Self {
        Self::Overloaded(TIME_UP_MESSAGE)
    }

    /// The body is no review: a 400.
    pub(super) fn bad_request(message: String) -> Self {
        Self::Malformed(StatusCode::BAD_REQUEST, message)
    }

    /// The review takes more memory, once it is parsed, than reviews of its lane may hold.
    pub(super) fn too_much_memory(bytes: u64, bytes_max: u64) -> Self {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let message = format!(
            "the review would take {} MiB once it is read; expected at most {} (hint: make the \
             pod's lists shorter, or raise the webhook's memory limit)",
            mib(bytes),
            mib(bytes_max)
        );
        Self::Malformed(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// The outcome to count.
    pub(super) fn outcome(&self) -> AdmissionOutcome {
        match self {
            Self::Malformed(..) => AdmissionOutcome::Malformed,
            Self::Overloaded(_) | Self::Failed(..) => AdmissionOutcome::Failed,
        }
    }

    /// The response with the message as its text.
    pub(super) fn into_response(self) -> Response<Bytes> {
        match self {
            Self::Malformed(status, message) | Self::Failed(status, message) => {
                text_response(status, &format!("{message}\n"))
            }
            Self::Overloaded(message) => {
                let mut response =
                    text_response(StatusCode::TOO_MANY_REQUESTS, &format!("{message}\n"));
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
        }
    }
}

impl From<MemoryFull> for ReviewError {
    fn from(_: MemoryFull) -> Self {
        Self::memory_full()
    }
}

impl From<ComputeBusy> for ReviewError {
    fn from(_: ComputeBusy) -> Self {
        Self::time_up()
    }
}
