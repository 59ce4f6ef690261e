//! The HTTP responses that the webhook's parts share: text, JSON, and a 405.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

/// A 405 with `allow` as its `Allow` header.
pub(super) fn method_not_allowed(allow: &'static str) -> Response<Bytes> {
    let mut response = text_response(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("no such method here; expected {allow}\n"),
    );
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// A response with a plain text.
pub(super) fn text_response(status: StatusCode, text: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::copy_from_slice(text.as_bytes()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A 200 with a JSON text.
pub(super) fn json_response(text: Bytes) -> Response<Bytes> {
    let mut response = Response::new(text);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
