//! The insertions that make an addition: edits of a manifest's text, located by the spans of its
//! tree.
//!
//! A block collection gets a block, below the line that opens it, so that comments stay with the
//! entries that they describe; a flow collection (in brackets) gets JSON, before its first entry.
//! Places that would need a guess are refused: values that an anchor shares, aliases, merge keys,
//! tags, and a literal `null`.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use super::edit::Edit;
use super::error::ManifestError;
use super::json_value::is_merge;
use super::tree::ManifestDocument;
use super::write::{BlockStyle, FlowStyle};
use crate::diagnostics::yaml::{YamlKind, YamlNode};
use crate::inject::change::{AddedEntries, Addition, FieldPath, PathStep};

/// The expected form of a collection, for a message.
pub(super) const EXPECTED_BLOCK: &str = "a plain block, or brackets";
/// The hint to that form.
pub(super) const PLAIN_HINT: &str =
    "write the pod plainly: blocks, without anchors, tags and merge keys";
/// The message of a tree that does not have the place of its JSON value.
pub(super) const TREE_MISMATCH: &str = "internal error: the YAML tree and its JSON value disagree";

/// The error for a node into which nothing can be inserted.
pub(super) fn unwritable<T>(
    node: &YamlNode,
    message: impl Into<String>,
    expected: &str,
    hint: &str,
) -> Result<T, ManifestError> {
    Err(ManifestError::at(node.span.clone(), message, expected, hint))
}

/// One document of a text.
pub(super) struct DocumentText<'t> {
    pub(super) text: &'t str,
    document: &'t ManifestDocument,
    /// The line ending of the text.
    newline: &'static str,
    /// Whether the document is JSON without blanks after its colons. Determined once: a pod may
    /// have ten thousand containers.
    is_tight: OnceCell<bool>,
    /// The lists that [`Self::find`] has passed, since additions go into each of their items.
    lists: RefCell<HashMap<FieldPath, SpliceTarget<'t>>>,
}

/// A collection that entries are added to or removed from.
#[derive(Clone, Copy)]
pub(super) struct SpliceTarget<'t> {
    pub(super) node: &'t YamlNode,
    /// Its key, if it is a member of a mapping.
    key: Option<&'t YamlNode>,
    /// Whether the collection that holds it is a flow collection.
    in_flow: bool,
}

impl<'t> DocumentText<'t> {
    pub(super) fn new(
        text: &'t str,
        document: &'t ManifestDocument,
        newline: &'static str,
    ) -> Self {
        Self { text, document, newline, is_tight: OnceCell::new(), lists: RefCell::default() }
    }

    /// The edit that performs `addition`; `dashes_below_key` is the style of lists in the pod.
    pub(super) fn addition_edit(
        &self,
        addition: &Addition,
        dashes_below_key: bool,
    ) -> Result<Edit, ManifestError> {
        let target = self.find(&addition.into)?;
        let node = target.node;
        if let Some(tag) = &node.tag {
            return unwritable(
                node,
                format!("the tag `{tag}` stands where the sidecar goes"),
                "no tag",
                "remove the tag",
            );
        }
        match (&node.kind, &addition.entries) {
            (YamlKind::Map { flow: true, .. } | YamlKind::List { flow: true, .. }, _) => {
                Ok(self.add_to_flow(node, &addition.entries))
            }
            (YamlKind::Map { entries, .. }, _) => {
                let first = entries.first().map_or(node.span.start, |(key, _)| key.span.start);
                self.add_to_block(&target, first, addition, dashes_below_key)
            }
            (YamlKind::List { .. }, _) => {
                let first = self.first_dash(&target)?;
                self.add_to_block(&target, first, addition, dashes_below_key)
            }
            _ if node.is_absent() && !target.in_flow => {
                self.add_under_key(&target, addition, dashes_below_key)
            }
            _ => unwritable(
                node,
                "there is a `null` where the sidecar goes",
                "a mapping or a list, or no such line",
                "remove the line, or write `{}` for a mapping and `[]` for a list",
            ),
        }
    }

    /// Whether the lists of the pod at `pod` have their dashes below their keys.
    pub(super) fn dashes_below_key(&self, pod: &FieldPath) -> bool {
        let Ok(target) = self.find(&pod.key("spec").key("containers")) else { return false };
        match (target.key, self.first_dash(&target)) {
            (Some(key), Ok(dash)) => self.column(dash) == self.column(key.span.start),
            _ => false,
        }
    }

    /// The node at `path`, if no node of the path is an alias or shared by one.
    pub(super) fn find(&self, path: &FieldPath) -> Result<SpliceTarget<'t>, ManifestError> {
        let Some(root) = &self.document.root else {
            return Err(ManifestError::at(0..0, "the document is empty", "a pod", "write a pod"));
        };
        let (list, below) = path.split_at_last_item();
        let cached_list = list.as_ref().and_then(|list| self.lists.borrow().get(list).copied());
        let steps = if cached_list.is_some() { below } else { path.steps() };
        let mut target =
            cached_list.unwrap_or(SpliceTarget { node: root, key: None, in_flow: false });
        for (nth, step) in steps.iter().enumerate() {
            if let Some(list) =
                list.as_ref().filter(|list| cached_list.is_none() && list.steps().len() == nth)
            {
                self.lists.borrow_mut().insert(list.clone(), target);
            }
            let node = self.ensure_unshared(target.node)?;
            target = match (step, &node.kind) {
                (PathStep::Key(name), YamlKind::Map { entries, flow }) => match node.entry(name) {
                    Some((key, value)) => {
                        SpliceTarget { node: value, key: Some(key), in_flow: *flow }
                    }
                    None => match entries.iter().find(|(key, _)| is_merge(key)) {
                        Some((key, _)) => {
                            let message =
                                format!("`{name}` comes from another mapping here, by `<<`");
                            return unwritable(key, message, "it here itself", "write it out");
                        }
                        None => {
                            return unwritable(
                                node,
                                format!("there is no `{name}` here"),
                                "it here itself",
                                "write it out",
                            );
                        }
                    },
                },
                (PathStep::Item(index), YamlKind::List { items, flow }) if *index < items.len() => {
                    SpliceTarget { node: &items[*index], key: None, in_flow: *flow }
                }
                _ => return unwritable(node, TREE_MISMATCH, EXPECTED_BLOCK, PLAIN_HINT),
            };
        }
        self.ensure_unshared(target.node)?;
        Ok(target)
    }

    fn ensure_unshared(&self, node: &'t YamlNode) -> Result<&'t YamlNode, ManifestError> {
        let is_shared =
            node.anchor.is_some_and(|anchor| self.document.aliased_anchors.contains(&anchor));
        if matches!(node.kind, YamlKind::Alias(_)) {
            return unwritable(
                node,
                "the sidecar goes into what an alias stands for",
                "the value itself",
                "write it out here",
            );
        }
        if is_shared {
            return unwritable(
                node,
                "the sidecar goes into what an anchor shows elsewhere too",
                "a value that stands here only",
                "write the value out at its aliases, and remove the anchor",
            );
        }
        Ok(node)
    }

    /// The offset of the first dash of a block list.
    pub(super) fn first_dash(&self, target: &SpliceTarget<'t>) -> Result<usize, ManifestError> {
        let after = target.key.and_then(|key| self.after_colon(key));
        let dash = after.map(|after| self.past_blanks_and_comments(after));
        match dash.filter(|dash| self.text[*dash..].starts_with('-')) {
            Some(dash) => Ok(dash),
            None => unwritable(
                target.node,
                "it cannot be told where this list begins",
                EXPECTED_BLOCK,
                "begin it on the line below its key",
            ),
        }
    }

    /// The offset after the colon of a key.
    fn after_colon(&self, key: &YamlNode) -> Option<usize> {
        let rest = &self.text[key.span.end..];
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        rest[blanks..].starts_with(':').then_some(key.span.end + blanks + 1)
    }

    pub(super) fn past_blanks_and_comments(&self, from: usize) -> usize {
        let mut at = from;
        loop {
            let rest = &self.text[at..];
            let blanks = rest.len() - rest.trim_start().len();
            at += blanks;
            if !self.text[at..].starts_with('#') {
                return at;
            }
            at = self.line_end(at);
        }
    }

    /// Adds to a block whose first entry is at `first`: below the line that opens the block. If the
    /// first entry begins on that line itself (`- name: a`): below that entry, or before it if it
    /// is more than a scalar on one line.
    fn add_to_block(
        &self,
        target: &SpliceTarget<'t>,
        first: usize,
        addition: &Addition,
        dashes_below_key: bool,
    ) -> Result<Edit, ManifestError> {
        let line = self.line_start(first);
        let before = &self.text[line..first];
        let begins_line = before.trim_start_matches(['\u{feff}', ' ']).is_empty();
        let is_compact = !before.is_empty() && before.chars().all(|c| matches!(c, ' ' | '-'));
        if !begins_line && !is_compact {
            let hint = "begin it on a line of its own";
            return unwritable(
                target.node,
                "it cannot be told how this is indented",
                EXPECTED_BLOCK,
                hint,
            );
        }
        let lines = block_lines(&addition.entries, self.column(first), dashes_below_key);
        if !begins_line && let Some(end) = self.end_of_first_line(target.node) {
            return Ok(self.lines_at(self.next_line(end), &lines));
        }
        if !begins_line {
            let indent = " ".repeat(self.column(first));
            let mut text = lines.join(self.newline);
            text.replace_range(..indent.len(), "");
            return Ok(Edit { at: first..first, text: format!("{text}{}{indent}", self.newline) });
        }
        // An anchor may stand between a key and its block, so the block opens on the line after the
        // key.
        let opener = target.key.map_or(line, |key| self.next_line(key.span.end));
        Ok(self.lines_at(opener.min(line), &lines))
    }

    /// The offset of the end of a mapping's first entry, if its value is a scalar on one line.
    fn end_of_first_line(&self, node: &YamlNode) -> Option<usize> {
        let YamlKind::Map { entries, .. } = &node.kind else { return None };
        let (key, value) = entries.first()?;
        let is_scalar = matches!(value.kind, YamlKind::Scalar { .. }) && !value.is_absent();
        let is_one_line = !self.text[key.span.start..value.span.end].contains('\n');
        (is_scalar && is_one_line).then_some(value.span.end)
    }

    /// Adds below a key without a value (`annotations:`).
    fn add_under_key(
        &self,
        target: &SpliceTarget<'t>,
        addition: &Addition,
        dashes_below_key: bool,
    ) -> Result<Edit, ManifestError> {
        let key_and_end = target.key.and_then(|key| Some((key, self.after_colon(key)?)));
        let Some((key, after_colon)) = key_and_end else {
            return unwritable(
                target.node,
                "there is no value where the sidecar goes",
                "a value",
                "write `{}` or `[]`",
            );
        };
        let rest = self.text[after_colon..self.line_end(after_colon)].trim_start();
        if !rest.is_empty() && !rest.starts_with('#') {
            return unwritable(
                key,
                "it cannot be told where the value of this key goes",
                "a value",
                "write `{}` or `[]`",
            );
        }
        let is_at_key = matches!(addition.entries, AddedEntries::Items(_)) && dashes_below_key;
        let indent = self.column(key.span.start) + if is_at_key { 0 } else { 2 };
        let lines = block_lines(&addition.entries, indent, dashes_below_key);
        Ok(self.lines_at(self.next_line(after_colon), &lines))
    }

    /// Inserts whole lines before the line that begins at `at`.
    fn lines_at(&self, at: usize, lines: &[String]) -> Edit {
        let text = lines.join(self.newline);
        let is_at_line_start = at == 0 || self.text[..at].ends_with(['\n', '\r']);
        let text =
            if is_at_line_start { text + self.newline } else { format!("{}{text}", self.newline) };
        Edit { at: at..at, text }
    }

    /// Adds before the first entry of a flow collection.
    fn add_to_flow(&self, node: &YamlNode, entries: &AddedEntries) -> Edit {
        let open = node.span.start + 1;
        let first = match &node.kind {
            YamlKind::Map { entries, .. } => entries.first().map(|(key, _)| key.span.start),
            YamlKind::List { items, .. } => items.first().map(|item| item.span.start),
            _ => None,
        };
        let style = self.flow_style(node, first);
        let texts: Vec<String> = match entries {
            AddedEntries::Members(members) => {
                members.iter().map(|(key, value)| style.member(key, value)).collect()
            }
            AddedEntries::Items(items) => items.iter().map(|item| style.value(item)).collect(),
        };
        let separator = style.separator();
        let mut text = texts.join(&separator);
        if first.is_some() {
            text.push_str(&separator);
        }
        let at = first.unwrap_or(open);
        Edit { at: at..at, text }
    }

    /// The style of a flow collection, by the text before its first entry.
    fn flow_style(&self, node: &YamlNode, first: Option<usize>) -> FlowStyle {
        let one_line = || if self.is_tight() { FlowStyle::Tight } else { FlowStyle::Line };
        let Some(first) = first else { return one_line() };
        let before = &self.text[node.span.start + 1..first];
        let indent = &before[before.rfind('\n').map_or(0, |at| at + 1)..];
        if before.contains('\n') && indent.trim_matches([' ', '\t']).is_empty() {
            let outer = self.text[self.line_start(node.span.end)..node.span.end].len();
            let outer = outer.saturating_sub(1);
            let unit = if indent.contains('\t') {
                "\t".to_owned()
            } else {
                " ".repeat(
                    indent
                        .len()
                        .checked_sub(outer)
                        .filter(|unit| (1..=8).contains(unit))
                        .unwrap_or(2),
                )
            };
            return FlowStyle::Lines { newline: self.newline, indent: indent.to_owned(), unit };
        }
        one_line()
    }

    fn is_tight(&self) -> bool {
        *self.is_tight.get_or_init(|| {
            self.document.root.as_ref().is_some_and(|root| {
                let all_flow = matches!(
                    root.kind,
                    YamlKind::Map { flow: true, .. } | YamlKind::List { flow: true, .. }
                );
                all_flow && !self.text[root.span.clone()].contains("\": ")
            })
        })
    }

    pub(super) fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |at| at + 1)
    }

    /// The offset of the end of the line, before its line break.
    fn line_end(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |end| at + end)
    }

    pub(super) fn next_line(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |end| at + end + 1)
    }

    /// The number of characters before `at` on its line.
    fn column(&self, at: usize) -> usize {
        self.text[self.line_start(at)..at].trim_start_matches('\u{feff}').chars().count()
    }
}

fn block_lines(entries: &AddedEntries, indent: usize, dashes_below_key: bool) -> Vec<String> {
    let block = BlockStyle { indent, dashes_below_key };
    match entries {
        AddedEntries::Members(members) => {
            block.members(members.iter().map(|(key, value)| (key.as_str(), value)))
        }
        AddedEntries::Items(items) => block.items(items),
    }
}
