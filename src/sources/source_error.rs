//! The error of a source that gave no part: the source, the reason, whether to try again.

use std::sync::Arc;
use std::time::Duration;

/// A source's failure. `detail` names the value found and the value expected; never data, never a
/// key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}: {reason}: {detail}")]
pub struct SourceError {
    /// The source.
    pub source_name: Arc<str>,
    /// The kind, as the consumer reads it.
    pub reason: Reason,
    /// The value found and the value expected.
    pub detail: String,
    /// Whether the same request may succeed when tried again.
    pub retry: bool,
    /// How long the source (or our breaker) asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// The reasons that a problem names (`src/serve/problems.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No TCP connection, or the database took none.
    Connect,
    /// TLS failed, or the wrong identity.
    Tls,
    /// The server did not ask for our certificate.
    NotMutual,
    /// The source's timeout or the deadline passed.
    Timeout,
    /// A status that is not a 200, no valid HTTP answer, or a database's error.
    Status,
    /// The body or the headers passed their bound.
    TooLarge,
    /// Another number of rows than `rows: one` allows.
    Rows,
    /// Not JSON: content type, encoding, syntax, depth.
    NotJson,
    /// 204, 206, a redirect, a next page, or a body that ended early.
    Incomplete,
    /// A value that the URL or the statement needs is missing, no scalar, or of another type than
    /// the database compares it with.
    MissingReference,
    /// The circuit breaker is open.
    BreakerOpen,
    /// The key is of another type than the database compares it with. No failure of the source's:
    /// the consumer's problem is `bad-key`, and no consumer reads this word as a reason.
    BadKey,
    /// It changed in every round of a snapshot.
    Changed,
    /// There was no memory for its answer. No failure of the source's: the collection is
    /// `overloaded`, and no consumer reads this word.
    NoMemory,
}

impl SourceError {
    /// The error of a source that was not asked because another one failed.
    pub(super) fn unreached(source: &Arc<str>) -> Self {
        Self {
            source_name: Arc::clone(source),
            reason: Reason::Timeout,
            detail: "was not reached".to_owned(),
            retry: false,
            retry_after: None,
        }
    }
}

impl Reason {
    /// Whether it is a failure of the source: not our lack of memory, nor the caller's key.
    pub(super) fn is_of_source(self) -> bool {
        !matches!(self, Self::NoMemory | Self::BadKey)
    }

    /// The word in `failed[].reason` and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::NotMutual => "not-mutual",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Rows => "rows",
            Self::TooLarge => "too-large",
            Self::NotJson => "not-json",
            Self::Incomplete => "incomplete",
            Self::MissingReference => "missing-reference",
            Self::BreakerOpen => "breaker-open",
            Self::BadKey => "bad-key",
            Self::Changed => "changed",
            Self::NoMemory => "no-memory",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
