//! What an upstream answers: a document with its `ETag`, a 304, a 404, or the failure it has been
//! told to give.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::upstream_state::{UpstreamDocument, UpstreamState};

pub(super) type UpstreamResponse = Response<Full<Bytes>>;

/// Answers a request to an upstream. The query is ignored.
pub(super) fn respond(
    shop: &UpstreamState,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> UpstreamResponse {
    if let Some(fail) = shop.behaviour().fail
        && fastrand::u8(..100) < fail.percent
    {
        let status = StatusCode::from_u16(fail.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return problem_response(status, "told to fail");
    }
    if method != Method::GET {
        return with_allow(problem_response(StatusCode::METHOD_NOT_ALLOWED, "only GET"), "GET");
    }
    match shop.kind.customer(path).and_then(|customer| shop.document(customer)) {
        None => problem_response(StatusCode::NOT_FOUND, "nothing here"),
        Some(document) if has_matching_etag(&document, headers) => {
            document_response(StatusCode::NOT_MODIFIED, &document.etag, "")
        }
        Some(document) => {
            let mut reply = document_response(StatusCode::OK, &document.etag, document.json);
            reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            reply
        }
    }
}

/// Whether `If-None-Match` (RFC 9110, section 13.1.2) names the document. Our tags hold no comma.
fn has_matching_etag(document: &UpstreamDocument, headers: &HeaderMap) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == document.etag)
}

fn document_response(status: StatusCode, etag: &str, body: impl Into<Bytes>) -> UpstreamResponse {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(ETAG, HeaderValue::from_str(etag).expect("our tags are plain ASCII"));
    reply
}

/// `application/problem+json` (RFC 9457).
pub(super) fn problem_response(status: StatusCode, detail: &str) -> UpstreamResponse {
    json_response(
        status,
        "application/problem+json",
        &json!({"status": status.as_u16(), "detail": detail}),
    )
}

/// With `Allow`.
pub(super) fn with_allow(mut reply: UpstreamResponse, methods: &'static str) -> UpstreamResponse {
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    reply
}

pub(super) fn json_response(
    status: StatusCode,
    content_type: &'static str,
    body: &serde_json::Value,
) -> UpstreamResponse {
    let mut reply = Response::new(Full::new(Bytes::from(body.to_string() + "\n")));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::upstream_state::{FailureMode, UpstreamKind};
    use super::*;

    fn get(shop: &UpstreamState, path: &str, known: Option<&str>) -> UpstreamResponse {
        let known = known.map(|tag| (IF_NONE_MATCH, HeaderValue::from_str(tag).unwrap()));
        respond(shop, &Method::GET, path, &known.into_iter().collect())
    }

    #[test]
    fn a_known_etag_is_a_304_until_the_document_changes() {
        let shop = UpstreamState::new(UpstreamKind::Profile, 7);
        let first = get(&shop, "/customers/42", None);
        assert_eq!(first.status(), StatusCode::OK);
        let etag = first.headers()[ETAG].to_str().unwrap().to_owned();
        assert!(etag.starts_with('"') && etag.ends_with('"'), "strong: {etag}");
        for known in [etag.as_str(), &format!("\"other\", {etag}"), "*"] {
            let again = get(&shop, "/customers/42", Some(known));
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(again.headers()[ETAG], etag.as_str());
        }
        shop.change(42).unwrap();
        assert_eq!(get(&shop, "/customers/42", Some(&etag)).status(), StatusCode::OK);
    }

    #[test]
    fn what_is_not_there_is_a_404_and_only_get_is_allowed() {
        let shop = UpstreamState::new(UpstreamKind::Favorites, 7);
        for path in ["/customers/7/favorites", "/customers/1001/favorites", "/customers/42", "/"] {
            assert_eq!(get(&shop, path, None).status(), StatusCode::NOT_FOUND, "{path}");
        }
        let posted = respond(&shop, &Method::POST, "/customers/42/favorites", &HeaderMap::new());
        assert_eq!(
            (posted.status(), posted.headers()[ALLOW].as_bytes()),
            (StatusCode::METHOD_NOT_ALLOWED, &b"GET"[..])
        );
    }

    #[test]
    fn an_upstream_fails_as_often_as_it_was_told() {
        let shop = UpstreamState::new(UpstreamKind::Orders, 7);
        for (percent, expected) in [(0, 0..=0), (10, 20..=200), (100, 1_000..=1_000)] {
            shop.change_behaviour(|behaviour| {
                behaviour.fail = Some(FailureMode { status: 503, percent });
            });
            let failed = (0..1_000)
                .filter(|_| get(&shop, "/accounts/A-501554/orders", None).status() == 503)
                .count();
            assert!(expected.contains(&failed), "{failed} of 1000 at {percent} %");
        }
    }
}
