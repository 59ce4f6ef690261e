//! Repairs text that Kubernetes takes and YAML 1.2 does not, so that the parser takes it too.
//! Kubernetes' parser (go-yaml, as libyaml before it) ignores indentation within brackets and
//! quotes, and takes a comment without a blank before it and a tab after a colon. Published
//! manifests are written so.
//!
//! The parser reports the offset at which it stops. Only then, and only there, blanks are inserted
//! that change no value: before a line within brackets, before the continuation lines of a quoted
//! text (whose leading blanks are not part of the text, YAML 1.2 section 7.3), before a `#`, or in
//! the place of a tab. The parser gets the text with those blanks; offsets in it are mapped back to
//! the original text, which stays unchanged.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostics::line_start;

/// The most blanks that are inserted before a line: more than the indentation of any manifest.
const PAD_MAX: usize = 512;
/// The most bytes that all parses of one text may read together.
const READ_MAX_BYTES: usize = 64 << 20;
/// The most repairs of one text, each of which is followed by another parse.
const REPAIRS_MAX: usize = 10_000;

/// The parser's messages about such text, in lower case.
const IN_BRACKETS: [&str; 2] = ["invalid indentation", "invalid indentation in flow construct"];
const IN_QUOTES: &str = "invalid indentation in quoted scalar";
const COMMENT: &str = "comments must be separated from other tokens by whitespace";
const TAB: &str = "':' must be followed by a valid yaml whitespace";

/// The expected form and a hint for a message of the parser, if it is about text that Kubernetes
/// takes.
pub(super) fn remedy(info: &str) -> Option<(&'static str, &'static str)> {
    match info {
        _ if IN_BRACKETS.contains(&info) => Some((
            "every line in brackets further in than their key, as YAML 1.2 has it",
            "Kubernetes takes it, we could not: move this line in, the closing bracket too",
        )),
        IN_QUOTES => Some((
            "every line in quotes further in than their key, as YAML 1.2 has it",
            "Kubernetes takes it, we could not: move the further lines of this text in",
        )),
        COMMENT => Some((
            "a blank before `#`, as YAML 1.2 has it",
            "Kubernetes takes it, we could not: put a blank there",
        )),
        TAB => Some((
            "a blank after `:`, as YAML 1.2 has it",
            "Kubernetes takes it, we could not: put a blank there",
        )),
        _ => None,
    }
}

/// Blanks inserted at one offset.
#[derive(Debug)]
struct InsertedBlanks {
    /// The offset in the original text before which they are inserted.
    before: usize,
    /// The offset of their end in the padded text.
    end: usize,
    /// The number of all blanks up to their end.
    total: usize,
}

/// A text, and the blanks that are inserted into it for the parser.
#[derive(Debug)]
pub(super) struct LenientText<'t> {
    text: &'t str,
    /// The number of blanks by the offset before which they are inserted.
    blanks: BTreeMap<usize, usize>,
    /// The offsets of tabs that are replaced by a blank.
    tabs: BTreeSet<usize>,
    /// The number of blanks before a padded line: more than the indentation of any block.
    pad: usize,
    repairs_left: usize,
    /// The blanks of `blanks` in the padded text, in order.
    inserted: Vec<InsertedBlanks>,
}

impl<'t> LenientText<'t> {
    /// A text without repairs.
    pub(super) fn new(text: &'t str) -> Self {
        let indentation = |line: &str| line.len() - line.trim_start_matches([' ', '-', '?']).len();
        let pad = text.lines().map(indentation).max().unwrap_or_default() + 1;
        let repairs_left = (READ_MAX_BYTES / text.len().max(1)).min(REPAIRS_MAX);
        Self {
            text,
            blanks: BTreeMap::new(),
            tabs: BTreeSet::new(),
            pad: pad.min(PAD_MAX),
            repairs_left,
            inserted: Vec::new(),
        }
    }

    /// Repairs the text at `at`, an offset in the original text at which the parser stopped with
    /// the message `info`. Returns `false` for text that Kubernetes does not take either, and once
    /// the limits are reached.
    pub(super) fn repair(&mut self, at: usize, info: &str) -> bool {
        if self.repairs_left == 0 {
            return false;
        }
        self.repairs_left -= 1;
        let is_repaired = match info {
            _ if IN_BRACKETS.contains(&info) => self.pad_line(line_start(self.text, at)),
            IN_QUOTES => self.pad_quoted(at),
            COMMENT => self.text[at..].starts_with('#') && self.blanks.insert(at, 1).is_none(),
            TAB => self.replace_tab_before(at),
            _ => false,
        };
        // The number of all blanks is bounded by a multiple of the text's length.
        is_repaired
            && self.blanks.len().saturating_mul(self.pad)
                <= self.text.len().saturating_mul(4) + READ_MAX_BYTES
    }

    /// The text with the blanks inserted, for the parser.
    pub(super) fn padded(&mut self) -> String {
        let mut padded =
            String::with_capacity(self.text.len() + self.blanks.values().sum::<usize>());
        let mut from = 0;
        let mut total = 0;
        self.inserted.clear();
        for (&before, &count) in &self.blanks {
            padded += &self.text[from..before];
            padded.extend(std::iter::repeat_n(' ', count));
            total += count;
            self.inserted.push(InsertedBlanks { before, end: padded.len(), total });
            from = before;
        }
        padded += &self.text[from..];
        for &tab in &self.tabs {
            let earlier = self.inserted.partition_point(|blanks| blanks.before <= tab);
            let at = tab + self.blanks_of_first(earlier);
            padded.replace_range(at..=at, " ");
        }
        padded
    }

    /// The number of blanks of the first `count` items of `inserted`.
    fn blanks_of_first(&self, count: usize) -> usize {
        count.checked_sub(1).map_or(0, |last| self.inserted[last].total)
    }

    /// Maps an offset in the padded text to the original text.
    pub(super) fn original_offset(&self, at: usize) -> usize {
        let earlier = self.inserted.partition_point(|blanks| blanks.end <= at);
        // An offset within inserted blanks maps to the offset before which they are inserted.
        let next = self.inserted.get(earlier).map_or(self.text.len(), |blanks| blanks.before);
        (at - self.blanks_of_first(earlier)).min(next)
    }

    fn pad_line(&mut self, start: usize) -> bool {
        self.blanks.insert(start, self.pad).is_none()
    }

    /// Pads the continuation lines of the quoted text that begins at `at`.
    fn pad_quoted(&mut self, at: usize) -> bool {
        let Some(length) = quoted_length(&self.text[at..]) else { return false };
        let mut is_padded = false;
        let mut from = at;
        while let Some(end) = self.text[from..at + length].find(['\n', '\r']) {
            from += end + 1;
            let line = &self.text[from..at + length];
            // A document marker cannot stand in a quoted text.
            if ["---", "..."].iter().any(|mark| line.starts_with(mark)) {
                return false;
            }
            let is_blank = line.trim_start_matches([' ', '\t']).starts_with(['\n', '\r']);
            if !is_blank {
                is_padded |= self.pad_line(from);
            }
        }
        is_padded
    }

    fn replace_tab_before(&mut self, at: usize) -> bool {
        let before = self.text[..at].trim_end_matches('\t');
        before.len() < at && before.ends_with(':') && self.tabs.insert(before.len())
    }
}

/// The length in bytes of the quoted text at the beginning of `text`, with its quotes.
fn quoted_length(text: &str) -> Option<usize> {
    let quote = text.bytes().next().filter(|quote| matches!(quote, b'"' | b'\''))?;
    let mut bytes = text.bytes().enumerate().skip(1).peekable();
    while let Some((at, byte)) = bytes.next() {
        if byte == b'\\' && quote == b'"' {
            bytes.next();
        } else if byte == quote {
            if quote == b'"' || bytes.peek().is_none_or(|(_, next)| *next != quote) {
                return Some(at + 1);
            }
            bytes.next();
        }
    }
    None
}

#[cfg(test)]
#[path = "lenient/tests.rs"]
mod tests;
