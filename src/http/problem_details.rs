//! Writes `application/problem+json` (RFC 9457). Each side has its own kinds of problems.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;

/// The members that all problems of one type share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemType {
    /// The last part of `urn:bfb:…`.
    pub name: &'static str,
    /// The status of the answer.
    pub status: StatusCode,
    /// A fixed text for people.
    pub title: &'static str,
}

impl ProblemType {
    /// Something of the request is reserved or wrong.
    pub(crate) const BAD_REQUEST: Self =
        Self::new("bad-request", StatusCode::BAD_REQUEST, "the request is not understood");
    /// The path does not have the method; `Allow` lists those that it has.
    pub(crate) const METHOD_NOT_ALLOWED: Self = Self::new(
        "method-not-allowed",
        StatusCode::METHOD_NOT_ALLOWED,
        "the method is not allowed here",
    );
    /// `Host` is neither loopback nor allowed.
    pub(crate) const MISDIRECTED: Self =
        Self::new("misdirected", StatusCode::MISDIRECTED_REQUEST, "the host is not one of ours");
    /// Too much is under way already.
    pub(crate) const OVERLOADED: Self =
        Self::new("overloaded", StatusCode::SERVICE_UNAVAILABLE, "too much is under way");

    /// The type `urn:bfb:name`.
    pub(crate) const fn new(name: &'static str, status: StatusCode, title: &'static str) -> Self {
        Self { name, status, title }
    }
}

/// One problem, as it is written into an answer.
#[derive(Debug)]
pub struct ProblemDetails<'a, E> {
    /// Its type.
    pub problem_type: ProblemType,
    /// What was found, and what was expected.
    pub detail: Option<Cow<'a, str>>,
    /// Members of its own (RFC 9457 section 3.2); serializes as a struct or a map.
    pub extensions: E,
    /// How long to wait before the next try, where that is known: sent with a 503 as `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The value of `Allow`, where the status is 405.
    pub allow: Option<&'static str>,
}

impl<E: Serialize> ProblemDetails<'_, E> {
    /// The answer. `trace_id` names the trace; the log holds the details under it.
    pub fn into_response(self, trace_id: &str) -> Response<Bytes> {
        let ProblemType { name, status, title } = self.problem_type;
        let body = ProblemBody {
            r#type: format!("urn:bfb:{name}"),
            title,
            status: status.as_u16(),
            detail: self.detail.as_deref(),
            trace_id,
            extensions: self.extensions,
        };
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Bytes::from(json));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = whole_seconds(self.retry_after.unwrap_or_default()).max(1);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// The members in the order in which they are written.
#[derive(Serialize)]
struct ProblemBody<'a, E> {
    r#type: String,
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    trace_id: &'a str,
    #[serde(flatten)]
    extensions: E,
}

/// `Retry-After` has no fractions; it is rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
