//! A 200 (or its 304): the rendered bytes and the headers that describe them.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, LINK};
use http::{HeaderName, Response, StatusCode};
use tokio::time::Instant;

use super::consumer_problem::ConsumerProblem;
use super::request_headers::if_none_match_has;
use super::routes::Route;
use crate::cache::{CacheStatus, EtagDigest, RenderedAnswer, ServedAnswer};
use crate::collect::Timeline;
use crate::resources::NO_MEMORY;

const BFB_DATASET: HeaderName = HeaderName::from_static("bfb-dataset");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The answer to a request whose dataset was collected and rendered.
pub(super) fn build(
    route: &Route,
    key: &str,
    served: &ServedAnswer,
    rendered: &RenderedAnswer,
    request: &HeaderMap,
) -> Result<Response<Bytes>, ConsumerProblem> {
    let etag = strong_etag(rendered.etag);
    let etag = str::from_utf8(&etag).unwrap_or_default();
    let is_unchanged = if_none_match_has(request, etag);
    let body = if is_unchanged { Some(Bytes::new()) } else { rendered.body(route.cache.share()) };
    let body = body.ok_or_else(|| ConsumerProblem::Overloaded { detail: NO_MEMORY.to_owned() })?;
    let mut response = Response::new(body);
    if is_unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    if !is_unchanged {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    insert_header(headers, ETAG, etag);
    headers.insert(AGE, HeaderValue::from(served.entry.age(Instant::now()).as_secs()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Some(id) = served.entry.dataset_id() {
        insert_header(headers, BFB_DATASET, &id.to_string());
    }
    insert_header(headers, CACHE_STATUS, &cache_status(served.status));
    headers.extend(route.deprecation_headers.iter().cloned());
    headers.extend(route.successor_link(key).map(|link| (LINK, link)));
    Ok(response)
}

/// RFC 9211.
fn cache_status(status: CacheStatus) -> Cow<'static, str> {
    match status {
        CacheStatus::Memory { ttl } => format!("bfb; hit; ttl={ttl}; detail=memory").into(),
        CacheStatus::Redis { ttl } => format!("bfb; hit; ttl={ttl}; detail=redis").into(),
        CacheStatus::SourceFailed { ttl } => {
            format!("bfb; hit; ttl={ttl}; detail=source-failed").into()
        }
        CacheStatus::BusLost { ttl } => format!("bfb; hit; ttl={ttl}; detail=bus-lost").into(),
        CacheStatus::Miss { stored: true } => "bfb; fwd=miss; stored".into(),
        CacheStatus::Miss { stored: false } => "bfb; fwd=miss".into(),
        CacheStatus::Collapsed => "bfb; fwd=miss; collapsed".into(),
        CacheStatus::Request { stored: true } => "bfb; fwd=request; stored".into(),
        CacheStatus::Request { stored: false } => "bfb; fwd=request".into(),
        CacheStatus::Bypass => "bfb; fwd=bypass".into(),
    }
}

/// Text that `bfb` writes (hex, digits, source names) is always a header value.
fn insert_header(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    headers.extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
}

/// 128 bits of the bytes' SHA-256.
pub(super) fn etag_digest(rendered: &[u8]) -> EtagDigest {
    let hash = digest(&SHA256, rendered);
    // SHA-256 has 32 bytes.
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

/// A digest in hexadecimal digits and quotes: ASCII.
fn strong_etag(digest: EtagDigest) -> [u8; 34] {
    let mut etag = [b'"'; 34];
    for (digits, byte) in etag[1..33].chunks_exact_mut(2).zip(digest) {
        digits[0] = HEX[usize::from(byte >> 4)];
        digits[1] = HEX[usize::from(byte & 15)];
    }
    etag
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// `Server-Timing` (W3C): `dur` in milliseconds, with `start`, `round`, `tries`, `status` and
/// `outcome` of ours.
pub(super) fn add_server_timing(headers: &mut HeaderMap, timeline: &Timeline) {
    let ms = |duration: std::time::Duration| format!("{:.2}", duration.as_secs_f64() * 1e3);
    let mut metrics = vec![format!("total;dur={}", ms(timeline.took))];
    for step in &timeline.steps {
        let start = ms(step.offset);
        let dur = ms(step.took);
        let tries = step.attempts.len();
        let status = step.attempts.last().and_then(|attempt| attempt.status);
        let status = status.map(|status| format!(";status={status}")).unwrap_or_default();
        let source = &step.source;
        let round = step.round;
        let outcome = step.outcome.as_str();
        metrics.push(format!(
            "{source};dur={dur};start={start};round={round};tries={tries}{status};outcome={outcome}"
        ));
    }
    insert_header(headers, SERVER_TIMING, &metrics.join(", "));
}
