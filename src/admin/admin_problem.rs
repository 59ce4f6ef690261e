//! The problems of the admin port (RFC 9457): each kind of error has a fixed status and title.
//! `serve/problems.md` explains them to callers; [`ProblemDetails`] writes them.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;

use crate::http::{MISDIRECTED_DETAIL, ProblemDetails, ProblemType};

/// An error that the admin port answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AdminProblem {
    /// The key does not match the domain's pattern, or is no text at all.
    BadKey {
        /// The value that was found, and the one that was expected.
        detail: String,
    },
    /// The query or the body of the request is wrong.
    BadRequest {
        /// The value that was found, and the one that was expected.
        detail: String,
    },
    /// The admin port has no such path.
    NoSuchRoute {
        /// The paths that exist.
        detail: String,
    },
    /// The path does not take this method.
    MethodNotAllowed {
        /// The value of `Allow`.
        allow: &'static str,
    },
    /// `Host` is neither loopback nor allowed.
    Misdirected,
    /// A bound on concurrent work is reached.
    Overloaded {
        /// The bound.
        detail: String,
    },
    /// An invalidation could not be written: the fleet's log is not reachable.
    BusLost,
    /// The fleet did not acknowledge an invalidation in time. The invalidation is in the log
    /// and stays in force.
    NotAcknowledged {
        /// How many sidecars have not reported that they applied it.
        detail: String,
        /// The invalidation's token.
        token: String,
        /// The names of the sidecars that have not reported.
        behind: Vec<String>,
    },
    /// The request has an `Origin`: it comes from a web page.
    Forbidden {
        /// The value that was found, and the one that was expected.
        detail: String,
    },
    /// The body is not declared as JSON.
    UnsupportedMediaType,
    /// The body did not arrive in time.
    RequestTimeout {
        /// The time limit.
        detail: String,
    },
}

impl AdminProblem {
    fn problem_type(&self) -> ProblemType {
        let problem_type = ProblemType::new;
        match self {
            Self::BadKey { .. } => problem_type(
                "bad-key",
                StatusCode::BAD_REQUEST,
                "the key is not one of this domain",
            ),
            Self::BadRequest { .. } => ProblemType::BAD_REQUEST,
            Self::NoSuchRoute { .. } => problem_type(
                "no-such-path",
                StatusCode::NOT_FOUND,
                "there is nothing under this path",
            ),
            Self::MethodNotAllowed { .. } => ProblemType::METHOD_NOT_ALLOWED,
            Self::Misdirected => ProblemType::MISDIRECTED,
            Self::Overloaded { .. } => ProblemType::OVERLOADED,
            Self::BusLost => problem_type(
                "bus-lost",
                StatusCode::SERVICE_UNAVAILABLE,
                "the fleet's invalidations are out of reach",
            ),
            Self::NotAcknowledged { .. } => problem_type(
                "not-acknowledged",
                StatusCode::GATEWAY_TIMEOUT,
                "the fleet did not acknowledge in time",
            ),
            Self::Forbidden { .. } => {
                problem_type("forbidden", StatusCode::FORBIDDEN, "a browser can do nothing here")
            }
            Self::UnsupportedMediaType => problem_type(
                "unsupported-media-type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body must be JSON",
            ),
            Self::RequestTimeout { .. } => problem_type(
                "request-timeout",
                StatusCode::REQUEST_TIMEOUT,
                "the request did not arrive in time",
            ),
        }
    }

    /// Turns the problem into a response. `trace_id` is the trace of the request.
    pub(super) fn into_response(self, trace_id: &str) -> Response<Bytes> {
        let details = ProblemDetails {
            problem_type: self.problem_type(),
            detail: self.detail(),
            extensions: self.extensions(),
            retry_after: None,
            allow: if let Self::MethodNotAllowed { allow } = &self { Some(*allow) } else { None },
        };
        details.into_response(trace_id)
    }

    fn detail(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::BadKey { detail }
            | Self::BadRequest { detail }
            | Self::NoSuchRoute { detail }
            | Self::Overloaded { detail }
            | Self::NotAcknowledged { detail, .. }
            | Self::Forbidden { detail }
            | Self::RequestTimeout { detail } => Some(detail.into()),
            Self::MethodNotAllowed { allow } => Some(format!("allowed are {allow}").into()),
            Self::Misdirected => Some(MISDIRECTED_DETAIL.into()),
            Self::UnsupportedMediaType => Some("expected `Content-Type: application/json`".into()),
            Self::BusLost => None,
        }
    }

    fn extensions(&self) -> AdminExtensions<'_> {
        if let Self::NotAcknowledged { token, behind, .. } = self {
            AdminExtensions { token: Some(token), behind: Some(behind) }
        } else {
            AdminExtensions::default()
        }
    }
}

/// The members that only [`AdminProblem::NotAcknowledged`] has.
#[derive(Default, Serialize)]
struct AdminExtensions<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<&'a [String]>,
}
