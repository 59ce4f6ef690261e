//! One finding (wrong, wrong soon, or worth knowing): what was met, what was expected, what to
//! do.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum FindingLevel {
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
pub(in super::super) struct Finding {
    pub(in super::super) level: FindingLevel,
    pub(in super::super) name: &'static str,
    pub(in super::super) met: String,
    pub(in super::super) expected: Option<String>,
    pub(in super::super) hint: Option<String>,
}

impl Finding {
    pub(in super::super) fn error(name: &'static str, met: impl Into<String>) -> Self {
        Self { level: FindingLevel::Error, name, met: met.into(), expected: None, hint: None }
    }

    pub(in super::super) fn warning(name: &'static str, met: impl Into<String>) -> Self {
        Self { level: FindingLevel::Warning, ..Self::error(name, met) }
    }

    pub(in super::super) fn note(name: &'static str, met: impl Into<String>) -> Self {
        Self { level: FindingLevel::Note, ..Self::error(name, met) }
    }

    pub(in super::super) fn expected(self, expected: impl Into<String>) -> Self {
        Self { expected: Some(expected.into()), ..self }
    }

    pub(in super::super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}
