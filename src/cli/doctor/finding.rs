//! One thing that is wrong, will be, or is worth knowing: what was met, what was expected, what to
//! do.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FindingLevel {
    /// No answer will come of it.
    Error,
    /// It works now.
    Warning,
    /// Worth knowing.
    Note,
}

/// A finding; `name` is for programs, the rest for people. It holds no data of an answer, and no
/// key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: FindingLevel,
    pub(super) name: &'static str,
    pub(super) met: String,
    pub(super) expected: Option<String>,
    pub(super) hint: Option<String>,
}

impl Finding {
    pub(super) fn error(name: &'static str, met: impl Into<String>) -> Self {
        Self { level: FindingLevel::Error, name, met: met.into(), expected: None, hint: None }
    }

    pub(super) fn warning(name: &'static str, met: impl Into<String>) -> Self {
        Self { level: FindingLevel::Warning, ..Self::error(name, met) }
    }

    pub(super) fn note(name: &'static str, met: impl Into<String>) -> Self {
        Self { level: FindingLevel::Note, ..Self::error(name, met) }
    }

    pub(super) fn expected(self, expected: impl Into<String>) -> Self {
        Self { expected: Some(expected.into()), ..self }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}
