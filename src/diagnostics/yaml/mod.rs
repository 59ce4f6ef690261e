//! YAML as a tree with a place on every node, for domain files and manifests.
//!
//! Nothing is judged here: anchors, aliases, tags and doubled keys stand in the tree as they were
//! written, and each side decides which of them it accepts. Documents, depth and size are bounded.
//! The nodes before an error are kept, so that a file's other problems can be reported with it.

mod lines;
mod reader;
mod syntax;
mod tag_directive;

pub(crate) use reader::{YamlError, YamlLimits, read};
pub(crate) use syntax::yaml_remedy;

use std::ops::Range;

/// One value, and where it stands.
#[derive(Debug)]
pub(crate) struct YamlNode {
    /// In bytes, as the parser has it: the end of a collection may be anywhere behind its values,
    /// and that of a scalar may take in the blanks after it.
    pub(crate) span: Range<usize>,
    /// The end of the node's opening: an anchor, a tag, and the first token.
    pub(crate) opening_end: usize,
    /// The kind of node, with its content.
    pub(crate) kind: YamlKind,
    /// `&name`, as a number.
    pub(crate) anchor: Option<usize>,
    /// `!tag`, as it is understood.
    pub(crate) tag: Option<String>,
    /// Whether it was read to its end: an error ends the reading within some.
    pub(crate) is_complete: bool,
}

/// The kinds of nodes.
#[derive(Debug)]
pub(crate) enum YamlKind {
    /// Text, still untyped.
    Scalar {
        /// As it is understood, without its quotes.
        text: String,
        /// Whether it is written without quotes.
        plain: bool,
        /// Whether it is written as a block (`|`, `>`).
        block: bool,
    },
    /// A list.
    List {
        /// The items.
        items: Vec<YamlNode>,
        /// Whether it is written in brackets.
        flow: bool,
    },
    /// A mapping, doubled keys among its entries.
    Map {
        /// Its keys and their values.
        entries: Vec<(YamlNode, YamlNode)>,
        /// Whether it is written in braces.
        flow: bool,
    },
    /// `*name`, as the number of its anchor.
    Alias(usize),
}

impl YamlNode {
    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            YamlKind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The entry with this key, if there is one. The last of several wins, as it does in
    /// Kubernetes.
    pub(crate) fn entry(&self, key: &str) -> Option<&(YamlNode, YamlNode)> {
        match &self.kind {
            YamlKind::Map { entries, .. } => {
                entries.iter().rev().find(|(name, _)| name.text() == Some(key))
            }
            _ => None,
        }
    }

    /// Whether it was left out: `key:`.
    pub(crate) fn is_absent(&self) -> bool {
        self.span.is_empty() && self.tag.is_none() && self.anchor.is_none()
    }
}
