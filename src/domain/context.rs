//! What every step of the checker carries: the text, the world, and the problems found so far.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::tree::{Scalar, TreeNode, TreeValue};
use super::world::World;
use crate::diagnostics::{Problem, ProblemList, line_number, nearest};

/// Places inside longer scalars are not sought, in bytes.
const MAX_ALIGNED: usize = 64 << 10;

/// How many pairs of names are compared for a likeness in one file: each comparison takes some
/// microseconds.
const MAX_COMPARED: usize = 4096;

/// One file being checked.
pub(super) struct Context<'a> {
    /// The file.
    pub(super) file: &'a Path,
    /// Its text.
    pub(super) text: &'a str,
    /// What may be asked of the outside.
    pub(super) world: World<'a>,
    problems: ProblemList<'a>,
    /// How many pairs of names may still be compared.
    comparisons_left: Cell<usize>,
    /// What is put in for variables, so far.
    pub(super) substituted: Substituted,
}

/// What is put into one file for its variables.
#[derive(Default)]
pub(super) struct Substituted {
    /// In bytes, all scalars together.
    pub(super) bytes: usize,
    /// Each file that a `NAME_FILE` named, read once: its text, or what is wrong with it and what
    /// to do.
    pub(super) files: BTreeMap<String, Result<String, (String, &'static str)>>,
}

impl<'a> Context<'a> {
    /// Nothing found yet.
    pub(super) fn new(file: &'a Path, text: &'a str, world: World<'a>) -> Self {
        let comparisons_left = Cell::new(MAX_COMPARED);
        Self {
            file,
            text,
            world,
            problems: ProblemList::new(file, text),
            comparisons_left,
            substituted: Substituted::default(),
        }
    }

    /// Reports a problem at a place of the file: what was met, what was expected there, and what to
    /// do.
    pub(super) fn problem(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        expected: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.problems.push_at(span, message, expected, hint);
    }

    /// Reports a problem at a place of a scalar's text.
    pub(super) fn problem_in(
        &mut self,
        at: FieldPlace<'_>,
        range: Range<usize>,
        message: impl Into<String>,
        expected: impl Into<String>,
        hint: impl Into<String>,
    ) {
        // Places are dear: none is sought for a problem that is not kept.
        let span = if self.is_full() { at.span.clone() } else { self.place(at, range) };
        self.problem(span, message, expected, hint);
    }

    /// Where in the file a place of a scalar's text stands.
    pub(super) fn place(&self, at: FieldPlace<'_>, range: Range<usize>) -> Range<usize> {
        locate(self.text, at, range)
    }

    /// Whether further problems are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.problems.is_full()
    }

    /// Whether a further problem is only counted; it is, then. For those whose words would take
    /// time, and of which there may be as many as a file has lines.
    pub(super) fn count_if_full(&mut self) -> bool {
        self.problems.omit_if_full()
    }

    /// How many problems there are.
    pub(super) fn count(&self) -> usize {
        self.problems.len()
    }

    /// The name that `word` was probably meant to be, while comparing names is still worth its
    /// time: a file may hold a hundred thousand words that resemble nothing.
    pub(super) fn nearest<'n>(
        &self,
        word: &str,
        names: impl Iterator<Item = &'n str>,
    ) -> Option<&'n str> {
        let left = &self.comparisons_left;
        nearest(word, names.take_while(|_| left.replace(left.get().saturating_sub(1)) > 0))
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        line_number(&self.text[..self.text.floor_char_boundary(at)])
    }

    /// All problems in the order of the file.
    pub(super) fn finish(self) -> Vec<Problem> {
        self.problems.into_problems("check again")
    }
}

/// A scalar and where it stands.
#[derive(Clone, Copy)]
pub(super) struct FieldPlace<'n> {
    /// The node's place.
    pub(super) span: &'n Range<usize>,
    /// What stands there.
    pub(super) scalar: &'n Scalar,
}

impl<'n> FieldPlace<'n> {
    /// The scalar in `node`, if it is one.
    pub(super) fn of(node: &'n TreeNode) -> Option<Self> {
        match &node.value {
            TreeValue::Scalar(scalar) => Some(Self { span: &node.span, scalar }),
            TreeValue::List(_) | TreeValue::Map(_) => None,
        }
    }
}

/// Where in the file a range of a scalar's (substituted) text was written; the whole scalar where
/// that cannot be told.
fn locate(file: &str, at: FieldPlace<'_>, range: Range<usize>) -> Range<usize> {
    if at.scalar.raw.len() > MAX_ALIGNED {
        return at.span.clone();
    }
    let raw = raw_range(at.scalar, range);
    let map = align(file, at);
    let last = map.last().copied();
    let start = map.get(raw.start).or(last.as_ref()).copied();
    let end = if raw.end > raw.start { map.get(raw.end - 1).map(|at| at + 1) } else { start };
    match (start, end) {
        (Some(start), Some(end)) if start <= end => start..file.ceil_char_boundary(end),
        (Some(start), None) => start..at.span.end.max(start),
        _ => at.span.clone(),
    }
}

/// From the substituted text back to what the file says; a substituted piece stands for all of its
/// `${…}`.
fn raw_range(scalar: &Scalar, range: Range<usize>) -> Range<usize> {
    if scalar.pieces.is_empty() {
        return range;
    }
    let back = |at: usize, end: bool| {
        let holds = |text: &Range<usize>| {
            if end { text.start < at && at <= text.end } else { text.contains(&at) }
        };
        let piece = scalar.pieces.iter().find(|piece| holds(&piece.text)).or(scalar.pieces.last());
        piece.map_or(at, |piece| match (piece.same, end) {
            (true, _) => (piece.raw.start + at.saturating_sub(piece.text.start)).min(piece.raw.end),
            (false, false) => piece.raw.start,
            (false, true) => piece.raw.end,
        })
    };
    let start = back(range.start, false);
    start..if range.is_empty() { start } else { back(range.end, true).max(start) }
}

/// For each byte of a scalar's raw text, and for its end, the byte of the file that it was read
/// from; empty if they diverge.
///
/// Walks both side by side: indentation and folded line breaks of the file are skipped, escapes are
/// taken as one.
fn align(file: &str, FieldPlace { span, scalar }: FieldPlace<'_>) -> Vec<usize> {
    let mut at = span.start.min(file.len());
    let end = if scalar.block { file.len() } else { span.end.min(file.len()) };
    let quoted = !scalar.plain && !scalar.block;
    if quoted {
        at += 1;
    }
    let mut map = Vec::with_capacity(scalar.raw.len() + 1);
    // A block's place begins at its first line that is not empty.
    let empty =
        if scalar.block { scalar.raw.len() - scalar.raw.trim_start_matches('\n').len() } else { 0 };
    map.extend(std::iter::repeat_n(at, empty));
    for wanted in scalar.raw[empty..].chars() {
        let Some((found, next)) = step(file, at, end, wanted, quoted) else {
            return at_end_of_block(map, scalar, at);
        };
        map.extend(std::iter::repeat_n(found, wanted.len_utf8()));
        at = next;
    }
    map.push(at);
    map
}

/// A block's last line break may have been added by the parser.
fn at_end_of_block(mut map: Vec<usize>, scalar: &Scalar, at: usize) -> Vec<usize> {
    if scalar.block && map.len() + 1 == scalar.raw.len() {
        map.push(at);
        return map;
    }
    Vec::new()
}

/// Finds `wanted` at or after `at`, skipping what the parser skips: where it was found, and where
/// to go on.
fn step(
    file: &str,
    mut at: usize,
    end: usize,
    wanted: char,
    quoted: bool,
) -> Option<(usize, usize)> {
    while at < end {
        let found = file[at..].chars().next()?;
        let next = at + found.len_utf8();
        if found == wanted && !(quoted && found == '\\') {
            return Some((at, next));
        }
        match found {
            '\\' if quoted => return Some((at, after_escape(file, next))),
            '\'' if quoted => at = next,
            ' ' | '\t' | '\n' | '\r' if wanted == ' ' || wanted == '\n' => {
                // A folded line break: one white space stands for the break and the indentation
                // after it.
                let rest = file[at..end].trim_start_matches([' ', '\t', '\n', '\r']);
                return Some((at, end - rest.len()));
            }
            ' ' | '\t' | '\n' | '\r' => at = next,
            _ => return None,
        }
    }
    None
}

/// Where an escape ends whose letter stands at `at`.
fn after_escape(file: &str, at: usize) -> usize {
    let letter = file[at..].chars().next();
    let digits = match letter {
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        _ => 0,
    };
    file.ceil_char_boundary((at + letter.map_or(0, char::len_utf8) + digits).min(file.len()))
}
