//! What is in the way of reading or writing a manifest: a place in its text, and what is wrong
//! there.

use std::ops::Range;
use std::path::Path;

use crate::diagnostics::Problem;

/// One thing in the way.
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

    /// As it is shown.
    pub(super) fn into_problem(self, file: &Path, text: &str) -> Problem {
        Problem::of_file(file, self.message, self.expected, self.hint).place(text, self.at)
    }
}
