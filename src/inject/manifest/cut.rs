//! The cuts that make a removal: whole entries with their separators. A cut removes byte for byte
//! what an addition inserted.

use std::ops::Range;

use super::edit::Edit;
use super::error::ManifestError;
use super::splice::{
    DocumentText, EXPECTED_BLOCK, PLAIN_HINT, SpliceTarget, TREE_MISMATCH, unwritable,
};
use crate::diagnostics::yaml::{YamlKind, YamlNode};
use crate::inject::change::{Removal, RemovedEntries};

impl<'t> DocumentText<'t> {
    /// The edits that perform `removal`.
    pub(super) fn removal_edits(&self, removal: &Removal) -> Result<Vec<Edit>, ManifestError> {
        let target = self.find(&removal.from)?;
        let entries = self.entries(&target)?;
        let is_removed = |index: usize| match &removal.entries {
            RemovedEntries::Items(items) => items.binary_search(&index).is_ok(),
            RemovedEntries::Keys(keys) => {
                entries[index].key.is_some_and(|key| keys.iter().any(|name| name == key))
            }
        };
        let is_flow = matches!(
            target.node.kind,
            YamlKind::Map { flow: true, .. } | YamlKind::List { flow: true, .. }
        );
        let last_remaining = (0..entries.len()).rev().find(|index| !is_removed(*index));
        let mut edits = Vec::new();
        for index in (0..entries.len()).filter(|index| is_removed(*index)) {
            let Range { start, end } = entries[index].span.clone();
            let at = match (entries.get(index + 1), last_remaining) {
                (Some(next), Some(last)) if is_flow && index < last => start..next.span.start,
                (_, Some(last)) if is_flow => entries[last].span.end..end,
                (_, None) if is_flow => entries[0].span.start..end,
                (next, _) => self.lines_of(start, end, next.map(|next| next.span.start)),
            };
            edits.push(Edit { at, text: String::new() });
        }
        Ok(edits)
    }

    /// The whole lines of an entry of a block. If the entry does not begin its line (`- name: a`),
    /// the span from the entry to the next one instead.
    fn lines_of(&self, start: usize, end: usize, next: Option<usize>) -> Range<usize> {
        let line = self.line_start(start);
        let begins_line = self.text[line..start].trim_start_matches(['\u{feff}', ' ']).is_empty();
        match next {
            Some(next) if !begins_line => start..next,
            _ => line..self.next_line(end.max(start)),
        }
    }

    fn entries(&self, target: &SpliceTarget<'t>) -> Result<Vec<WrittenEntry<'t>>, ManifestError> {
        match &target.node.kind {
            YamlKind::Map { entries, .. } => {
                Ok(entries.iter().map(|(key, value)| WrittenEntry::member(key, value)).collect())
            }
            YamlKind::List { items, flow: true } => {
                Ok(items.iter().map(|item| WrittenEntry::item(item.span.clone())).collect())
            }
            YamlKind::List { items, .. } => {
                let mut from = self.first_dash(target)?;
                let mut entries = Vec::with_capacity(items.len());
                for item in items {
                    let dash = self.past_blanks_and_comments(from);
                    if !self.text[dash..].starts_with('-') {
                        return unwritable(
                            item,
                            "it cannot be told where this item begins",
                            EXPECTED_BLOCK,
                            PLAIN_HINT,
                        );
                    }
                    entries.push(WrittenEntry::item(dash..item.span.end.max(dash + 1)));
                    from = item.span.end.max(dash + 1);
                }
                Ok(entries)
            }
            YamlKind::Scalar { .. } | YamlKind::Alias(_) => {
                unwritable(target.node, TREE_MISMATCH, EXPECTED_BLOCK, PLAIN_HINT)
            }
        }
    }
}

/// An entry of a collection in the text.
struct WrittenEntry<'t> {
    key: Option<&'t str>,
    span: Range<usize>,
}

impl<'t> WrittenEntry<'t> {
    fn member(key: &'t YamlNode, value: &YamlNode) -> Self {
        Self { key: key.text(), span: key.span.start..value.span.end.max(key.span.end) }
    }

    fn item(span: Range<usize>) -> Self {
        Self { key: None, span }
    }
}
