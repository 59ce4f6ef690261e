//! A stream of YAML documents as trees with a place on every node, as loose as Kubernetes is:
//! anchors, aliases, tags and doubled keys stand in them as they were written. Nothing is lost that
//! a splice must know of; depth and size are bounded.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use super::error::ManifestError;
use super::lenient::{self, LenientText};
use crate::domain::{Lines, long_tag_directive, yaml_remedy};

/// How deep lists and mappings may be nested.
const DEPTH_MAX: usize = 256;
/// How many values a file may hold: some hundred megabytes of a tree, and ten times the largest
/// manifests that there are.
const NODES_MAX: usize = 1_000_000;
/// How many documents a file may hold.
const DOCUMENTS_MAX: usize = 100_000;
/// As much of a tag as is kept, in characters: the whole one may be as long as the file, and stand
/// at every value.
const TAG_MAX_CHARS: usize = 64;

/// One value, and where it stands.
#[derive(Debug)]
pub(super) struct ManifestNode {
    /// In bytes: what it says itself, without the blanks and comments after it. A value that is not
    /// there (`key:`) stands, empty, behind its colon.
    pub(super) span: Range<usize>,
    pub(super) kind: ManifestNodeKind,
    /// `&name`, as a number.
    pub(super) anchor: Option<usize>,
    /// `!tag`, as it is understood.
    pub(super) tag: Option<String>,
}

#[derive(Debug)]
pub(super) enum ManifestNodeKind {
    /// Text, and whether it is written without quotes.
    Scalar { text: String, plain: bool },
    /// A list, and whether it is written in brackets.
    List { items: Vec<ManifestNode>, flow: bool },
    /// A mapping, and whether it is written in braces.
    Map { entries: Vec<(ManifestNode, ManifestNode)>, flow: bool },
    /// `*name`
    Alias(usize),
}

impl ManifestNode {
    /// The text of a key.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            ManifestNodeKind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The entry with this key, if there is one. The last of several wins, as it does in
    /// Kubernetes.
    pub(super) fn entry(&self, key: &str) -> Option<&(ManifestNode, ManifestNode)> {
        match &self.kind {
            ManifestNodeKind::Map { entries, .. } => {
                entries.iter().rev().find(|(name, _)| name.text() == Some(key))
            }
            _ => None,
        }
    }

    /// Whether it was left out: `key:`.
    pub(super) fn is_absent(&self) -> bool {
        self.span.is_empty() && self.tag.is_none() && self.anchor.is_none()
    }
}

/// One document.
#[derive(Debug, Default)]
pub(super) struct ManifestDocument {
    /// `None` where it holds comments at most.
    pub(super) root: Option<ManifestNode>,
    /// The anchors that an alias names.
    pub(super) aliased_anchors: HashSet<usize>,
}

impl ManifestDocument {
    /// Each anchor with what it names.
    pub(super) fn anchors(&self) -> HashMap<usize, &ManifestNode> {
        let mut found = HashMap::new();
        let mut waiting: Vec<&ManifestNode> =
            self.root.iter().filter(|_| !self.aliased_anchors.is_empty()).collect();
        while let Some(node) = waiting.pop() {
            if let Some(anchor) = node.anchor {
                found.insert(anchor, node);
            }
            match &node.kind {
                ManifestNodeKind::List { items, .. } => waiting.extend(items),
                ManifestNodeKind::Map { entries, .. } => {
                    waiting.extend(entries.iter().flat_map(|(key, value)| [key, value]));
                }
                ManifestNodeKind::Scalar { .. } | ManifestNodeKind::Alias(_) => {}
            }
        }
        found
    }
}

/// Reads every document of `text`.
pub(super) fn read(text: &str) -> Result<Vec<ManifestDocument>, ManifestError> {
    if let Some(at) = long_tag_directive(text) {
        let (expected, hint) = ("at most 256 bytes", "remove lines that begin with `%`");
        return Err(ManifestError::at(at, "the prefix of a tag is too long", expected, hint));
    }
    let mut lenient = LenientText::new(text);
    let mut padded = Cow::Borrowed(text);
    loop {
        let error = match read_once(text, &padded, &lenient) {
            Ok(documents) => return Ok(documents),
            Err(TreeReadError::LimitExceeded(error)) => return Err(error),
            Err(TreeReadError::NotYaml(error)) => error,
        };
        let at = lenient.original_offset(Lines::new(&padded).byte(error.marker()));
        let info = error.info().trim_end_matches('.').to_lowercase();
        if !lenient.repair(at, &info) {
            return Err(not_yaml(text, at, &info));
        }
        padded = lenient.padded().into();
    }
}

/// Why a reading ended early.
enum TreeReadError {
    /// It is no YAML 1.2.
    NotYaml(ScanError),
    /// It is more than we take.
    LimitExceeded(ManifestError),
}

/// Reads `padded`; the places are those of `text`.
fn read_once(
    text: &str,
    padded: &str,
    lenient: &LenientText<'_>,
) -> Result<Vec<ManifestDocument>, TreeReadError> {
    let lines = Lines::new(padded);
    let mut reader = ManifestReader { text, open: Vec::new(), documents: Vec::new(), nodes: 0 };
    for event in Parser::new_from_str(padded) {
        let (event, span) = event.map_err(TreeReadError::NotYaml)?;
        let span = lines.bytes(span);
        let span = lenient.original_offset(span.start)..lenient.original_offset(span.end);
        reader.event(event, span).map_err(TreeReadError::LimitExceeded)?;
    }
    Ok(reader.documents)
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

/// A collection that is still open.
struct UnfinishedNode {
    start: usize,
    anchor: Option<usize>,
    tag: Option<String>,
    is_map: bool,
    /// Keys and values by turns in a mapping.
    nodes: Vec<ManifestNode>,
}

struct ManifestReader<'t> {
    text: &'t str,
    open: Vec<UnfinishedNode>,
    documents: Vec<ManifestDocument>,
    nodes: usize,
}

impl ManifestReader<'_> {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), ManifestError> {
        let short = |tag: String| tag.chars().take(TAG_MAX_CHARS).collect();
        let tag = |tag: Option<std::borrow::Cow<'_, Tag>>| tag.map(|tag| short(tag.to_string()));
        let anchor_id = |anchor: usize| (anchor != 0).then_some(anchor);
        match event {
            Event::DocumentStart(_) if self.documents.len() == DOCUMENTS_MAX => {
                let expected = format!("at most {DOCUMENTS_MAX} documents in a file");
                return Err(ManifestError::at(
                    span,
                    "this is one document too many",
                    expected,
                    "split the file",
                ));
            }
            Event::DocumentStart(_) => self.documents.push(ManifestDocument::default()),
            Event::Alias(anchor) => {
                self.documents.last_mut().map(|document| document.aliased_anchors.insert(anchor));
                self.value(ManifestNode {
                    span,
                    kind: ManifestNodeKind::Alias(anchor),
                    anchor: None,
                    tag: None,
                })?;
            }
            Event::Scalar(text, style, anchor, a_tag) => {
                let start = span.start;
                let end = start + self.text[span].trim_end().len();
                let kind = ManifestNodeKind::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                };
                self.value(ManifestNode {
                    span: start..end,
                    kind,
                    anchor: anchor_id(anchor),
                    tag: tag(a_tag),
                })?;
            }
            Event::SequenceStart(anchor, a_tag) => {
                self.start(span.start, anchor_id(anchor), tag(a_tag), false)?;
            }
            Event::MappingStart(anchor, a_tag) => {
                self.start(span.start, anchor_id(anchor), tag(a_tag), true)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn start(
        &mut self,
        start: usize,
        anchor: Option<usize>,
        tag: Option<String>,
        is_map: bool,
    ) -> Result<(), ManifestError> {
        if self.open.len() == DEPTH_MAX {
            let expected = format!("at most {DEPTH_MAX} levels");
            return Err(ManifestError::at(
                start..start + 1,
                "this is nested too deeply",
                expected,
                "take levels out",
            ));
        }
        self.open.push(UnfinishedNode { start, anchor, tag, is_map, nodes: Vec::new() });
        Ok(())
    }

    /// The parser puts the ends of collections here and there; the places of what they hold are
    /// right.
    fn end(&mut self) -> Result<(), ManifestError> {
        let Some(UnfinishedNode { start, anchor, tag, is_map, nodes }) = self.open.pop() else {
            return Ok(());
        };
        let first = nodes.first().map(|node| node.span.start);
        let last = nodes.last().map_or(start, |node| node.span.end);
        let (open, close) = if is_map { ('{', '}') } else { ('[', ']') };
        let flow = self.text[start..].starts_with(open) && first != Some(start);
        let span = if flow {
            start..self.past_bracket(last.max(start + 1), close)
        } else {
            let first = first.unwrap_or(start);
            first..last.max(first)
        };
        let kind = if is_map {
            ManifestNodeKind::Map { entries: pairs(nodes), flow }
        } else {
            ManifestNodeKind::List { items: nodes, flow }
        };
        self.value(ManifestNode { span, kind, anchor, tag })
    }

    /// The place behind the closing bracket, which is the next but for blanks, comments and a last
    /// comma.
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

    fn value(&mut self, mut node: ManifestNode) -> Result<(), ManifestError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let expected = format!("at most {NODES_MAX} values in a file");
            return Err(ManifestError::at(
                node.span,
                "this is one value too many",
                expected,
                "split the file",
            ));
        }
        match self.open.last_mut() {
            Some(open) => {
                if node.is_absent() && open.is_map && open.nodes.len() % 2 == 1 {
                    let key = open.nodes.last().map_or(node.span.start, |key| key.span.end);
                    let rest = self.text[key..].trim_start_matches([' ', '\t']);
                    let end =
                        if rest.starts_with(':') { self.text.len() - rest.len() + 1 } else { key };
                    node.span = end..end;
                }
                open.nodes.push(node);
            }
            None => {
                if let Some(document) = self.documents.last_mut() {
                    let blank = node.is_absent() && node.text() == Some("");
                    document.root = (!blank).then_some(node);
                }
            }
        }
        Ok(())
    }
}

fn pairs(nodes: Vec<ManifestNode>) -> Vec<(ManifestNode, ManifestNode)> {
    let mut pairs = Vec::with_capacity(nodes.len() / 2);
    let mut nodes = nodes.into_iter();
    while let (Some(key), Some(value)) = (nodes.next(), nodes.next()) {
        pairs.push((key, value));
    }
    pairs
}
