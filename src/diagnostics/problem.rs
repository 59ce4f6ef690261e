//! One error in a file, with its place.
//!
//! A [`Problem`] carries the line that it is about, so that it can be rendered long after the file
//! has changed. Its texts are lower case without a full stop, with literals in backticks; they
//! never hold a value that came from the environment. None can be made without an expectation and a
//! hint.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::text_lines::{line_number, line_start};

/// Longer lines are not shown, in bytes.
const LINE_MAX_BYTES: usize = 2000;

/// One thing wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The text of the line that `span` begins on; `None` where it is too long to be shown, or the
    /// file itself is the problem (it cannot be read).
    #[serde(skip)]
    pub source: Option<String>,
    /// Where in the file, in bytes; never past the end of its line.
    #[serde(skip)]
    pub span: Range<usize>,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// The error.
    pub message: String,
    /// The expectation.
    pub expected: String,
    /// The next step.
    pub hint: String,
}

impl Problem {
    /// A problem with the file itself, not with a place in it.
    pub(crate) fn of_file(
        file: &Path,
        message: impl Into<String>,
        expected: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let message = message.into();
        let expected = expected.into();
        let hint = hint.into();
        Self {
            file: file.into(),
            source: None,
            span: 0..0,
            line: 1,
            column: 1,
            message,
            expected,
            hint,
        }
    }

    /// The same at `span` of `text`, clipped to the line that it begins on.
    pub(crate) fn place(self, text: &str, span: Range<usize>) -> Self {
        let start = floor(text, span.start);
        let line_start = line_start(text, start);
        let line_end = text[start..].find(['\n', '\r']).map_or(text.len(), |at| start + at);
        let end = floor(text, span.end).clamp(start, line_end);
        Self {
            source: (line_end - line_start <= LINE_MAX_BYTES)
                .then(|| text[line_start..line_end].to_owned()),
            span: start..end,
            line: line_number(&text[..start]),
            column: text[line_start..start].chars().count() + 1,
            ..self
        }
    }
}

/// The largest character boundary of `text` not above `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_in_characters_and_clipped_to_its_line() {
        let problem =
            Problem::of_file(Path::new("f"), "m", "e", "h").place("ä: ü\r\nb: é\nc", 9..99);
        assert_eq!((problem.line, problem.column), (2, 2));
        assert_eq!(problem.span, 9..13);
        assert_eq!(problem.source.as_deref(), Some("b: é"));
    }
}
