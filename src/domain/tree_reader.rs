//! Reads a domain file's text into its tree.
//!
//! Features that would make the tree larger than the text (anchors, aliases, tags, several
//! documents) are refused, and a key that stands twice is one problem among others.

use std::collections::HashMap;

use super::context::Context;
use super::syntax;
use super::tree::{Scalar, TreeKey, TreeNode, TreeValue};
use crate::diagnostics::quote;
use crate::diagnostics::yaml::{self, YamlError, YamlKind, YamlLimits, YamlNode};

/// A file of [`MAX_FILE`](super::decode::MAX_FILE) holds no more values than can be read.
const LIMITS: YamlLimits = YamlLimits { documents: 1, depth: 64, nodes: usize::MAX };

/// Reads one document; `None` if it is no YAML (the problem is reported).
pub(super) fn read(context: &mut Context<'_>) -> Option<TreeNode> {
    let stream = yaml::read(context.text, &LIMITS);
    // The nodes before an error are checked as well, so that all problems are reported at once.
    let root = stream.documents.into_iter().next().flatten();
    let root = root.map(|root| supported_node(context, root));
    if let Some(error) = stream.error {
        report(context, error);
        return None;
    }
    if root.is_none() {
        let hint = "`bfb schema` prints what a domain file may say; the least is a name, \
                    a source and a version";
        let expected = "`domain`, `sources` and `versions`";
        context.problem(0..0, "the file is empty", expected, hint);
    }
    root
}

fn report(context: &mut Context<'_>, error: YamlError) {
    match error {
        YamlError::Syntax { at, info } => syntax::report(context, at, &info),
        YamlError::LongTagPrefix(at) => {
            let hint = "remove lines that begin with `%`";
            context.problem(at, "the prefix of a tag is too long", "keys and values only", hint);
        }
        YamlError::TooManyDocuments(at) => {
            let hint = "write one file for each domain";
            context.problem(at, "a second document begins here", "one document", hint);
        }
        YamlError::TooDeep(at) => {
            let expected = format!("at most {} levels", LIMITS.depth);
            let hint = "no key of a domain file needs more";
            context.problem(at, "this is nested too deeply", expected, hint);
        }
        YamlError::TooManyNodes(at) => {
            let expected = format!("at most {} values", LIMITS.nodes);
            context.problem(at, "this is one value too many", expected, "take values out");
        }
    }
}

/// The node as a domain file may hold it; unsupported features are reported.
fn supported_node(context: &mut Context<'_>, node: YamlNode) -> TreeNode {
    let span = node.span;
    let opening = span.start..node.opening_end;
    if node.anchor.is_some() {
        let hint = "remove the `&name`";
        context.problem(opening.clone(), "anchors are not supported", "the value alone", hint);
    }
    if node.tag.is_some() {
        let hint = "remove the `!tag`; quotes make a text of a number";
        context.problem(opening, "tags are not supported", "the value alone", hint);
    }
    let value = match node.kind {
        YamlKind::Scalar { text, plain, block } => TreeValue::Scalar(Scalar {
            raw: text.clone(),
            text,
            pieces: Vec::new(),
            plain,
            block,
            broken: false,
        }),
        YamlKind::List { items, .. } => {
            let items = items.into_iter().map(|item| supported_node(context, item));
            TreeValue::List(items.collect())
        }
        YamlKind::Map { entries, .. } => TreeValue::Map(supported_entries(context, entries)),
        YamlKind::Alias(_) => {
            let hint = "write the value out where it is needed";
            let expected = "the value itself";
            context.problem(span.clone(), "aliases are not supported", expected, hint);
            TreeValue::List(Vec::new())
        }
    };
    TreeNode { span, value }
}

/// The entries of a mapping, the first one of each key. An entry that an error cut off is not
/// reported again.
fn supported_entries(
    context: &mut Context<'_>,
    entries: Vec<(YamlNode, YamlNode)>,
) -> Vec<(TreeKey, TreeNode)> {
    let mut first_places = HashMap::new();
    let mut supported = Vec::with_capacity(entries.len());
    for (key_node, value_node) in entries {
        let key_is_complete = key_node.is_complete;
        let value_is_complete = value_node.is_complete;
        let key_node = supported_node(context, key_node);
        if !key_is_complete {
            break;
        }
        let key = key(context, key_node);
        let mut value = supported_node(context, value_node);
        if !value_is_complete {
            break;
        }
        if value.span.is_empty() {
            value.span = key.span.clone();
        }
        if let Some(first) = first_places.get(&key.text) {
            duplicate(context, *first, &key);
        } else {
            first_places.insert(key.text.clone(), key.span.start);
            supported.push((key, value));
        }
    }
    supported
}

fn key(context: &mut Context<'_>, node: TreeNode) -> TreeKey {
    let span = node.span;
    let TreeValue::Scalar(scalar) = node.value else {
        let hint = "put it in quotes if it is meant as a name";
        context.problem(span.clone(), "a list or mapping cannot be a key", "a name", hint);
        return TreeKey { text: format!("\0{}", span.start), span };
    };
    // The parser lets some of them pass.
    syntax::report_tab_before(context, span.start);
    TreeKey { span, text: scalar.raw }
}

fn duplicate(context: &mut Context<'_>, first: usize, second: &TreeKey) {
    if context.count_if_full() {
        return;
    }
    let line = context.line(first);
    let message = format!("{} is given twice", quote(&second.text));
    let hint = format!("the first one is on line {line}; remove one of the two");
    context.problem(second.span.clone(), message, "each key once", hint);
}
