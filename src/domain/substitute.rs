//! `${NAME}` and `${NAME:-default}` inside scalars.
//!
//! It works on parsed scalars, so that no value can add structure to the file. `$${` stands for a
//! literal `${`.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::context::{Context, FieldPlace};
use super::tree::{TextPiece, TreeNode, TreeValue};
use crate::diagnostics::{io_error_hint, io_error_text, quote};

const EXPECTED: &str = "`${NAME}` or `${NAME:-default}`";
const HINT: &str = "write `$${` for a literal `${`";

/// The sidecar's own settings, passwords among them: a domain file could send them to its
/// upstreams.
const OWN_PREFIXES: [&str; 2] = ["BFB_", "OTEL_"];

/// The largest text that a scalar may grow to, in bytes.
const MAX_VALUE: usize = 1 << 20;
/// How much may be put into one file for its variables, in bytes: each may be named a hundred
/// thousand times.
const MAX_SUBSTITUTED: usize = 4 << 20;

/// Replaces every reference to the environment below `node`; one that cannot be replaced is
/// reported at its own place.
pub(super) fn substitute(context: &mut Context<'_>, node: &mut TreeNode) {
    match &mut node.value {
        TreeValue::List(items) => items.iter_mut().for_each(|item| substitute(context, item)),
        TreeValue::Map(entries) => {
            for (_, value) in entries {
                substitute(context, value);
            }
        }
        TreeValue::Scalar(scalar) => {
            let before = context.count();
            if let Some((text, pieces)) =
                substitute_scalar(context, FieldPlace { span: &node.span, scalar })
            {
                scalar.broken = context.count() > before;
                scalar.text = text;
                scalar.pieces = pieces;
            }
        }
    }
}

/// A `${…}` as written.
struct VariableReference<'s> {
    name: &'s str,
    default: Option<&'s str>,
    range: Range<usize>,
}

/// The new text and its pieces; `None` where there is nothing to replace.
fn substitute_scalar(
    context: &mut Context<'_>,
    at: FieldPlace<'_>,
) -> Option<(String, Vec<TextPiece>)> {
    let raw = &at.scalar.raw;
    raw.contains("${").then_some(())?;
    let mut substituted = SubstitutedText { raw, text: String::new(), pieces: Vec::new() };
    let closing = closing_braces(raw);
    let mut from = 0;
    while let Some(dollar) = raw[from..].find("${").map(|found| from + found) {
        if raw[from..dollar].ends_with('$') {
            substituted.push_unchanged(from..dollar - 1);
            substituted.push_substituted("${", dollar - 1..dollar + 2, true);
            from = dollar + 2;
            continue;
        }
        substituted.push_unchanged(from..dollar);
        let Some(reference) = read_reference(context, at, dollar, &closing) else {
            substituted.push_unchanged(dollar..raw.len());
            return Some((substituted.text, substituted.pieces));
        };
        from = reference.range.end;
        // Past the bound nothing is looked up any more, however often it is named.
        let is_full = context.substituted.bytes > MAX_SUBSTITUTED;
        let value = if is_full { None } else { resolve_value(context, at, &reference) };
        let length = value.as_ref().map_or(0, String::len);
        context.substituted.bytes += length;
        match value {
            Some(value) if substituted.text.len() + length <= MAX_VALUE => {
                substituted.push_substituted(&value, reference.range, false);
            }
            None if !is_full => substituted.push_substituted("", reference.range, false),
            _ => {
                let expected = format!(
                    "at most {} MiB with all that is put in, and {} MiB in a file",
                    MAX_VALUE >> 20,
                    MAX_SUBSTITUTED >> 20
                );
                let hint = "check that the variable, or its file, is the right one";
                context.problem_in(
                    at,
                    reference.range,
                    "the substituted text is too large",
                    expected,
                    hint,
                );
            }
        }
    }
    substituted.push_unchanged(from..raw.len());
    Some((substituted.text, substituted.pieces))
}

/// A text under substitution.
struct SubstitutedText<'s> {
    raw: &'s str,
    text: String,
    pieces: Vec<TextPiece>,
}

impl SubstitutedText<'_> {
    fn push_unchanged(&mut self, raw: Range<usize>) {
        let start = self.text.len();
        self.text.push_str(&self.raw[raw.clone()]);
        self.pieces.push(TextPiece { text: start..self.text.len(), raw, same: true });
    }

    /// `written`: the text stands in the file (an escape), and is no secret.
    fn push_substituted(&mut self, value: &str, raw: Range<usize>, written: bool) {
        let start = self.text.len();
        self.text.push_str(value);
        let raw = if written { raw.start + 1..raw.end } else { raw };
        self.pieces.push(TextPiece { text: start..self.text.len(), raw, same: written });
    }
}

/// Reads the `${…}` that begins at `dollar`.
fn read_reference<'s>(
    context: &mut Context<'_>,
    at: FieldPlace<'s>,
    dollar: usize,
    closing: &HashMap<usize, usize>,
) -> Option<VariableReference<'s>> {
    let raw = &at.scalar.raw;
    let end = closing
        .get(&(dollar + 1))
        .copied()
        .or_else(|| raw[dollar..].find('}').map(|found| dollar + found));
    let Some(length) = end.map(|end| end - dollar) else {
        context.problem_in(at, dollar..raw.len(), "`${` is not closed", EXPECTED, HINT);
        return None;
    };
    let range = dollar..dollar + length + 1;
    let inner = &raw[dollar + 2..dollar + length];
    let (name, default) =
        inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !good {
        let message = format!("{} is not the name of an environment variable", quote(name));
        context.problem_in(at, range.clone(), message, EXPECTED, HINT);
        return Some(VariableReference { name: "", default: Some(""), range });
    }
    Some(VariableReference { name, default, range })
}

/// The end of each `${…}` whose braces come in pairs on one line: a default may hold pairs
/// (`${BASE:-https://host/{key}}`). From the place of its `{` to that of its `}`. One walk finds
/// all: there may be as many as the text is long.
fn closing_braces(text: &str) -> HashMap<usize, usize> {
    let mut open = Vec::new();
    let mut closing = HashMap::new();
    let mut before = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open.push((at, before == b'$')),
            b'}' => {
                if let Some((start, true)) = open.pop() {
                    closing.insert(start, at);
                }
            }
            b'\n' => open.clear(),
            _ => {}
        }
        before = byte;
    }
    closing
}

/// The variable's value, its file's content, or its default.
fn resolve_value(
    context: &mut Context<'_>,
    at: FieldPlace<'_>,
    reference: &VariableReference<'_>,
) -> Option<String> {
    let VariableReference { name, default, range } = reference;
    if name.is_empty() {
        return None;
    }
    if let Some(prefix) = OWN_PREFIXES.iter().find(|prefix| name.starts_with(**prefix)) {
        let message =
            format!("`{name}` cannot be named: what begins with `{prefix}` is the sidecar's own");
        let expected = "a variable of the file's own";
        let hint = "put the value into a variable of another name";
        context.problem_in(at, range.clone(), message, expected, hint);
        return None;
    }
    if let Some(value) = (context.world.variable)(name) {
        // As in a shell, `:-` also stands in for an empty value.
        return Some(default.filter(|_| value.is_empty()).map_or(value, str::to_owned));
    }
    if let Some(path) = (context.world.variable)(&format!("{name}_FILE")) {
        let read = || {
            let text = (context.world.read)(Path::new(&path));
            let text = text
                .map(|text| strip_byte_order_mark(&text).trim_end_matches(['\n', '\r']).to_owned());
            text.map_err(|error| (io_error_text(&error), io_error_hint(&error)))
        };
        match context.substituted.files.entry(path.clone()).or_insert_with(read).clone() {
            Ok(text) => return Some(text),
            Err((why, hint)) => {
                let message = format!("the file that `{name}_FILE` names cannot be read: {why}");
                context.problem_in(
                    at,
                    range.clone(),
                    message,
                    "a readable file of at most 1 MiB",
                    hint,
                );
                return None;
            }
        }
    }
    if let Some(default) = default {
        return Some((*default).to_owned());
    }
    let message = format!("the environment variable `{name}` is not set");
    let hint = format!("set `{name}` or `{name}_FILE`, or write `${{{name}:-default}}`");
    context.problem_in(at, range.clone(), message, "a value", hint);
    None
}

/// A file's text without the byte order mark that an editor may have put before it.
pub(super) fn strip_byte_order_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}
