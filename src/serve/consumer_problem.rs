//! The one place where errors become HTTP for a consumer: a problem with a fixed text for each
//! kind.
//!
//! A problem names sources, reasons, and the value found beside the one expected; it never holds a
//! part's data.
#![doc = include_str!("problems.md")]

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;

use crate::collect::CollectError;
use crate::http::{MISDIRECTED_DETAIL, ProblemDetails, ProblemType};
use crate::sources::{Reason, SourceError};

/// An error as a consumer reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerProblem {
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
    /// Only `GET` and `HEAD`.
    MethodNotAllowed,
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
        /// The bound that is full.
        detail: String,
    },
    /// `only-if-cached`, and it is not.
    NotCached,
    /// The fleet's invalidations are out of reach.
    BusLost,
    /// At least one source failed.
    SourcesFailed {
        /// Which of the types it is.
        kind: DatasetFailureKind,
        /// Each failed source.
        failures: Vec<SourceError>,
    },
}

/// The methods with which a dataset is read.
const ALLOWED_METHODS: &str = "GET, HEAD";

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

impl ConsumerProblem {
    /// The problem that a failed collection is.
    pub(super) fn from_collect(error: CollectError, domain: &str) -> Self {
        match error {
            CollectError::NotFound { .. } => Self::NotFound { domain: domain.to_owned() },
            CollectError::BadKey { source_name, detail } => {
                Self::BadKey { detail: format!("`{source_name}`: {detail}") }
            }
            CollectError::Overloaded { detail } => Self::Overloaded { detail },
            CollectError::Failed { failures, deadline_passed } => Self::SourcesFailed {
                kind: DatasetFailureKind::of_failures(&failures, deadline_passed),
                failures,
            },
        }
    }

    /// The type of the problem.
    pub fn problem_type(&self) -> ProblemType {
        let problem_type = ProblemType::new;
        match self {
            Self::BadKey { .. } => problem_type(
                "bad-key",
                StatusCode::BAD_REQUEST,
                "the key is not one of this domain",
            ),
            Self::BadRequest { .. } => ProblemType::BAD_REQUEST,
            Self::NotFound { .. } => {
                problem_type("not-found", StatusCode::NOT_FOUND, "the dataset does not exist")
            }
            Self::NoSuchPath => problem_type(
                "no-such-path",
                StatusCode::NOT_FOUND,
                "no version is published under this path",
            ),
            Self::MethodNotAllowed => ProblemType::METHOD_NOT_ALLOWED,
            Self::Misdirected => ProblemType::MISDIRECTED,
            Self::ShapeFailed { .. } => {
                problem_type("shape-failed", StatusCode::BAD_GATEWAY, "the version's shape failed")
            }
            Self::Overloaded { .. } => ProblemType::OVERLOADED,
            Self::NotCached => {
                problem_type("not-cached", StatusCode::GATEWAY_TIMEOUT, "the dataset is not cached")
            }
            Self::BusLost => problem_type(
                "bus-lost",
                StatusCode::SERVICE_UNAVAILABLE,
                "the fleet's invalidations are out of reach",
            ),
            Self::SourcesFailed { kind, .. } => kind.problem_type(),
        }
    }

    /// The answer. `trace_id` names the trace; the log holds the details under it.
    pub fn into_response(self, trace_id: &str) -> Response<Bytes> {
        let details = ProblemDetails {
            problem_type: self.problem_type(),
            detail: self.detail(),
            extensions: self.extensions(),
            retry_after: self.retry_after(),
            allow: matches!(self, Self::MethodNotAllowed).then_some(ALLOWED_METHODS),
        };
        details.into_response(trace_id)
    }

    fn detail(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::BadKey { detail }
            | Self::BadRequest { detail }
            | Self::ShapeFailed { detail, .. }
            | Self::Overloaded { detail } => Some(detail.into()),
            Self::NoSuchPath => Some("`GET /openapi.json` lists the paths".into()),
            Self::MethodNotAllowed => Some(format!("allowed are {ALLOWED_METHODS}").into()),
            Self::Misdirected => Some(MISDIRECTED_DETAIL.into()),
            Self::NotFound { .. }
            | Self::NotCached
            | Self::BusLost
            | Self::SourcesFailed { .. } => None,
        }
    }

    fn extensions(&self) -> ConsumerExtensions<'_> {
        let none = ConsumerExtensions::default();
        match self {
            Self::NotFound { domain } => ConsumerExtensions { domain: Some(domain), ..none },
            Self::ShapeFailed { version, .. } => {
                ConsumerExtensions { version: Some(version), ..none }
            }
            Self::SourcesFailed { failures, .. } => {
                let failed = failures.iter().map(FailedSource::from).collect();
                ConsumerExtensions { failed: Some(failed), ..none }
            }
            Self::BadKey { .. }
            | Self::BadRequest { .. }
            | Self::NoSuchPath
            | Self::MethodNotAllowed
            | Self::Misdirected
            | Self::Overloaded { .. }
            | Self::NotCached
            | Self::BusLost => none,
        }
    }

    /// The failed sources, where the dataset failed.
    pub fn failures(&self) -> Option<&[SourceError]> {
        if let Self::SourcesFailed { failures, .. } = self { Some(failures) } else { None }
    }

    /// The longest `Retry-After` of the failed sources.
    fn retry_after(&self) -> Option<Duration> {
        self.failures()?.iter().filter_map(|failure| failure.retry_after).max()
    }
}

impl DatasetFailureKind {
    fn problem_type(self) -> ProblemType {
        let problem_type = ProblemType::new;
        match self {
            Self::Deadline => problem_type(
                "deadline",
                StatusCode::GATEWAY_TIMEOUT,
                "the deadline of the dataset passed",
            ),
            Self::SourceFailed => {
                problem_type("source-failed", StatusCode::BAD_GATEWAY, "a source failed")
            }
            Self::NotMutual => problem_type(
                "not-mutual",
                StatusCode::BAD_GATEWAY,
                "an upstream did not ask for our certificate",
            ),
            Self::Unavailable => problem_type(
                "unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "a source is being left alone",
            ),
            Self::Contended => problem_type(
                "contended",
                StatusCode::SERVICE_UNAVAILABLE,
                "the sources changed faster than they could be read",
            ),
        }
    }
}

/// The members that only some problems have.
#[derive(Default, Serialize)]
struct ConsumerExtensions<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
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
    use http::header::RETRY_AFTER;

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
        DatasetFailureKind::of_failures(&failures, deadline_passed).problem_type().name
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
        let problem = ConsumerProblem::SourcesFailed {
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
