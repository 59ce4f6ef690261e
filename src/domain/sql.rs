//! A statement for PostgreSQL with references: `select … where customer_id = {key}`.
//!
//! A reference is a bound value, never text: each becomes a parameter (`$1`, `$2` …). They are
//! found by a tokenizer that knows what of a statement is no code (PostgreSQL's documentation,
//! "Lexical Structure"): strings, quoted names, dollar quotes and comments, under
//! `standard_conforming_strings`, which the transaction sets. It also holds the statement to one
//! that reads, whose parentheses are closed, so that it can stand in parentheses itself.

use std::fmt::Write as _;
use std::ops::Range;

use super::context::{Context, FieldPlace};
use super::database::PostgresQuery;
use super::reference::{REFERENCE, Reference, ReferenceReader, find_in_text};

/// The longest statement, in bytes.
const QUERY_BYTES_MAX: usize = 64 << 10;
/// The most references of a statement.
const REFERENCES_MAX: usize = 256;
/// The words that a statement that reads begins with.
const READING_WORDS: [&str; 3] = ["select", "with", "values"];
/// The words that a statement that writes begins with, in a common table expression too, and what
/// follows them there; a column may be called `update` as well.
const WRITING_WORDS: [(&str, &[&str]); 3] =
    [("insert", &["into"]), ("delete", &["from"]), ("merge", &["into"])];
/// The words that follow a column called `update`, and no statement's beginning.
const WORDS_AFTER_COLUMN: [&str; 12] = [
    "is", "in", "and", "or", "not", "between", "like", "ilike", "similar", "collate", "as", "from",
];

const EXPECTED: &str = "one `select`, `with` or `values`";

/// The statement if it is right. The sources it names are noted in `references` in any case.
pub(super) fn query(
    context: &mut Context<'_>,
    at: FieldPlace<'_>,
    references: &mut ReferenceReader<'_>,
) -> Option<PostgresQuery> {
    let text = at.scalar.text.as_str();
    if text.len() > QUERY_BYTES_MAX {
        let expected = format!("at most {QUERY_BYTES_MAX} bytes");
        let hint = "put it into a view of the database, and select from that";
        context.problem(at.span.clone(), "the statement is too long", expected, hint);
        return None;
    }
    let is_refused = |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{c}');
    if let Some(at_byte) = text.find(is_refused) {
        let hint = "remove it, or write it as an escape: `E'\\x01'`";
        let message = "the statement holds a control character";
        context.problem_in(at, at_byte..at_byte + 1, message, "text", hint);
        return None;
    }
    let before = context.count();
    let mut reader = StatementReader {
        context,
        at,
        references,
        text,
        position: 0,
        output: String::with_capacity(text.len()),
        parameters: Vec::new(),
        open_parentheses: Vec::new(),
        first_word: None,
        last_token: LastToken::Start,
    };
    reader.read();
    let StatementReader { output, parameters, .. } = reader;
    (context.count() == before)
        .then(|| PostgresQuery { text: output.trim_end().into(), parameters })
}

/// What came before the token that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastToken {
    Start,
    /// An open parenthesis, or at the outermost level a closing one: a statement may begin there.
    StatementStart,
    /// A word there that could begin a statement that writes; where it stands.
    WritingWord {
        start: usize,
        end: usize,
    },
    Semicolon(usize),
    Other,
}

struct StatementReader<'t, 'a, 's> {
    context: &'t mut Context<'a>,
    at: FieldPlace<'t>,
    references: &'t mut ReferenceReader<'s>,
    text: &'t str,
    position: usize,
    /// The statement with parameters.
    output: String,
    parameters: Vec<Reference>,
    /// Where each stands.
    open_parentheses: Vec<usize>,
    first_word: Option<Range<usize>>,
    last_token: LastToken,
}

impl StatementReader<'_, '_, '_> {
    fn read(&mut self) {
        while let Some(c) = self.text[self.position..].chars().next() {
            let start = self.position;
            let rest = &self.text[start..];
            match c {
                c if c.is_ascii_whitespace() => self.copy_to(start + 1),
                '-' if rest.starts_with("--") => self.line_comment(),
                '/' if rest.starts_with("/*") => self.block_comment(),
                _ => self.token(c, rest),
            }
        }
        self.check_end();
    }

    /// Anything but white space and comments.
    fn token(&mut self, c: char, rest: &str) {
        let start = self.position;
        if let LastToken::Semicolon(at) = self.last_token {
            let hint = "a source reads one statement: put the others into sources of their own";
            self.problem(at..at + 1, "the statement ends before its text does", EXPECTED, hint);
            self.position = self.text.len();
            return;
        }
        let before = std::mem::replace(&mut self.last_token, LastToken::Other);
        match c {
            '\'' => self.quoted('\'', false),
            '"' => self.quoted('"', false),
            '$' => self.dollar(),
            '{' => self.reference(),
            '(' => {
                self.open_parentheses.push(start);
                self.copy_to(start + 1);
                self.last_token = LastToken::StatementStart;
            }
            ')' => {
                if self.open_parentheses.pop().is_none() {
                    let hint = "remove it, or open it before";
                    let message = "this parenthesis closes none";
                    self.problem(start..start + 1, message, "a `(` before it", hint);
                }
                self.copy_to(start + 1);
                if self.open_parentheses.is_empty() {
                    self.last_token = LastToken::StatementStart;
                }
            }
            ';' => {
                self.position = start + 1;
                self.last_token = LastToken::Semicolon(start);
            }
            '}' | '\\' => {
                let hint = "a reference begins with `{`, and a text stands in quotes";
                self.problem(start..start + 1, "this sign means nothing here", "SQL", hint);
                self.position = start + 1;
            }
            c if is_word_start(c) => self.word(before),
            // A number may have letters (`1e5`, `0xff`): they begin no word.
            c if c.is_ascii_digit() => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
                let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                self.copy_to(start + end);
            }
            c => self.copy_to(start + c.len_utf8()),
        }
        if let (LastToken::WritingWord { start, end }, true) = (before, is_word_start(c)) {
            self.check_writing_word(start..end, rest);
        }
    }

    /// A word behind which another one stands: whether they begin a statement that writes.
    fn check_writing_word(&mut self, word: Range<usize>, rest: &str) {
        let next = &rest[..rest.find(|c| !is_word_part(c)).unwrap_or(rest.len())];
        let is_next = |other: &&'static str| next.eq_ignore_ascii_case(other);
        let text = &self.text[word.clone()];
        let writes = match WRITING_WORDS.iter().find(|(it, _)| text.eq_ignore_ascii_case(it)) {
            Some((_, followers)) => followers.iter().any(is_next),
            None => !WORDS_AFTER_COLUMN.iter().any(is_next),
        };
        if writes {
            let hint = "a source only reads: its statements run in a read-only transaction";
            self.problem(word, "this statement writes", EXPECTED, hint);
        }
    }

    /// A word: a key word or a name; or the prefix of a string (`E'…'`).
    fn word(&mut self, before: LastToken) {
        let start = self.position;
        let length = self.text[start..].find(|c| !is_word_part(c));
        let end = length.map_or(self.text.len(), |length| start + length);
        let word = &self.text[start..end];
        if self.text[end..].starts_with('\'') && word.eq_ignore_ascii_case("e") {
            self.copy_to(end);
            return self.quoted('\'', true);
        }
        let is_in = |words: &[&str]| words.iter().any(|it| word.eq_ignore_ascii_case(it));
        if self.first_word.is_none() {
            self.first_word = Some(start..end);
            if !is_in(&READING_WORDS) {
                let hint = "a source only reads; what else there is to do belongs into a view";
                self.problem(start..end, "the statement is none that reads", EXPECTED, hint);
            }
        } else if self.open_parentheses.is_empty() && is_in(&["into"]) {
            let hint = "a source only reads: remove the table that the rows go into";
            self.problem(start..end, "this statement writes", EXPECTED, hint);
        } else if before == LastToken::StatementStart
            && is_in(&["insert", "update", "delete", "merge"])
        {
            self.last_token = LastToken::WritingWord { start, end };
        }
        self.copy_to(end);
    }

    /// A string or a quoted name. A quote in it is written twice, or in an `E'…'` with `\`.
    fn quoted(&mut self, quote: char, has_escapes: bool) {
        let start = self.position;
        let mut at = start + 1;
        loop {
            let Some(c) = self.text[at..].chars().next() else {
                let hint = format!("close it with `{quote}`; one in the text is written twice");
                let expected = format!("a `{quote}` at its end");
                self.problem(start..start + 1, "this quote is not closed", expected, hint);
                self.position = self.text.len();
                return;
            };
            at += c.len_utf8();
            match c {
                '\\' if has_escapes => {
                    at += self.text[at..].chars().next().map_or(0, char::len_utf8);
                }
                c if c == quote && self.text[at..].starts_with(quote) => at += 1,
                c if c == quote => break,
                _ => {}
            }
        }
        let hint = "write it without quotes: it is a bound value, and quoted where it must be";
        self.opaque(start..at, "in quotes", hint);
        // A string goes on where another one stands behind a line break.
        let rest = &self.text[at..];
        let gap = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']).len();
        let is_continued = rest[..gap].contains(['\n', '\r']) && rest[gap..].starts_with(quote);
        if quote == '\'' && has_escapes && is_continued {
            self.copy_to(at + gap);
            self.quoted(quote, has_escapes);
        }
    }

    /// A dollar quote (`$$…$$`, `$tag$…$tag$`), or a parameter.
    fn dollar(&mut self) {
        let start = self.position;
        let after = &self.text[start + 1..];
        let tag_end = after.find(|c| !is_word_part(c) || c == '$').unwrap_or(after.len());
        let tag = &after[..tag_end];
        if tag.starts_with(|c: char| c.is_ascii_digit()) {
            let hint = "write `{key}` or `{source.member}` where the value is to stand";
            let end = start + 1 + tag_end;
            self.problem(start..end, "a parameter has no value", REFERENCE, hint);
            self.position = end;
            return;
        }
        if !after[tag_end..].starts_with('$') {
            let hint = "a dollar quote begins with `$$` or `$tag$`";
            self.problem(start..start + 1, "this sign means nothing here", "SQL", hint);
            self.position = start + 1;
            return;
        }
        let delimiter = &self.text[start..start + tag_end + 2];
        let body = start + delimiter.len();
        let Some(length) = self.text[body..].find(delimiter) else {
            let hint = format!("close it with `{delimiter}`");
            self.problem(start..body, "this dollar quote is not closed", "its end", hint);
            self.position = self.text.len();
            return;
        };
        let end = body + length + delimiter.len();
        let hint = "a bound value cannot stand in a text: put it together with `||` or `format()`";
        self.opaque(start..end, "in a dollar quote", hint);
    }

    fn line_comment(&mut self) {
        let start = self.position;
        let length = self.text[start..].find(['\n', '\r']);
        let end = length.map_or(self.text.len(), |length| start + length);
        self.opaque(start..end, "in a comment", "remove it");
    }

    /// Comments can stand in comments.
    fn block_comment(&mut self) {
        let start = self.position;
        let mut depth = 0_usize;
        let mut at = start;
        loop {
            let rest = &self.text[at..];
            if rest.starts_with("/*") {
                depth += 1;
                at += 2;
            } else if rest.starts_with("*/") {
                depth -= 1;
                at += 2;
            } else if let Some(c) = rest.chars().next() {
                at += c.len_utf8();
            } else {
                let hint = "close it with `*/`; comments in comments are closed too";
                self.problem(start..start + 2, "this comment is not closed", "a `*/`", hint);
                self.position = self.text.len();
                return;
            }
            if depth == 0 {
                break;
            }
        }
        self.opaque(start..at, "in a comment", "remove it");
    }

    /// Copies what is no code; a reference in it is a problem.
    fn opaque(&mut self, range: Range<usize>, place: &str, hint: &str) {
        let names = self.references.names();
        let text = &self.text[range.clone()];
        if let Some(found) = find_in_text(self.context, text, names) {
            let found = range.start + found.start..range.start + found.end;
            let message = format!("a reference cannot stand {place}");
            self.problem(found, message, "a reference outside of it", hint);
        }
        self.copy_to(range.end);
    }

    fn reference(&mut self) {
        let start = self.position;
        let Some(length) = self.text[start..].find('}') else {
            let hint = "a reference is `{key}` or `{source.member}`; an array is `array[…]`";
            self.problem(start..start + 1, "`{` is not closed", REFERENCE, hint);
            self.position = self.text.len();
            return;
        };
        let range = start..start + length + 1;
        self.position = range.end;
        if self.parameters.len() == REFERENCES_MAX {
            let expected = format!("at most {REFERENCES_MAX}");
            let hint = "put the statement into a view of the database";
            self.problem(range, "the statement has too many references", expected, hint);
            self.position = self.text.len();
            return;
        }
        if let Some(reference) = self.references.resolve(self.context, self.at, range) {
            self.parameters.push(reference);
            // The spaces keep the number from growing together with what stands beside it.
            let _ = write!(self.output, " ${} ", self.parameters.len());
        }
    }

    fn check_end(&mut self) {
        for open in std::mem::take(&mut self.open_parentheses).into_iter().take(1) {
            let hint = "close it with `)`";
            self.problem(open..open + 1, "this parenthesis is not closed", "a `)`", hint);
        }
        if self.first_word.is_none() {
            let hint = "write it like `select … where customer_id = {key}`";
            self.problem(0..self.text.len(), "there is no statement", EXPECTED, hint);
        }
    }

    fn copy_to(&mut self, end: usize) {
        self.output.push_str(&self.text[self.position..end]);
        self.position = end;
    }

    fn problem(
        &mut self,
        range: Range<usize>,
        message: impl Into<String>,
        expected: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.context.problem_in(self.at, range, message, expected, hint);
    }
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_word_part(c: char) -> bool {
    is_word_start(c) || c.is_ascii_digit() || c == '$'
}
