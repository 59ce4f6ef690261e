//! Where in a manifest's text an addition goes: edits of the text as it is, made from the places of
//! its tree.
//!
//! Into a block goes a block, below the line that opens it, so that comments stay with what they
//! describe; into brackets goes JSON, in front. What would have to be guessed is refused: text that
//! an anchor shows elsewhere too, aliases, merge keys, tags, and a `null` in so many letters.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use super::edit::Edit;
use super::tree::{Document, Kind, Node};
use super::trouble::Trouble;
use super::value::is_merge;
use super::write::{Block, Flow};
use crate::inject::change::{Addition, Entries, Path, Step};

/// What is written into without guessing.
pub(super) const BLOCK: &str = "a plain block, or brackets";
/// How to come to that.
pub(super) const PLAINLY: &str =
    "write the pod plainly: blocks, without anchors, tags and merge keys";
/// The tree and the value that was made of it do not fit.
pub(super) const NOT_TAKEN: &str = "this is not what it was taken for";

pub(super) fn unwritable<T>(
    node: &Node,
    why: impl Into<String>,
    expected: &str,
    hint: &str,
) -> Result<T, Trouble> {
    Err(Trouble::at(node.span.clone(), why, expected, hint))
}

/// One document of a text.
pub(super) struct Page<'t> {
    pub(super) text: &'t str,
    document: &'t Document,
    /// What ends a line of the text.
    newline: &'static str,
    /// Whether the document is JSON without blanks behind its colons. Looked for once: a pod may
    /// have ten thousand containers.
    tight: OnceCell<bool>,
    /// The lists that were found, since something is sought in each of their items.
    lists: RefCell<HashMap<Path, Target<'t>>>,
}

/// A collection, and what it is the value of.
#[derive(Clone, Copy)]
pub(super) struct Target<'t> {
    pub(super) node: &'t Node,
    /// Its key, where it is a member of a mapping.
    key: Option<&'t Node>,
    /// Whether the collection that holds it is written in brackets.
    in_flow: bool,
}

impl<'t> Page<'t> {
    pub(super) fn new(text: &'t str, document: &'t Document, newline: &'static str) -> Self {
        Self { text, document, newline, tight: OnceCell::new(), lists: RefCell::default() }
    }

    /// The edit that makes `addition`; `dashes_below_key` is how the pod writes its lists.
    pub(super) fn add(&self, addition: &Addition, dashes_below_key: bool) -> Result<Edit, Trouble> {
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
            (Kind::Map { flow: true, .. } | Kind::List { flow: true, .. }, _) => {
                Ok(self.within_flow(node, &addition.entries))
            }
            (Kind::Map { entries, .. }, _) => {
                let first = entries.first().map_or(node.span.start, |(key, _)| key.span.start);
                self.within_block(&target, first, addition, dashes_below_key)
            }
            (Kind::List { .. }, _) => {
                let first = self.first_dash(&target)?;
                self.within_block(&target, first, addition, dashes_below_key)
            }
            _ if node.is_absent() && !target.in_flow => {
                self.under_key(&target, addition, dashes_below_key)
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
    pub(super) fn dashes_below_key(&self, pod: &Path) -> bool {
        let Ok(target) = self.find(&pod.key("spec").key("containers")) else { return false };
        match (target.key, self.first_dash(&target)) {
            (Some(key), Ok(dash)) => self.column(dash) == self.column(key.span.start),
            _ => false,
        }
    }

    /// The node at `path`, if all on the way to it is written here and only here.
    pub(super) fn find(&self, path: &Path) -> Result<Target<'t>, Trouble> {
        let Some(root) = &self.document.root else {
            return Err(Trouble::at(0..0, "the document is empty", "a pod", "write a pod"));
        };
        let (list, below) = path.split_at_last_item();
        let known = list.as_ref().and_then(|list| self.lists.borrow().get(list).copied());
        let steps = if known.is_some() { below } else { path.steps() };
        let mut target = known.unwrap_or(Target { node: root, key: None, in_flow: false });
        for (nth, step) in steps.iter().enumerate() {
            if let Some(list) =
                list.as_ref().filter(|list| known.is_none() && list.steps().len() == nth)
            {
                self.lists.borrow_mut().insert(list.clone(), target);
            }
            let node = self.own(target.node)?;
            target = match (step, &node.kind) {
                (Step::Key(name), Kind::Map { entries, flow }) => match node.entry(name) {
                    Some((key, value)) => Target { node: value, key: Some(key), in_flow: *flow },
                    None => match entries.iter().find(|(key, _)| is_merge(key)) {
                        Some((key, _)) => {
                            let why = format!("`{name}` comes from another mapping here, by `<<`");
                            return unwritable(key, why, "it here itself", "write it out");
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
                (Step::Item(index), Kind::List { items, flow }) if *index < items.len() => {
                    Target { node: &items[*index], key: None, in_flow: *flow }
                }
                _ => return unwritable(node, NOT_TAKEN, BLOCK, PLAINLY),
            };
        }
        self.own(target.node)?;
        Ok(target)
    }

    fn own(&self, node: &'t Node) -> Result<&'t Node, Trouble> {
        let shared = node.anchor.is_some_and(|anchor| self.document.aliased.contains(&anchor));
        if matches!(node.kind, Kind::Alias(_)) {
            return unwritable(
                node,
                "the sidecar goes into what an alias stands for",
                "the value itself",
                "write it out here",
            );
        }
        if shared {
            return unwritable(
                node,
                "the sidecar goes into what an anchor shows elsewhere too",
                "a value that stands here only",
                "write the value out at its aliases, and remove the anchor",
            );
        }
        Ok(node)
    }

    /// Where the first dash of a block list stands.
    pub(super) fn first_dash(&self, target: &Target<'t>) -> Result<usize, Trouble> {
        let after = target.key.and_then(|key| self.after_colon(key));
        let dash = after.map(|after| self.past_blanks_and_comments(after));
        match dash.filter(|dash| self.text[*dash..].starts_with('-')) {
            Some(dash) => Ok(dash),
            None => unwritable(
                target.node,
                "it cannot be told where this list begins",
                BLOCK,
                "begin it on the line below its key",
            ),
        }
    }

    /// The place behind the colon of a key.
    fn after_colon(&self, key: &Node) -> Option<usize> {
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

    /// Adds to a block whose first entry stands at `first`: below the line that opens it; where an
    /// entry stands on that line itself (`- name: a`), below that entry, or in front of it if it is
    /// more than a word.
    fn within_block(
        &self,
        target: &Target<'t>,
        first: usize,
        addition: &Addition,
        dashes_below_key: bool,
    ) -> Result<Edit, Trouble> {
        let line = self.line_start(first);
        let before = &self.text[line..first];
        let own_line = before.trim_start_matches(['\u{feff}', ' ']).is_empty();
        let compact = !before.is_empty() && before.chars().all(|c| matches!(c, ' ' | '-'));
        if !own_line && !compact {
            let hint = "begin it on a line of its own";
            return unwritable(target.node, "it cannot be told how this is indented", BLOCK, hint);
        }
        let lines = block_lines(&addition.entries, self.column(first), dashes_below_key);
        if !own_line && let Some(end) = self.end_of_first_line(target.node) {
            return Ok(self.lines_at(self.next_line(end), &lines));
        }
        if !own_line {
            let indent = " ".repeat(self.column(first));
            let mut text = lines.join(self.newline);
            text.replace_range(..indent.len(), "");
            return Ok(Edit { at: first..first, text: format!("{text}{}{indent}", self.newline) });
        }
        // An anchor may stand between a key and its block: what counts is the line.
        let opener = target.key.map_or(line, |key| self.next_line(key.span.end));
        Ok(self.lines_at(opener.min(line), &lines))
    }

    /// Where the first entry of a mapping ends, if it is a word on one line.
    fn end_of_first_line(&self, node: &Node) -> Option<usize> {
        let Kind::Map { entries, .. } = &node.kind else { return None };
        let (key, value) = entries.first()?;
        let word = matches!(value.kind, Kind::Scalar { .. }) && !value.is_absent();
        let one_line = !self.text[key.span.start..value.span.end].contains('\n');
        (word && one_line).then_some(value.span.end)
    }

    /// Adds below a key that has no value: `annotations:`.
    fn under_key(
        &self,
        target: &Target<'t>,
        addition: &Addition,
        dashes_below_key: bool,
    ) -> Result<Edit, Trouble> {
        let after = target.key.and_then(|key| Some((key, self.after_colon(key)?)));
        let Some((key, after)) = after else {
            return unwritable(
                target.node,
                "there is no value where the sidecar goes",
                "a value",
                "write `{}` or `[]`",
            );
        };
        let rest = self.text[after..self.line_end(after)].trim_start();
        if !rest.is_empty() && !rest.starts_with('#') {
            return unwritable(
                key,
                "it cannot be told where the value of this key goes",
                "a value",
                "write `{}` or `[]`",
            );
        }
        let below = matches!(addition.entries, Entries::Items(_)) && dashes_below_key;
        let indent = self.column(key.span.start) + if below { 0 } else { 2 };
        Ok(self.lines_at(
            self.next_line(after),
            &block_lines(&addition.entries, indent, dashes_below_key),
        ))
    }

    /// Whole lines, in front of the line that begins at `at`.
    fn lines_at(&self, at: usize, lines: &[String]) -> Edit {
        let text = lines.join(self.newline);
        let broken = at == 0 || self.text[..at].ends_with(['\n', '\r']);
        let text = if broken { text + self.newline } else { format!("{}{text}", self.newline) };
        Edit { at: at..at, text }
    }

    /// Adds in front of what is in brackets.
    fn within_flow(&self, node: &Node, entries: &Entries) -> Edit {
        let open = node.span.start + 1;
        let first = match &node.kind {
            Kind::Map { entries, .. } => entries.first().map(|(key, _)| key.span.start),
            Kind::List { items, .. } => items.first().map(|item| item.span.start),
            _ => None,
        };
        let style = self.flow_style(node, first);
        let texts: Vec<String> = match entries {
            Entries::Members(members) => {
                members.iter().map(|(key, value)| style.member(key, value)).collect()
            }
            Entries::Items(items) => items.iter().map(|item| style.value(item)).collect(),
        };
        let separator = style.separator();
        let mut text = texts.join(&separator);
        if first.is_some() {
            text.push_str(&separator);
        }
        let at = first.unwrap_or(open);
        Edit { at: at..at, text }
    }

    fn flow_style(&self, node: &Node, first: Option<usize>) -> Flow {
        let one_line = || if self.is_tight() { Flow::Tight } else { Flow::Line };
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
            return Flow::Lines { newline: self.newline, indent: indent.to_owned(), unit };
        }
        one_line()
    }

    fn is_tight(&self) -> bool {
        *self.tight.get_or_init(|| {
            self.document.root.as_ref().is_some_and(|root| {
                let all_flow = matches!(
                    root.kind,
                    Kind::Map { flow: true, .. } | Kind::List { flow: true, .. }
                );
                all_flow && !self.text[root.span.clone()].contains("\": ")
            })
        })
    }

    pub(super) fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |at| at + 1)
    }

    /// The end of the line, before its break.
    fn line_end(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |end| at + end)
    }

    pub(super) fn next_line(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |end| at + end + 1)
    }

    /// The characters before `at` on its line.
    fn column(&self, at: usize) -> usize {
        self.text[self.line_start(at)..at].trim_start_matches('\u{feff}').chars().count()
    }
}

fn block_lines(entries: &Entries, indent: usize, dashes_below_key: bool) -> Vec<String> {
    let block = Block { indent, dashes_below_key };
    match entries {
        Entries::Members(members) => {
            block.members(members.iter().map(|(key, value)| (key.as_str(), value)))
        }
        Entries::Items(items) => block.items(items),
    }
}
