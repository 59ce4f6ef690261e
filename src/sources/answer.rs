//! Classifies a response: a part, the known part again, not found, or an error. Pure.
//!
//! A part is a 200 with JSON and no next page. No text made here holds a header's value or a byte
//! of a body.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, ETAG, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::attempt_error::AttemptError;
use super::breaker::AttemptHealth;
use super::link_header::{self, NextPage};
use super::{Part, Reason, VALIDATOR_BYTES_MAX, Validator, json};
use crate::domain::{Missing, Pages};

/// A response, whole.
#[derive(Debug, Clone)]
pub(super) struct UpstreamReply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Empty unless the status is 200.
    pub(super) body: Bytes,
}

/// A classified response.
#[derive(Debug)]
pub(super) enum Classified {
    /// One page, its size as it came, and the reference of the next where the source's pages are
    /// followed.
    Page { part: Part, next: Option<String>, bytes: usize },
    /// A 304 for the part that we know.
    NotModified,
    /// A 304 for another part, or for more pages than are known: the request is sent again without
    /// a condition.
    Mismatched304,
    /// A 404 that the file gives a meaning.
    Missing,
}

impl Classified {
    /// The bytes that were read.
    pub(super) fn bytes(&self) -> Option<u64> {
        match self {
            Self::Page { bytes, .. } => Some(*bytes as u64),
            Self::NotModified | Self::Mismatched304 | Self::Missing => None,
        }
    }
}

/// Classifies the response to a request that was sent with `condition` as its `If-None-Match`.
pub(super) fn classify(
    reply: &UpstreamReply,
    condition: Option<&HeaderValue>,
    pages: Pages,
    missing: &Missing,
) -> Result<Classified, AttemptError> {
    match reply.status {
        StatusCode::OK => classify_page(reply, pages),
        StatusCode::NOT_MODIFIED if condition.is_some() => {
            Ok(classify_not_modified(&reply.headers, condition, pages))
        }
        StatusCode::NOT_FOUND if *missing != Missing::Failure => Ok(Classified::Missing),
        status => Err(status_error(status, &reply.headers)),
    }
}

/// Whether a body is to be read; of a 200 that is no JSON not a byte is.
pub(super) fn has_body(status: StatusCode, headers: &HeaderMap) -> Result<bool, AttemptError> {
    if status != StatusCode::OK {
        return Ok(false);
    }
    check_content_coding(headers)
        .map_err(|detail| AttemptError::answered(Reason::NotJson, detail))?;
    // Something else answered in the source's place, or the source is broken: the next answer may
    // be JSON, while a coding or a charset is how it was set up.
    let media = media_type(headers).map_err(|detail| AttemptError {
        retry: true,
        ..AttemptError::answered(Reason::NotJson, detail)
    })?;
    check_charset(media).map_err(|detail| AttemptError::answered(Reason::NotJson, detail))?;
    Ok(true)
}

fn classify_page(reply: &UpstreamReply, pages: Pages) -> Result<Classified, AttemptError> {
    let next = match (pages, link_header::next_page(&reply.headers)) {
        (Pages::First, _) | (_, NextPage::None) => None,
        (Pages::Follow { .. }, NextPage::Reference(reference)) => Some(reference),
        (Pages::Refuse, NextPage::Reference(_)) => {
            let detail = "has a next page (`Link` with `rel=\"next\"`), \
                          expected all in one answer: see `pages`";
            return Err(AttemptError::answered(Reason::Incomplete, detail));
        }
        (_, NextPage::Unclear) => {
            let detail = "sent a `Link` that cannot be read, so that there may be a next page";
            return Err(AttemptError::answered(Reason::Incomplete, detail));
        }
    };
    let json = json::validate(&reply.body).map_err(|invalid| AttemptError {
        retry: invalid.is_broken,
        ..AttemptError::answered(Reason::NotJson, invalid.detail)
    })?;
    Ok(Classified::Page {
        part: Part { json, validator: validator(&reply.headers) },
        next,
        bytes: reply.body.len(),
    })
}

fn classify_not_modified(
    headers: &HeaderMap,
    condition: Option<&HeaderValue>,
    pages: Pages,
) -> Classified {
    let other_tag = headers.get_all(ETAG).iter().any(|tag| Some(tag) != condition);
    let more_pages = pages != Pages::First && link_header::next_page(headers) != NextPage::None;
    if other_tag || more_pages { Classified::Mismatched304 } else { Classified::NotModified }
}

fn status_error(status: StatusCode, headers: &HeaderMap) -> AttemptError {
    let code = status.as_u16();
    match code {
        204 | 206 => {
            AttemptError::answered(Reason::Incomplete, format!("answered {code}, expected 200"))
        }
        304 => AttemptError::answered(
            Reason::Status,
            "answered 304 to a request without a condition, expected 200",
        ),
        300..=399 => {
            let detail =
                format!("answered {code}, a redirect, expected 200: redirects are never followed");
            AttemptError::answered(Reason::Incomplete, detail)
        }
        _ => {
            let retry = code == 429 || (status.is_server_error() && !matches!(code, 501 | 505));
            let health = if status.is_server_error() {
                AttemptHealth::Unhealthy
            } else {
                AttemptHealth::Healthy
            };
            let retry_after = retry_after(headers, SystemTime::now());
            let detail = format!("answered {code}, expected 200");
            AttemptError {
                retry,
                retry_after,
                health,
                ..AttemptError::answered(Reason::Status, detail)
            }
        }
    }
}

/// `Retry-After` in seconds or as a date, at most a day.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds =
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().unwrap_or(u64::MAX));
    let wait = match seconds {
        Some(seconds) => Duration::from_secs(seconds),
        None => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    (!text.is_empty()).then_some(wait.min(Duration::from_hours(24)))
}

/// The validator of an answer; several `ETag`s, one that is none by its syntax (RFC 9110, section
/// 8.8.3), or one of more than [`VALIDATOR_BYTES_MAX`] prove nothing. It is a copy: a header's
/// value as it came keeps the buffer alive that its connection read it into.
pub(super) fn validator(headers: &HeaderMap) -> Validator {
    let mut tags = headers.get_all(ETAG).iter();
    let (Some(tag), None) = (tags.next(), tags.next()) else { return Validator::None };
    let opaque = |text: &[u8]| {
        let inner = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
        inner.is_some_and(|inner| inner.iter().all(|b| matches!(b, 0x21 | 0x23..=0x7e | 0x80..)))
    };
    let copy = || HeaderValue::from_bytes(tag.as_bytes()).ok();
    let validator = match tag.as_bytes() {
        long if long.len() > VALIDATOR_BYTES_MAX => None,
        strong if opaque(strong) => copy().map(Validator::Strong),
        [b'W', b'/', weak @ ..] if opaque(weak) => copy().map(Validator::Weak),
        _ => None,
    };
    validator.unwrap_or(Validator::None)
}

/// Whether a part that was read again is the known one: the same bytes, and no strong `ETag` that
/// contradicts it.
pub(super) fn is_unchanged(known: &Part, new: &Part) -> bool {
    let tags_agree = match (&known.validator, &new.validator) {
        (Validator::Strong(known), Validator::Strong(new)) => known == new,
        _ => true,
    };
    known.json == new.json && tags_agree
}

fn check_content_coding(headers: &HeaderMap) -> Result<(), String> {
    for value in headers.get_all(CONTENT_ENCODING) {
        let text = value.to_str().unwrap_or("?").to_ascii_lowercase();
        let mut codings = text.split(',').map(str::trim);
        if let Some(coding) = codings.find(|coding| !matches!(*coding, "" | "identity")) {
            let known = ["gzip", "x-gzip", "deflate", "br", "zstd", "compress"].contains(&coding);
            let named =
                if known { format!("`{coding}`") } else { "an unknown encoding".to_owned() };
            return Err(format!(
                "sent the body in {named}, expected `identity`, which was asked for"
            ));
        }
    }
    Ok(())
}

/// Media types that are usual when something else answers in a source's place. Others are not
/// quoted, for they may hold anything.
const NAMEABLE_MEDIA_TYPES: [&str; 8] = [
    "text/html",
    "text/plain",
    "text/json",
    "text/xml",
    "application/xml",
    "application/octet-stream",
    "application/x-ndjson",
    "text/event-stream",
];

/// The content type, which names JSON.
fn media_type(headers: &HeaderMap) -> Result<&str, String> {
    const EXPECTED: &str = "expected `application/json`";
    let text = single_header(headers, &CONTENT_TYPE)
        .map_err(|problem| format!("sent {problem} content type, {EXPECTED}"))?;
    let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let suffixed = media.strip_prefix("application/").and_then(|sub| sub.strip_suffix("+json"));
    let token = |sub: &str| {
        let in_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        !sub.is_empty() && sub.bytes().all(in_token)
    };
    if media == "application/json" || suffixed.is_some_and(token) {
        return Ok(text);
    }
    let is_nameable = NAMEABLE_MEDIA_TYPES.contains(&media.as_str());
    let content =
        if is_nameable { format!("`{media}`") } else { "another content type".to_owned() };
    Err(format!("sent {content}, {EXPECTED}"))
}

fn check_charset(content_type: &str) -> Result<(), String> {
    let text = content_type.to_ascii_lowercase();
    let mut parameters = text.split(';').skip(1).filter_map(|piece| piece.split_once('='));
    let charset = parameters.find(|(name, _)| name.trim() == "charset");
    match charset.map(|(_, value)| value.trim().trim_matches('"')) {
        None | Some("utf-8" | "utf8") => Ok(()),
        Some(_) => Err("sent a charset other than `utf-8`, JSON is UTF-8".to_owned()),
    }
}

fn single_header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<&'h str, &'static str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Err("no"),
        (Some(value), None) => value.to_str().map_err(|_| "an unreadable"),
        _ => Err("more than one"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn classified(
        status: u16,
        pairs: &[(&'static str, &str)],
        condition: Option<&str>,
    ) -> Result<Classified, AttemptError> {
        let reply = UpstreamReply {
            status: status.try_into().unwrap(),
            headers: headers(pairs),
            body: Bytes::from_static(b" [1]\n"),
        };
        classify(
            &reply,
            condition.map(|tag| tag.parse().unwrap()).as_ref(),
            Pages::Refuse,
            &Missing::Failure,
        )
    }

    #[test]
    fn only_json_in_utf_8_has_a_body_worth_reading() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/problem+json",
            "application/vnd.shop.v1+json;charset=\"utf-8\"; profile=x",
        ] {
            assert!(
                has_body(StatusCode::OK, &headers(&[("content-type", good)])).unwrap(),
                "{good}"
            );
        }
        for (bad, retry) in [
            ("text/html", true),
            ("application/jsonx", true),
            ("application/json; charset=latin1", false),
            ("application/+json", true),
            ("application/ld json+json", true),
            ("json", true),
            ("", true),
        ] {
            let fault = has_body(StatusCode::OK, &headers(&[("content-type", bad)])).unwrap_err();
            assert_eq!(
                (fault.reason, fault.retry, fault.health),
                (Reason::NotJson, retry, AttemptHealth::Healthy),
                "{bad}"
            );
        }
        let two =
            headers(&[("content-type", "application/json"), ("content-type", "application/json")]);
        assert!(has_body(StatusCode::OK, &two).unwrap_err().detail.contains("more than one"));
        assert!(
            has_body(StatusCode::OK, &HeaderMap::new())
                .unwrap_err()
                .detail
                .contains("no content type")
        );
        assert!(!has_body(StatusCode::NOT_FOUND, &HeaderMap::new()).unwrap());
    }

    #[test]
    fn a_coding_other_than_identity_is_refused_by_name() {
        let with = |coding| {
            has_body(
                StatusCode::OK,
                &headers(&[("content-type", "application/json"), ("content-encoding", coding)]),
            )
        };
        assert!(with("identity").unwrap() && with("").unwrap());
        assert!(with("GZIP").unwrap_err().detail.contains("`gzip`"));
        assert!(with("identity, zstd").unwrap_err().detail.contains("`zstd`"));
        let secret = with("secret").unwrap_err().detail;
        assert!(secret.contains("an unknown encoding") && !secret.contains("secret"));
    }

    #[test]
    fn each_status_has_its_reason_and_only_trouble_is_retried() {
        for (status, reason, retry, health) in [
            (204, Reason::Incomplete, false, AttemptHealth::Healthy),
            (206, Reason::Incomplete, false, AttemptHealth::Healthy),
            (301, Reason::Incomplete, false, AttemptHealth::Healthy),
            (304, Reason::Status, false, AttemptHealth::Healthy),
            (308, Reason::Incomplete, false, AttemptHealth::Healthy),
            (201, Reason::Status, false, AttemptHealth::Healthy),
            (400, Reason::Status, false, AttemptHealth::Healthy),
            (404, Reason::Status, false, AttemptHealth::Healthy),
            (429, Reason::Status, true, AttemptHealth::Healthy),
            (500, Reason::Status, true, AttemptHealth::Unhealthy),
            (501, Reason::Status, false, AttemptHealth::Unhealthy),
            (503, Reason::Status, true, AttemptHealth::Unhealthy),
            (505, Reason::Status, false, AttemptHealth::Unhealthy),
        ] {
            let fault = classified(status, &[], None).unwrap_err();
            assert_eq!(
                (fault.reason, fault.retry, fault.health),
                (reason, retry, health),
                "{status}"
            );
            assert!(
                fault.detail.contains(&status.to_string()) && fault.detail.contains("200"),
                "{}",
                fault.detail
            );
        }
    }

    #[test]
    fn a_304_confirms_only_the_part_that_was_asked_for() {
        let asked = Some("\"a\"");
        assert!(matches!(classified(304, &[], asked), Ok(Classified::NotModified)));
        assert!(matches!(
            classified(304, &[("etag", "\"a\"")], asked),
            Ok(Classified::NotModified)
        ));
        assert!(matches!(
            classified(304, &[("etag", "\"b\"")], asked),
            Ok(Classified::Mismatched304)
        ));
        assert!(matches!(
            classified(304, &[("etag", "W/\"a\"")], asked),
            Ok(Classified::Mismatched304)
        ));
        assert!(matches!(
            classified(304, &[("link", "<x>; rel=next")], asked),
            Ok(Classified::Mismatched304)
        ));
    }

    #[test]
    fn only_one_well_formed_strong_tag_is_a_validator() {
        let tag = |tags: &[&str]| {
            validator(&tags.iter().map(|tag| (ETAG, tag.parse().unwrap())).collect())
        };
        assert_eq!(tag(&["\"a,b\""]), Validator::Strong("\"a,b\"".parse().unwrap()));
        assert_eq!(tag(&["W/\"a\""]), Validator::Weak("W/\"a\"".parse().unwrap()));
        for none in [
            &["a"][..],
            &["\"a"],
            &["\"a b\""],
            &["\"a\"\""],
            &["w/\"a\""],
            &["\""],
            &["\"a\"", "\"a\""],
            &[],
        ] {
            assert_eq!(tag(none), Validator::None, "{none:?}");
        }
        let long = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
        assert!(matches!(tag(&[&long(VALIDATOR_BYTES_MAX)]), Validator::Strong(_)));
        assert_eq!(tag(&[&long(VALIDATOR_BYTES_MAX + 1)]), Validator::None);
    }

    #[test]
    fn a_part_is_unchanged_only_if_its_bytes_are_and_no_strong_tag_says_otherwise() {
        let part = |json: &'static str, tag: &str| Part {
            json: json.into(),
            validator: validator(&headers(&[("etag", tag)])),
        };
        assert!(is_unchanged(&part("1", "\"a\""), &part("1", "\"a\"")));
        assert!(is_unchanged(&part("1", "W/\"a\""), &part("1", "W/\"b\"")));
        assert!(is_unchanged(&part("1", "\"a\""), &part("1", "W/\"b\"")));
        assert!(!is_unchanged(&part("1", "\"a\""), &part("1", "\"b\"")));
        assert!(!is_unchanged(&part("1", "\"a\""), &part("2", "\"a\"")));
        assert!(!is_unchanged(&part("1", "W/\"a\""), &part("2", "W/\"a\"")));
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let wait =
            |text| retry_after(&headers(&[("retry-after", text)]), now).map(|wait| wait.as_secs());
        for (text, expected) in [
            ("3", Some(3)),
            ("0", Some(0)),
            ("Sun, 06 Nov 1994 08:49:42 GMT", Some(5)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
            ("99999999999999999999999", Some(86_400)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wait(text), expected, "{text}");
        }
    }
}
