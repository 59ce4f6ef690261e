//! The error of parsing or rewriting a manifest: a span of its text, and the problem there.

use std::ops::Range;
use std::path::Path;

use crate::diagnostics::Problem;

/// One error, in the manifest's text.
#[derive(Debug)]
pub(super) struct ManifestError {
    at: Range<usize>,
    message: String,
    expected: String,
    hint: String,
}

impl ManifestError {
    pub(super) fn at(
        at: Range<usize>,
        message: impl Into<String>,
        expected: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { at, message: message.into(), expected: expected.into(), hint: hint.into() }
    }

    /// The error as a problem of `file`, with its line and column.
    pub(super) fn into_problem(self, file: &Path, text: &str) -> Problem {
        Problem::of_file(file, self.message, self.expected, self.hint).place(text, self.at)
    }
}
