//! The parser's lines and columns as bytes of the text.

use std::cell::Cell;
use std::ops::Range;

use saphyr_parser::{Marker, Span};

/// Where lines begin, to turn the parser's line and column into bytes.
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
    /// The start of a line, a column of it, and that column's byte: places come nearly in order, so
    /// counting goes on from the last one. Counted from the start of its line, a file on one line
    /// takes time that grows with its square.
    last: Cell<(usize, usize, usize)>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let bytes = text.as_bytes();
        let ends = |at: &usize| {
            bytes[*at] == b'\n' || (bytes[*at] == b'\r' && bytes.get(at + 1) != Some(&b'\n'))
        };
        let starts =
            std::iter::once(0).chain((0..bytes.len()).filter(ends).map(|at| at + 1)).collect();
        Self { text, starts, last: Cell::new((0, 0, 0)) }
    }

    /// Columns are counted in characters from 0, lines from 1.
    pub(super) fn byte(&self, mark: &Marker) -> usize {
        let Some(&start) = self.starts.get(mark.line().saturating_sub(1)) else {
            return self.text.len();
        };
        let line = &self.text[start..];
        let column = mark.col() + usize::from(start == 0 && line.starts_with('\u{feff}'));
        let at = match self.last.get() {
            (last_start, last_column, at) if last_start == start && last_column <= column => {
                self.forward(at, column - last_column)
            }
            // The parser reports some places a little before the one that it reported last.
            (last_start, last_column, at)
                if last_start == start && last_column - column < column =>
            {
                self.back(at, last_column - column)
            }
            _ => self.forward(start, column),
        };
        self.last.set((start, column, at));
        at
    }

    /// The byte that stands `characters` after that at `from`.
    fn forward(&self, from: usize, characters: usize) -> usize {
        self.text[from..]
            .char_indices()
            .nth(characters)
            .map_or(self.text.len(), |(at, _)| from + at)
    }

    /// The byte that stands `characters`, at least one, before that at `from`.
    fn back(&self, from: usize, characters: usize) -> usize {
        self.text[..from].char_indices().rev().nth(characters - 1).map_or(0, |(at, _)| at)
    }

    /// Both ends of a span.
    pub(super) fn bytes(&self, span: Span) -> Range<usize> {
        let start = self.byte(&span.start);
        start..self.byte(&span.end).max(start)
    }
}
