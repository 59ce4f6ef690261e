//! The `headers` of a source: fixed, and none that the sidecar itself answers for.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::context::Context;
use super::fields::{any_text, mapping};
use super::model::WrittenHeaders;
use super::reference;
use super::tree::{TreeKey, TreeNode};
use crate::diagnostics::quote;

/// The most headers of a source.
const MAX_HEADERS: usize = 64;

/// The headers of a source as they go out, and as the file has them.
#[derive(Default)]
pub(super) struct Headers {
    pub(super) values: HeaderMap,
    pub(super) written: WrittenHeaders,
}

/// Reads the mapping.
pub(super) fn headers(
    context: &mut Context<'_>,
    node: &TreeNode,
    sources: &[&str],
) -> Option<Headers> {
    let entries = mapping(context, node, "headers")?;
    if entries.len() > MAX_HEADERS {
        let expected = format!("at most {MAX_HEADERS}");
        let hint = "keep those that the source reads";
        context.problem(node.span.clone(), "there are too many headers", expected, hint);
        return None;
    }
    let mut headers = Headers::default();
    let before = context.count();
    for (key, value) in entries {
        let name = header_name(context, key);
        let value = header_value(context, value, sources);
        if let (Some(name), Some(FixedHeader { mut value, written, secret })) = (name, value) {
            value.set_sensitive(secret || matches!(name.as_str(), "authorization" | "cookie"));
            headers.written.0.push((name.clone(), written));
            if headers.values.insert(&name, value).is_some() {
                let hint =
                    "remove one of the two: upper and lower case are the same in a header's name";
                context.problem(
                    key.span.clone(),
                    format!("`{name}` is given twice"),
                    "each header once",
                    hint,
                );
            }
        }
    }
    headers.written.0.sort_unstable_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
    (context.count() == before).then_some(headers)
}

fn header_name(context: &mut Context<'_>, key: &TreeKey) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(key.text.as_bytes()) else {
        let message = format!("{} is not the name of a header", quote(&key.text));
        let hint = "write it as HTTP does, without spaces and without `:`: `accept-language`";
        context.problem(key.span.clone(), message, "letters, digits and `-`", hint);
        return None;
    };
    if let Some(reason) = reserved_by(name.as_str()) {
        let message = format!("`{name}` cannot be set: {reason}");
        let hint = "remove it: the sidecar sets it where it is needed";
        context.problem(key.span.clone(), message, "a header that is the file's to set", hint);
        return None;
    }
    Some(name)
}

/// The value of a header.
struct FixedHeader {
    value: HeaderValue,
    /// Before substitution.
    written: String,
    /// It came from the environment and is never to be shown.
    secret: bool,
}

fn header_value(
    context: &mut Context<'_>,
    node: &TreeNode,
    sources: &[&str],
) -> Option<FixedHeader> {
    let before = context.count();
    reference::report_references(context, node, sources, "a header");
    if context.count() > before {
        return None;
    }
    let at = any_text(context, node, "a header's value")?;
    let good = at.scalar.text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    let value = HeaderValue::from_str(&at.scalar.text).ok().filter(|_| good);
    if value.is_none() {
        let hint = "remove line breaks, and encode other characters as the source expects it \
                    (base64, or `%` and digits)";
        let message = "this cannot be the value of a header";
        context.problem(at.span.clone(), message, "printable ASCII on one line", hint);
    }
    let written = at.scalar.raw.clone();
    let secret = at.scalar.substituted();
    value.map(|value| FixedHeader { value, written, secret })
}

/// Why a header is not the file's to set.
fn reserved_by(name: &str) -> Option<&'static str> {
    Some(match name {
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "te"
        | "trailer"
        | "transfer-encoding"
        | "upgrade"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "http2-settings" => "it belongs to one connection",
        "host" => "it follows from the URL",
        "content-length" | "content-type" | "content-encoding" | "expect" => {
            "the request has no body"
        }
        "if-match" | "if-none-match" | "if-modified-since" | "if-unmodified-since" | "if-range" => {
            "conditions confirm a snapshot"
        }
        "range" => "a part is always whole",
        "accept-encoding" => "answers come uncompressed, so that their size has a bound",
        "cache-control" | "pragma" => "it says whether a snapshot is confirmed",
        "traceparent" | "tracestate" => "it carries the trace",
        "bfb-deadline-ms" => "it carries the deadline",
        _ => return None,
    })
}
