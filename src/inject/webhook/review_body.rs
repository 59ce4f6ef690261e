//! Receives the body of a review within the memory of its lane.

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::time::Instant;

use super::review_budget::{ReviewBudget, ReviewLane};
use super::review_error::ReviewError;
use crate::http::{BodyError, RequestBody};
use crate::resources::{MemoryShare, Reservation};

/// The largest body of a review, in bytes: the limit of an API server for a request.
const BODY_MAX_BYTES: usize = 3 * 1024 * 1024;
/// The memory that is reserved for a small body before any of it has arrived, in bytes.
const REVIEW_MIN_BYTES: u64 = 8 * 1024;

/// A complete body, and the reservation of its memory.
pub(super) struct ReviewBody {
    pub bytes: Bytes,
    /// Held until the review is parsed, and the body is dropped.
    _memory: Reservation,
    pub lane: ReviewLane,
}

impl ReviewBody {
    /// Receives the whole body of a request.
    ///
    /// A small body reserves memory as it arrives, so that a client that announces much and sends
    /// nothing holds none. A large body waits for all of its memory before it is read, so that no
    /// two bodies wait for each other with a part of the memory each.
    pub(super) async fn receive(
        request: Request<RequestBody>,
        budget: &ReviewBudget,
        until: Instant,
    ) -> Result<Self, ReviewError> {
        let size = request.body().size_hint().exact().unwrap_or(BODY_MAX_BYTES as u64);
        if size > BODY_MAX_BYTES as u64 {
            return Err(too_large());
        }
        if !is_json(&request) {
            let message =
                "the body is of another type; expected `content-type: application/json`".to_owned();
            return Err(ReviewError::Malformed(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let lane = ReviewLane::of_body(size);
        let reserved_bytes = if lane == ReviewLane::Large { size } else { REVIEW_MIN_BYTES };
        let share = budget.bodies(lane);
        let mut memory = share.reserve(reserved_bytes, until).await?;
        let bytes = read_body(request.into_body(), &mut memory, share, until).await?;
        Ok(Self { bytes, _memory: memory, lane })
    }
}

fn is_json(request: &Request<RequestBody>) -> bool {
    let content_type =
        request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = content_type.split(';').next().unwrap_or("");
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// Reads the body to its end. `memory` grows with it.
async fn read_body(
    body: RequestBody,
    memory: &mut Reservation,
    share: &MemoryShare,
    until: Instant,
) -> Result<Bytes, ReviewError> {
    let mut body = Limited::new(body, BODY_MAX_BYTES);
    let mut bytes = BytesMut::with_capacity(usize::try_from(memory.bytes()).unwrap_or(0));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| body_failure(error.as_ref()))?.into_data() else {
            continue;
        };
        // The buffer doubles when it grows.
        let needed = 2 * (bytes.len() + data.len()) as u64;
        if bytes.capacity() < bytes.len() + data.len() && needed > memory.bytes() {
            memory.merge(share.reserve(needed - memory.bytes(), until).await?);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

fn body_failure(error: &(dyn std::error::Error + Send + Sync + 'static)) -> ReviewError {
    if error.is::<LengthLimitError>() {
        return too_large();
    }
    match error.downcast_ref() {
        Some(BodyError::Late(_)) => {
            ReviewError::Malformed(StatusCode::REQUEST_TIMEOUT, error.to_string())
        }
        Some(BodyError::Overloaded) => ReviewError::memory_full(),
        Some(BodyError::Broken(_)) | None => ReviewError::bad_request(error.to_string()),
    }
}

fn too_large() -> ReviewError {
    let message = format!("the body is too large; expected at most {BODY_MAX_BYTES} bytes");
    ReviewError::Malformed(StatusCode::PAYLOAD_TOO_LARGE, message)
}
