//! What is wrong with a domain file, where, and how it is shown.
//!
//! A [`Problem`] carries the line that it is about, so that it can be rendered long after the file
//! has changed. Its texts are lower case without a full stop, with literals in backticks; they
//! never hold a value that came from the environment. None can be made without saying what was
//! expected and what to do.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::Serialize;

/// Longer lines are not drawn, in bytes.
const MAX_LINE: usize = 2000;

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
    /// What is wrong.
    pub message: String,
    /// What was expected there.
    pub expected: String,
    /// What to do about it.
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
        let (message, expected, hint) = (message.into(), expected.into(), hint.into());
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
        let line_start = text[..start].rfind(['\n', '\r']).map_or(0, |at| at + 1);
        let line_end = text[start..].find(['\n', '\r']).map_or(text.len(), |at| start + at);
        let end = floor(text, span.end).clamp(start, line_end);
        Self {
            source: (line_end - line_start <= MAX_LINE)
                .then(|| text[line_start..line_end].to_owned()),
            span: start..end,
            line: count_lines(&text[..start]),
            column: text[line_start..start].chars().count() + 1,
            ..self
        }
    }
}

/// The largest character boundary of `text` not above `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

/// The number of the line that `before` ends on, from 1; `\r\n` is one line break.
pub(super) fn count_lines(before: &str) -> usize {
    let breaks = before.bytes().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    1 + breaks - before.matches("\r\n").count()
}

/// Draws the problems as rustc draws its errors, one after the other with an empty line between.
pub fn render(problems: &[Problem], color: bool) -> String {
    render_as(&Level::ERROR, problems, color)
}

/// The same for what stops nothing.
pub(crate) fn render_warnings(problems: &[Problem], color: bool) -> String {
    render_as(&Level::WARNING, problems, color)
}

fn render_as(level: &Level<'_>, problems: &[Problem], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(120);
    let mut out = String::new();
    for (nth, problem) in problems.iter().enumerate() {
        if nth > 0 {
            out.push('\n');
        }
        let _ = writeln!(out, "{}", render_one(level, problem, &renderer));
    }
    out
}

fn render_one(level: &Level<'_>, problem: &Problem, renderer: &Renderer) -> String {
    let path = problem.file.display().to_string();
    let title = level.clone().primary_title(&problem.message);
    let label = format!("expected {}", problem.expected);
    let mut group = match &problem.source {
        Some(line) => {
            let start = problem.span.start.saturating_sub(line_start(problem, line));
            let span = start..(start + problem.span.len()).min(line.len());
            let annotation = AnnotationKind::Primary.span(span).label(label.as_str());
            title.element(
                Snippet::source(line.as_str())
                    .line_start(problem.line)
                    .path(path)
                    .annotation(annotation),
            )
        }
        None => title.element(Origin::path(path).line(problem.line).char_column(problem.column)),
    };
    if problem.source.is_none() {
        group = group.element(Level::NOTE.message(label.as_str()));
    }
    group = group.element(Level::HELP.with_name("hint").message(&problem.hint));
    renderer.render(&[group])
}

/// Where the problem's line begins in its file, in bytes.
fn line_start(problem: &Problem, line: &str) -> usize {
    let before: usize = line.chars().take(problem.column - 1).map(char::len_utf8).sum();
    problem.span.start.saturating_sub(before)
}

/// `text` in backticks: control characters escaped, cut where it is long.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut out = String::from("`");
    for (nth, c) in text.chars().enumerate() {
        if nth == LONGEST {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.push('`');
    out
}

/// Names in backticks with commas between; not all where they are many.
pub(super) fn list_of_few<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 8;
    let mut names = names.into_iter();
    let mut shown: Vec<_> = names.by_ref().take(MOST).map(quote).collect();
    if names.next().is_some() {
        shown.push("…".into());
    }
    shown.join(", ")
}

/// The longest word that is compared with others, in characters: no name is longer.
const LONGEST_WORD: usize = 64;

/// The candidate that `word` was probably meant to be, if one is near.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let length = word.chars().take(LONGEST_WORD + 1).count();
    if length > LONGEST_WORD {
        return None;
    }
    let allowed = (length / 3).max(1);
    let alike = candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= allowed);
    let by_distance = alike.map(|candidate| (distance(word, candidate), candidate));
    by_distance
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, it)| it)
}

/// Edits between two words: insertions, deletions, replacements and swaps of neighbours; `-` and
/// `_` are the same.
pub(super) fn distance(left: &str, right: &str) -> usize {
    let fold = |text: &str| -> Vec<char> {
        text.chars()
            .take(LONGEST_WORD)
            .map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() })
            .collect()
    };
    let (left, right) = (fold(left), fold(right));
    let mut before = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[right.len()]
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

    #[test]
    fn a_near_word_is_found_and_a_far_one_is_not() {
        let keys = ["timeout", "retries", "max_body"];
        assert_eq!(nearest("tiemout", keys), Some("timeout"));
        assert_eq!(nearest("max-body", keys), Some("max_body"));
        assert_eq!(nearest("colour", keys), None);
    }
}
