//! Parses the documents of a manifest into trees, as leniently as Kubernetes does. Anchors,
//! aliases, tags and duplicate keys stay in the trees as they are written, and each node has the
//! exact span of its text, for edits.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::error::ManifestError;
use super::lenient::{self, LenientText};
use crate::diagnostics::yaml::{self, YamlError, YamlKind, YamlLimits, YamlNode, yaml_remedy};

/// So many values take some hundred megabytes as a tree, and are ten times the largest known
/// manifests.
const LIMITS: YamlLimits = YamlLimits { documents: 100_000, depth: 256, nodes: 1_000_000 };

/// One document.
#[derive(Debug, Default)]
pub(super) struct ManifestDocument {
    /// `None` for a document without a value. The span of a node has no blanks or comments after
    /// it; an absent value (`key:`) has an empty span after its colon.
    pub(super) root: Option<YamlNode>,
    /// The anchors that aliases refer to.
    pub(super) aliased_anchors: HashSet<usize>,
}

impl ManifestDocument {
    /// The node of each anchor.
    pub(super) fn anchors(&self) -> HashMap<usize, &YamlNode> {
        let mut nodes = HashMap::new();
        let mut pending: Vec<&YamlNode> =
            self.root.iter().filter(|_| !self.aliased_anchors.is_empty()).collect();
        while let Some(node) = pending.pop() {
            if let Some(anchor) = node.anchor {
                nodes.insert(anchor, node);
            }
            match &node.kind {
                YamlKind::List { items, .. } => pending.extend(items),
                YamlKind::Map { entries, .. } => {
                    pending.extend(entries.iter().flat_map(|(key, value)| [key, value]));
                }
                YamlKind::Scalar { .. } | YamlKind::Alias(_) => {}
            }
        }
        nodes
    }
}

/// Parses every document of `text`. Text that Kubernetes takes and the parser does not is repaired
/// and parsed again (`lenient.rs`).
pub(super) fn read(text: &str) -> Result<Vec<ManifestDocument>, ManifestError> {
    let mut lenient = LenientText::new(text);
    let mut padded = Cow::Borrowed(text);
    loop {
        let stream = yaml::read(&padded, &LIMITS);
        let mapper = SpanMapper { text, lenient: &lenient };
        let (at, info) = match stream.error {
            None => {
                return Ok(stream.documents.into_iter().map(|it| mapper.document(it)).collect());
            }
            Some(YamlError::Syntax { at, info }) => (lenient.original_offset(at), info),
            Some(YamlError::LongTagPrefix(at)) => {
                let hint = "remove lines that begin with `%`";
                let message = "the prefix of a tag is too long";
                return Err(ManifestError::at(at, message, "at most 256 bytes", hint));
            }
            Some(YamlError::TooManyDocuments(at)) => {
                let expected = format!("at most {} documents in a file", LIMITS.documents);
                let message = "this is one document too many";
                return Err(ManifestError::at(
                    mapper.place(at),
                    message,
                    expected,
                    "split the file",
                ));
            }
            Some(YamlError::TooDeep(at)) => {
                let start = mapper.place(at).start;
                let expected = format!("at most {} levels", LIMITS.depth);
                let message = "this is nested too deeply";
                return Err(ManifestError::at(
                    start..start + 1,
                    message,
                    expected,
                    "take levels out",
                ));
            }
            Some(YamlError::TooManyNodes(at)) => {
                let expected = format!("at most {} values in a file", LIMITS.nodes);
                let message = "this is one value too many";
                return Err(ManifestError::at(
                    mapper.place(at),
                    message,
                    expected,
                    "split the file",
                ));
            }
        };
        if !lenient.repair(at, &info) {
            return Err(not_yaml(text, at, &info));
        }
        padded = lenient.padded().into();
    }
}

fn not_yaml(text: &str, at: usize, info: &str) -> ManifestError {
    let (expected, hint) = match lenient::remedy(info) {
        Some((expected, hint)) => (expected, hint.to_owned()),
        None => yaml_remedy(text, at, info),
    };
    let hint = match () {
        () if text.contains("{{") => {
            "this looks like a template: render it first, and inject what comes out".to_owned()
        }
        () if info.contains("document start") => {
            "put a line `---` between two documents".to_owned()
        }
        () => hint,
    };
    ManifestError::at(at..at + 1, format!("this is not valid YAML: {info}"), expected, hint)
}

/// Maps the spans of nodes from the parsed (repaired) text to the original text, and corrects the
/// ends that the parser reports.
struct SpanMapper<'t> {
    text: &'t str,
    lenient: &'t LenientText<'t>,
}

impl SpanMapper<'_> {
    fn document(&self, root: Option<YamlNode>) -> ManifestDocument {
        let mut document = ManifestDocument { root, aliased_anchors: HashSet::new() };
        if let Some(root) = &mut document.root {
            self.node(root, &mut document.aliased_anchors);
        }
        let is_blank = |root: &YamlNode| root.is_absent() && root.text() == Some("");
        document.root = document.root.filter(|root| !is_blank(root));
        document
    }

    fn place(&self, span: Range<usize>) -> Range<usize> {
        self.lenient.original_offset(span.start)..self.lenient.original_offset(span.end)
    }

    fn node(&self, node: &mut YamlNode, aliased_anchors: &mut HashSet<usize>) {
        let span = self.place(node.span.clone());
        let start = span.start;
        node.span = match &mut node.kind {
            YamlKind::Scalar { .. } => start..start + self.text[span].trim_end().len(),
            YamlKind::Alias(anchor) => {
                aliased_anchors.insert(*anchor);
                span
            }
            YamlKind::List { items, flow } => {
                for item in items.iter_mut() {
                    self.node(item, aliased_anchors);
                }
                let first = items.first().map(|item| item.span.start);
                let last = items.last().map(|item| item.span.end);
                self.collection(start, first, last, flow.then_some(']'))
            }
            YamlKind::Map { entries, flow } => {
                for (key, value) in entries.iter_mut() {
                    self.node(key, aliased_anchors);
                    self.node(value, aliased_anchors);
                    if value.is_absent() {
                        value.span = self.absent_value(key.span.end);
                    }
                }
                let first = entries.first().map(|(key, _)| key.span.start);
                let last = entries.last().map(|(_, value)| value.span.end);
                self.collection(start, first, last, flow.then_some('}'))
            }
        };
    }

    /// The span of a collection. The parser's ends of collections are unreliable, so they are
    /// derived from the spans of the entries, which are exact.
    fn collection(
        &self,
        start: usize,
        first: Option<usize>,
        last: Option<usize>,
        close: Option<char>,
    ) -> Range<usize> {
        let last = last.unwrap_or(start);
        if let Some(close) = close {
            return start..self.past_bracket(last.max(start + 1), close);
        }
        let first = first.unwrap_or(start);
        first..last.max(first)
    }

    /// The offset after the closing bracket, which only blanks, comments and a trailing comma
    /// precede.
    fn past_bracket(&self, from: usize, close: char) -> usize {
        let mut at = from;
        loop {
            let rest = &self.text[at..];
            let next = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            at = self.text.len() - next.len();
            match next.chars().next() {
                Some('#') => at += next.find('\n').unwrap_or(next.len()),
                Some(c) if c == close => return at + 1,
                _ => return from,
            }
        }
    }

    /// The empty span of an absent value: after the colon, or after a key without a colon.
    fn absent_value(&self, key_end: usize) -> Range<usize> {
        let rest = self.text[key_end..].trim_start_matches([' ', '\t']);
        let end = if rest.starts_with(':') { self.text.len() - rest.len() + 1 } else { key_end };
        end..end
    }
}
