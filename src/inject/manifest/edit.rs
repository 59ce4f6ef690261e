//! Edits of a text, made all at once.

use std::ops::Range;

use serde_json::Value;

use crate::inject::change::FieldPath;

/// A stretch of the text, and what stands there instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) at: Range<usize>,
    pub(super) text: String,
}

/// `text` with all of `edits` made.
pub(super) fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.at.start, edit.at.end));
    let mut merged: Vec<Edit> = Vec::with_capacity(edits.len());
    for edit in edits {
        match merged.last_mut() {
            // Only cuts overlap: each is a whole entry, and what separates it from the next one.
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
            // The last line had no break, and so the line before it has none now.
            out.truncate(out.len() - if out.ends_with("\r\n") { 2 } else { 1 });
        }
    }
    out.push_str(&text[at..]);
    out
}

/// What ends the lines of `text`.
pub(super) fn line_ending(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

/// Sets what stands at `path` to `null`, if anything does.
pub(super) fn set_null(value: &mut Value, path: &FieldPath) {
    if let Some(found) = value.pointer_mut(&path.to_string()) {
        *found = Value::Null;
    }
}
