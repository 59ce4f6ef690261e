//! What Kubernetes takes and YAML 1.2 does not: its reader (go-yaml, as libyaml before it) does not
//! look at indentation within brackets and quotes, takes a comment that touches what is before it,
//! and a tab behind a colon. Published manifests are written so.
//!
//! The parser stops there and says where. Only then, and only there, blanks are put in that change
//! no value: before a line within brackets, before the further lines of a quoted text (which begin
//! behind their blanks, YAML 1.2 section 7.3), before a `#`, or in the place of a tab. What is read
//! is the text with those blanks; every place in it is one of the text as it was written, of which
//! nothing is changed.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostics::line_start;

/// The most blanks before a line: more than any manifest is indented by.
const PAD_MAX: usize = 512;
/// Bytes that may be read in all, over and over; and the most often that they are.
const READ_MAX_BYTES: usize = 64 << 20;
const REPAIRS_MAX: usize = 10_000;

/// What the parser says of each, in lower case.
const IN_BRACKETS: [&str; 2] = ["invalid indentation", "invalid indentation in flow construct"];
const IN_QUOTES: &str = "invalid indentation in quoted scalar";
const COMMENT: &str = "comments must be separated from other tokens by whitespace";
const TAB: &str = "':' must be followed by a valid yaml whitespace";

/// What YAML 1.2 wants there, and how to write it, where Kubernetes takes it as it is.
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

/// Blanks that were put in.
#[derive(Debug)]
struct InsertedBlanks {
    /// The byte of the text as it was written before which they stand.
    before: usize,
    /// Where they end in the text that is read.
    end: usize,
    /// How many there are up to there.
    total: usize,
}

/// A text, and what is put into it for the parser.
#[derive(Debug)]
pub(super) struct LenientText<'t> {
    text: &'t str,
    /// How many blanks, before which byte.
    blanks: BTreeMap<usize, usize>,
    tabs: BTreeSet<usize>,
    /// How far in a line is that is further in than any block.
    pad: usize,
    repairs_left: usize,
    /// Each of `blanks` in the text that is read, in order.
    inserted: Vec<InsertedBlanks>,
}

impl<'t> LenientText<'t> {
    /// The text as it is.
    pub(super) fn new(text: &'t str) -> Self {
        let indent_of = |line: &str| line.len() - line.trim_start_matches([' ', '-', '?']).len();
        let pad = text.lines().map(indent_of).max().unwrap_or_default() + 1;
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

    /// Makes room for what the parser does not take at `at`, a byte of the text as it was written,
    /// if Kubernetes takes it.
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
        // All blanks together are bounded by the text, but for a few.
        is_repaired
            && self.blanks.len().saturating_mul(self.pad)
                <= self.text.len().saturating_mul(4) + READ_MAX_BYTES
    }

    /// The text to read.
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
            let at = tab + self.total_of(earlier);
            padded.replace_range(at..=at, " ");
        }
        padded
    }

    /// How many blanks the first so many of `put_in` are.
    fn total_of(&self, earlier: usize) -> usize {
        earlier.checked_sub(1).map_or(0, |last| self.inserted[last].total)
    }

    /// The byte of the text as it was written, for one of the text that was read.
    pub(super) fn original_offset(&self, at: usize) -> usize {
        let earlier = self.inserted.partition_point(|blanks| blanks.end <= at);
        // Among blanks themselves: the byte before which they are.
        let next = self.inserted.get(earlier).map_or(self.text.len(), |blanks| blanks.before);
        (at - self.total_of(earlier)).min(next)
    }

    fn pad_line(&mut self, start: usize) -> bool {
        self.blanks.insert(start, self.pad).is_none()
    }

    /// Pads the further lines of the quoted text that begins at `at`.
    fn pad_quoted(&mut self, at: usize) -> bool {
        let Some(length) = quoted_length(&self.text[at..]) else { return false };
        let mut is_padded = false;
        let mut from = at;
        while let Some(end) = self.text[from..at + length].find(['\n', '\r']) {
            from += end + 1;
            let line = &self.text[from..at + length];
            // A document's end, which no quotes hold.
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

/// The bytes of a quoted text, its quotes among them.
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
