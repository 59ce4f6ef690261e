//! What is asked of a source, and the request that asks it.
//!
//! The file's fixed headers go over our defaults, and what we promise (encoding, deadline, trace,
//! condition) over the file's. No header of the consumer is among them but the trace context.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, IF_NONE_MATCH, USER_AGENT};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::Empty;
use tokio::time::Instant;

use super::attempt_error::AttemptError;
use super::exchange::BodyLimit;
use super::{Outstanding, Reason, TraceContext};
use crate::domain::Missing;
use crate::resources::WorkMemory;

const DEADLINE_MS: HeaderName = HeaderName::from_static("bfb-deadline-ms");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What one request is to find out; retries ask it again.
#[derive(Clone, Copy)]
pub(super) struct RequestSpec<'a> {
    pub(super) target: &'a PathAndQuery,
    /// The strong `ETag` to confirm.
    pub(super) condition: Option<&'a HeaderValue>,
    /// What a 404 means to this request.
    pub(super) missing: &'a Missing,
    pub(super) no_cache: bool,
    /// To be sent on a connection of its own.
    pub(super) fresh_connection: bool,
    pub(super) body_limit: BodyLimit,
    pub(super) deadline: Instant,
    /// From when on there was time to ask.
    pub(super) started_at: Instant,
    pub(super) trace: &'a TraceContext,
    pub(super) memory: &'a WorkMemory,
    pub(super) outstanding: &'a Outstanding,
}

/// What every request to a source carries: our defaults, and over them the file's.
pub(super) fn base_headers(fixed: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers
        .insert(USER_AGENT, HeaderValue::from_static(concat!("bfb/", env!("CARGO_PKG_VERSION"))));
    // `extend` of a whole map replaces what has the same name.
    headers.extend(fixed.clone());
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

/// The request for `question`, whose answer is of use for `left` more.
pub(super) fn build_request(
    origin: &Uri,
    base: &HeaderMap,
    question: RequestSpec<'_>,
    span_id: u64,
    left: Duration,
) -> Result<Request<Empty<Bytes>>, AttemptError> {
    let mut request = Request::new(Empty::new());
    let mut uri = origin.clone().into_parts();
    uri.path_and_query = Some(question.target.clone());
    // The origin was checked with the file, the target when it was rendered: together they are a
    // URL.
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| {
        AttemptError::inconclusive(Reason::Connect, "its URL cannot be put together")
    })?;
    let headers = request.headers_mut();
    headers.clone_from(base);
    headers.insert(DEADLINE_MS, u64::try_from(left.as_millis()).unwrap_or(u64::MAX).into());
    headers.insert(TRACEPARENT, question.trace.traceparent(span_id));
    if let Some(state) = question.trace.tracestate() {
        headers.insert(TRACESTATE, state);
    }
    if question.no_cache {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    if let Some(tag) = question.condition {
        headers.insert(IF_NONE_MATCH, tag.clone());
    }
    Ok(request)
}
