//! The one place where errors become HTTP: `application/problem+json` (RFC 9457) with a fixed text
//! for each kind.
//!
//! A problem names sources, reasons and what was met and expected; it never holds a part's data.
#![doc = include_str!("problems.md")]

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::collect::CollectError;
use crate::sources::{Reason, SourceError};

/// An error as a consumer reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProblemDetails {
    /// The key does not match the domain's pattern, or is no text at all.
    BadKey {
        /// What was met and expected.
        detail: String,
    },
    /// Something of the request is reserved or wrong.
    BadRequest {
        /// What was met and expected.
        detail: String,
    },
    /// The dataset does not exist.
    NotFound {
        /// The domain.
        domain: String,
    },
    /// No version is published under this path.
    NoSuchPath,
    /// The admin port has nothing under this path.
    NoSuchRoute {
        /// What there is.
        detail: String,
    },
    /// Only `GET` and `HEAD`.
    MethodNotAllowed {
        /// The value of `Allow`.
        allow: &'static str,
    },
    /// `Host` is neither loopback nor allowed.
    Misdirected,
    /// A version's program failed for this key.
    ShapeFailed {
        /// The version.
        version: String,
        /// jq's error, less the data.
        detail: String,
    },
    /// Too much is under way already.
    Overloaded {
        /// What is full.
        detail: String,
    },
    /// `only-if-cached`, and it is not.
    NotCached,
    /// The fleet's invalidations are out of reach.
    BusLost,
    /// The fleet did not acknowledge an invalidation in time; it stands.
    NotAcknowledged {
        /// How many sidecars had not reported.
        detail: String,
        /// What the invalidation is known by.
        token: String,
        /// Those sidecars.
        behind: Vec<String>,
    },
    /// At least one source failed.
    SourcesFailed {
        /// Which of the types it is.
        kind: DatasetFailureKind,
        /// Each failed source.
        failures: Vec<SourceError>,
    },
    /// The admin port refuses what a web page could send.
    Forbidden {
        /// What was met and expected.
        detail: String,
    },
    /// A body that is not declared as JSON.
    UnsupportedMediaType,
    /// A body that did not arrive in time.
    RequestTimeout {
        /// What was expected.
        detail: String,
    },
}

/// The types of problem that a failed dataset can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetFailureKind {
    /// The deadline passed.
    Deadline,
    /// A source answered wrongly or not at all.
    SourceFailed,
    /// An upstream did not ask for our certificate.
    NotMutual,
    /// Every failure is an open breaker.
    Unavailable,
    /// Every failure is a source that would not hold still.
    Contended,
}

impl DatasetFailureKind {
    /// Several failures: 504 if the deadline passed, else 502 if any is a 502, else 503.
    fn of_failures(failures: &[SourceError], deadline_passed: bool) -> Self {
        let all = |reason| failures.iter().all(|failure| failure.reason == reason);
        let stands_for_503 =
            |f: &SourceError| matches!(f.reason, Reason::BreakerOpen | Reason::Changed);
        if deadline_passed {
            Self::Deadline
        } else if all(Reason::Changed) {
            Self::Contended
        } else if failures.iter().all(stands_for_503) {
            Self::Unavailable
        } else if failures
            .iter()
            .filter(|f| !stands_for_503(f))
            .all(|f| f.reason == Reason::NotMutual)
        {
            Self::NotMutual
        } else {
            Self::SourceFailed
        }
    }
}

impl ProblemDetails {
    /// The problem that a failed collection is.
    pub fn from_collect(error: CollectError, domain: &str) -> Self {
        match error {
            CollectError::NotFound { .. } => Self::NotFound { domain: domain.to_owned() },
            CollectError::Overloaded { detail } => Self::Overloaded { detail },
            CollectError::Failed { failures, deadline_passed } => Self::SourcesFailed {
                kind: DatasetFailureKind::of_failures(&failures, deadline_passed),
                failures,
            },
        }
    }

    /// The last part of `urn:bfb:…`, the status and the title.
    pub fn type_status_title(&self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::BadKey { .. } => {
                ("bad-key", StatusCode::BAD_REQUEST, "the key is not one of this domain")
            }
            Self::BadRequest { .. } => {
                ("bad-request", StatusCode::BAD_REQUEST, "the request is not understood")
            }
            Self::NotFound { .. } => {
                ("not-found", StatusCode::NOT_FOUND, "the dataset does not exist")
            }
            Self::NoSuchPath => {
                ("no-such-path", StatusCode::NOT_FOUND, "no version is published under this path")
            }
            Self::NoSuchRoute { .. } => {
                ("no-such-path", StatusCode::NOT_FOUND, "there is nothing under this path")
            }
            Self::MethodNotAllowed { .. } => (
                "method-not-allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "the method is not allowed here",
            ),
            Self::Misdirected => {
                ("misdirected", StatusCode::MISDIRECTED_REQUEST, "the host is not one of ours")
            }
            Self::ShapeFailed { .. } => {
                ("shape-failed", StatusCode::BAD_GATEWAY, "the version's shape failed")
            }
            Self::Overloaded { .. } => {
                ("overloaded", StatusCode::SERVICE_UNAVAILABLE, "too much is under way")
            }
            Self::NotCached => {
                ("not-cached", StatusCode::GATEWAY_TIMEOUT, "the dataset is not cached")
            }
            Self::BusLost => (
                "bus-lost",
                StatusCode::SERVICE_UNAVAILABLE,
                "the fleet's invalidations are out of reach",
            ),
            Self::NotAcknowledged { .. } => (
                "not-acknowledged",
                StatusCode::GATEWAY_TIMEOUT,
                "the fleet did not acknowledge in time",
            ),
            Self::SourcesFailed { kind, .. } => kind.type_status_title(),
            Self::Forbidden { .. } => {
                ("forbidden", StatusCode::FORBIDDEN, "a browser can do nothing here")
            }
            Self::RequestTimeout { .. } => (
                "request-timeout",
                StatusCode::REQUEST_TIMEOUT,
                "the request did not arrive in time",
            ),
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body must be JSON",
            ),
        }
    }

    /// The answer. `trace_id` is the trace in which the log tells more.
    pub fn into_response(self, trace_id: &str) -> Response<Bytes> {
        let (name, status, title) = self.type_status_title();
        let body = ProblemBody {
            r#type: format!("urn:bfb:{name}"),
            title,
            status: status.as_u16(),
            detail: self.detail(),
            trace_id,
            domain: if let Self::NotFound { domain } = &self { Some(domain) } else { None },
            token: if let Self::NotAcknowledged { token, .. } = &self { Some(token) } else { None },
            behind: if let Self::NotAcknowledged { behind, .. } = &self {
                Some(behind)
            } else {
                None
            },
            version: if let Self::ShapeFailed { version, .. } = &self {
                Some(version)
            } else {
                None
            },
            failed: self
                .failures()
                .map(|failures| failures.iter().map(FailedSource::from).collect()),
        };
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Bytes::from(json));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Self::MethodNotAllowed { allow } = self {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::BadKey { detail }
            | Self::BadRequest { detail }
            | Self::NoSuchRoute { detail }
            | Self::ShapeFailed { detail, .. }
            | Self::Overloaded { detail }
            | Self::NotAcknowledged { detail, .. }
            | Self::Forbidden { detail }
            | Self::RequestTimeout { detail } => Some(detail.clone()),
            Self::NoSuchPath => Some("`GET /openapi.json` lists the paths".to_owned()),
            Self::MethodNotAllowed { allow } => Some(format!("allowed are {allow}")),
            Self::Misdirected => Some(
                "expected `localhost`, a loopback address or a name given with `--allow-host`"
                    .to_owned(),
            ),
            Self::UnsupportedMediaType => {
                Some("expected `Content-Type: application/json`".to_owned())
            }
            Self::NotFound { .. }
            | Self::NotCached
            | Self::BusLost
            | Self::SourcesFailed { .. } => None,
        }
    }

    /// The failed sources, where the dataset failed.
    pub fn failures(&self) -> Option<&[SourceError]> {
        if let Self::SourcesFailed { failures, .. } = self { Some(failures) } else { None }
    }

    fn retry_after_seconds(&self) -> Option<u64> {
        let (_, status, _) = self.type_status_title();
        if status != StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        let longest = self
            .failures()
            .unwrap_or_default()
            .iter()
            .filter_map(|failure| failure.retry_after)
            .max();
        Some(whole_seconds(longest.unwrap_or_default()).max(1))
    }
}

impl DatasetFailureKind {
    fn type_status_title(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::Deadline => {
                ("deadline", StatusCode::GATEWAY_TIMEOUT, "the deadline of the dataset passed")
            }
            Self::SourceFailed => ("source-failed", StatusCode::BAD_GATEWAY, "a source failed"),
            Self::NotMutual => (
                "not-mutual",
                StatusCode::BAD_GATEWAY,
                "an upstream did not ask for our certificate",
            ),
            Self::Unavailable => {
                ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "a source is being left alone")
            }
            Self::Contended => (
                "contended",
                StatusCode::SERVICE_UNAVAILABLE,
                "the sources changed faster than they could be read",
            ),
        }
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[derive(Serialize)]
struct ProblemBody<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    trace_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<&'a Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<Vec<FailedSource<'a>>>,
}

#[derive(Serialize)]
struct FailedSource<'a> {
    source: &'a str,
    reason: &'static str,
    detail: &'a str,
}

impl<'a> From<&'a SourceError> for FailedSource<'a> {
    fn from(failure: &'a SourceError) -> Self {
        Self {
            source: &failure.source_name,
            reason: failure.reason.as_str(),
            detail: &failure.detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(reason: Reason) -> SourceError {
        let retry_after = Some(Duration::from_millis(1200));
        SourceError {
            source_name: "orders".into(),
            reason,
            detail: "x".to_owned(),
            retry: false,
            retry_after,
        }
    }

    fn kind(reasons: &[Reason], deadline_passed: bool) -> &'static str {
        let failures: Vec<_> = reasons.iter().copied().map(failure).collect();
        DatasetFailureKind::of_failures(&failures, deadline_passed).type_status_title().0
    }

    #[test]
    fn several_failures_are_504_then_502_then_503() {
        assert_eq!(kind(&[Reason::Status, Reason::BreakerOpen], true), "deadline");
        assert_eq!(kind(&[Reason::Status, Reason::BreakerOpen], false), "source-failed");
        assert_eq!(kind(&[Reason::BreakerOpen, Reason::Changed], false), "unavailable");
        assert_eq!(kind(&[Reason::Changed], false), "contended");
        assert_eq!(kind(&[Reason::NotMutual, Reason::BreakerOpen], false), "not-mutual");
        assert_eq!(kind(&[Reason::NotMutual, Reason::Tls], false), "source-failed");
    }

    #[test]
    fn a_503_says_when_to_come_back_in_whole_seconds_rounded_up() {
        let problem = ProblemDetails::SourcesFailed {
            kind: DatasetFailureKind::Unavailable,
            failures: vec![failure(Reason::BreakerOpen)],
        };
        assert_eq!(problem.into_response("t").headers()[RETRY_AFTER], "2");
    }

    #[test]
    fn every_problem_has_its_section_in_the_documentation() {
        let page = include_str!("problems.md");
        let names = [
            "bad-key",
            "bad-request",
            "not-found",
            "no-such-path",
            "method-not-allowed",
            "misdirected",
            "source-failed",
            "not-mutual",
            "shape-failed",
            "unavailable",
            "contended",
            "overloaded",
            "deadline",
            "not-cached",
            "bus-lost",
        ];
        for name in names {
            assert!(page.contains(&format!("### `urn:bfb:{name}`")), "no section for {name}");
        }
    }
}
