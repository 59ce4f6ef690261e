//! A 200 (or its 304): the rendered bytes and the headers that say what they are.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, LINK};
use http::{HeaderName, Response, StatusCode};

use super::table::Published;
use super::wish::none_match_names;
use crate::collect::{Dataset, Timeline};

const BFB_DATASET: HeaderName = HeaderName::from_static("bfb-dataset");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The answer to a request whose dataset was collected and rendered.
pub(super) fn complete(
    published: &Published,
    key: &str,
    dataset: &Dataset,
    rendered: Bytes,
    request: &HeaderMap,
    cache_status: &'static str,
) -> Response<Bytes> {
    let etag = strong_etag(&rendered);
    let unchanged = none_match_names(request, &etag);
    let mut response = Response::new(if unchanged { Bytes::new() } else { rendered });
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    if !unchanged {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    insert(headers, ETAG, &etag);
    insert(headers, AGE, &dataset.collected_at.elapsed().unwrap_or_default().as_secs().to_string());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    insert(headers, BFB_DATASET, &dataset.id.to_string());
    headers.insert(CACHE_STATUS, HeaderValue::from_static(cache_status));
    headers.extend(published.announcements.iter().cloned());
    headers.extend(published.successor_link(key).map(|link| (LINK, link)));
    response
}

/// Text of ours: hex, digits, source names. It is always a header value.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    headers.extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
}

/// 128 bits of the bytes' SHA-256, in quotes.
fn strong_etag(rendered: &[u8]) -> String {
    let hash = digest(&SHA256, rendered);
    let mut etag = String::with_capacity(34);
    etag.push('"');
    for byte in &hash.as_ref()[..16] {
        etag.push(char::from(HEX[usize::from(byte >> 4)]));
        etag.push(char::from(HEX[usize::from(byte & 15)]));
    }
    etag.push('"');
    etag
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// `Server-Timing` (W3C): `dur` in milliseconds, with `start`, `round`, `tries`, `status` and `outcome` of ours.
pub(super) fn add_server_timing(headers: &mut HeaderMap, timeline: &Timeline) {
    let ms = |duration: std::time::Duration| format!("{:.2}", duration.as_secs_f64() * 1e3);
    let mut metrics = vec![format!("total;dur={}", ms(timeline.took))];
    for step in &timeline.steps {
        let (start, dur, tries) = (ms(step.offset), ms(step.took), step.attempts.len());
        let status = step.attempts.last().and_then(|attempt| attempt.status);
        let status = status.map(|status| format!(";status={status}")).unwrap_or_default();
        let (source, round, outcome) = (&step.source, step.round, step.outcome.as_str());
        metrics.push(format!("{source};dur={dur};start={start};round={round};tries={tries}{status};outcome={outcome}"));
    }
    insert(headers, SERVER_TIMING, &metrics.join(", "));
}
