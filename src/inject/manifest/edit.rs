//! Edits of a text, which are applied all at once.

use std::ops::Range;

use serde_json::Value;

use crate::inject::change::FieldPath;

/// The replacement of one span of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    /// The span, in bytes; empty for an insertion.
    pub(super) at: Range<usize>,
    /// The replacement; empty for a cut.
    pub(super) text: String,
}

/// Applies all edits to `text`.
pub(super) fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.at.start, edit.at.end));
    let mut merged: Vec<Edit> = Vec::with_capacity(edits.len());
    for edit in edits {
        match merged.last_mut() {
            // Only cuts overlap: each cuts a whole entry and its separator.
            Some(last) if edit.at.start < last.at.end => last.at.end = last.at.end.max(edit.at.end),
            Some(last)
                if edit.at.start == last.at.end && last.text.is_empty() && edit.text.is_empty() =>
            {
                last.at.end = edit.at.end;
            }
            _ => merged.push(edit),
        }
    }
    let mut out = String::with_capacity(
        text.len() + merged.iter().map(|edit| edit.text.len()).sum::<usize>(),
    );
    let mut at = 0;
    for edit in &merged {
        out.push_str(&text[at..edit.at.start]);
        out.push_str(&edit.text);
        at = edit.at.end;
        if at == text.len() && edit.text.is_empty() && !text.ends_with('\n') && out.ends_with('\n')
        {
            // The cut last line had no line break, so the line before it loses its own.
            out.truncate(out.len() - if out.ends_with("\r\n") { 2 } else { 1 });
        }
    }
    out.push_str(&text[at..]);
    out
}

/// The line ending of `text`, by its first line.
pub(super) fn line_ending(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

/// Replaces the value at `path`, if there is one, with `null`.
pub(super) fn set_null(value: &mut Value, path: &FieldPath) {
    if let Some(target) = value.pointer_mut(&path.to_string()) {
        *target = Value::Null;
    }
}
