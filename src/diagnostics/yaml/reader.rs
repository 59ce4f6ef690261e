//! Builds the tree from the parser's events.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::lines::Lines;
use super::tag_directive::find_long_tag_directive;
use super::{YamlKind, YamlNode};

/// As much of a tag as is kept, in characters: the whole one may be as long as the file, and stand
/// at every value.
const TAG_MAX_CHARS: usize = 64;

/// How much of a text is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct YamlLimits {
    /// How many documents it may hold.
    pub(crate) documents: usize,
    /// How deep lists and mappings may be nested.
    pub(crate) depth: usize,
    /// How many values it may hold.
    pub(crate) nodes: usize,
}

/// The nodes that were read from a text.
#[derive(Debug, Default)]
pub(crate) struct YamlStream {
    /// The value of each document; `None` where an error ended the reading before it.
    pub(crate) documents: Vec<Option<YamlNode>>,
    /// The error that ended the reading before the end of the text.
    pub(crate) error: Option<YamlError>,
}

/// Why a text is not read to its end. Places are in bytes.
#[derive(Debug)]
pub(crate) enum YamlError {
    /// It is not YAML 1.2.
    Syntax {
        /// Where the parser stopped.
        at: usize,
        /// The parser's message, in lower case without a full stop.
        info: String,
    },
    /// A `%TAG` line that defines a prefix longer than [`find_long_tag_directive`] allows.
    LongTagPrefix(Range<usize>),
    /// A document more than [`YamlLimits::documents`].
    TooManyDocuments(Range<usize>),
    /// A list or mapping that begins below [`YamlLimits::depth`] others.
    TooDeep(Range<usize>),
    /// A value more than [`YamlLimits::nodes`].
    TooManyNodes(Range<usize>),
}

/// Reads every document of `text`.
pub(crate) fn read(text: &str, limits: &YamlLimits) -> YamlStream {
    if let Some(at) = find_long_tag_directive(text) {
        let error = Some(YamlError::LongTagPrefix(at));
        return YamlStream { documents: Vec::new(), error };
    }
    let mut builder =
        TreeBuilder { text, limits, unfinished: Vec::new(), documents: Vec::new(), nodes: 0 };
    let error = builder.read_events().err();
    builder.close_unfinished();
    YamlStream { documents: builder.documents, error }
}

/// A list or mapping that is still open.
struct UnfinishedNode {
    span: Range<usize>,
    anchor: Option<usize>,
    tag: Option<String>,
    is_map: bool,
    /// Keys and values by turns in a mapping.
    nodes: Vec<YamlNode>,
}

struct TreeBuilder<'t> {
    text: &'t str,
    limits: &'t YamlLimits,
    unfinished: Vec<UnfinishedNode>,
    documents: Vec<Option<YamlNode>>,
    nodes: usize,
}

impl TreeBuilder<'_> {
    fn read_events(&mut self) -> Result<(), YamlError> {
        let lines = Lines::new(self.text);
        for event in Parser::new_from_str(self.text) {
            match event {
                Ok((event, span)) => self.event(event, lines.bytes(span))?,
                Err(error) => {
                    let at = lines.byte(error.marker());
                    let info = error.info().trim_end_matches('.').to_lowercase();
                    return Err(YamlError::Syntax { at, info });
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), YamlError> {
        match event {
            Event::DocumentStart(_) if self.documents.len() == self.limits.documents => {
                Err(YamlError::TooManyDocuments(span))
            }
            Event::DocumentStart(_) => {
                self.documents.push(None);
                Ok(())
            }
            Event::Alias(anchor) => self.leaf(span, YamlKind::Alias(anchor), 0, None),
            Event::Scalar(text, style, anchor, tag) => {
                let kind = YamlKind::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                    block: matches!(style, ScalarStyle::Literal | ScalarStyle::Folded),
                };
                self.leaf(span, kind, anchor, tag.as_deref())
            }
            Event::SequenceStart(anchor, tag) => self.start(span, anchor, tag.as_deref(), false),
            Event::MappingStart(anchor, tag) => self.start(span, anchor, tag.as_deref(), true),
            Event::SequenceEnd | Event::MappingEnd => self.end(span.end),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn leaf(
        &mut self,
        span: Range<usize>,
        kind: YamlKind,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<(), YamlError> {
        self.finish(YamlNode {
            opening_end: span.end,
            span,
            kind,
            anchor: anchor_number(anchor),
            tag: tag.map(short_tag),
            is_complete: true,
        })
    }

    fn start(
        &mut self,
        span: Range<usize>,
        anchor: usize,
        tag: Option<&Tag>,
        is_map: bool,
    ) -> Result<(), YamlError> {
        let is_too_deep = self.unfinished.len() == self.limits.depth;
        self.unfinished.push(UnfinishedNode {
            span: span.clone(),
            anchor: anchor_number(anchor),
            tag: tag.map(short_tag),
            is_map,
            nodes: Vec::new(),
        });
        if is_too_deep { Err(YamlError::TooDeep(span)) } else { Ok(()) }
    }

    fn end(&mut self, end: usize) -> Result<(), YamlError> {
        match self.unfinished.pop() {
            Some(node) => {
                let node = self.collection(node, end, true);
                self.finish(node)
            }
            None => Ok(()),
        }
    }

    /// Closes the nodes that an error left open, and keeps them.
    fn close_unfinished(&mut self) {
        while let Some(node) = self.unfinished.pop() {
            let node = self.collection(node, 0, false);
            self.attach(node);
        }
    }

    fn collection(&self, node: UnfinishedNode, end: usize, is_complete: bool) -> YamlNode {
        let UnfinishedNode { span, anchor, tag, is_map, nodes } = node;
        let bracket = if is_map { '{' } else { '[' };
        // A block whose first key is written in brackets begins with a bracket, too.
        let flow = self.text[span.start..].starts_with(bracket)
            && nodes.first().is_none_or(|first| first.span.start != span.start);
        let kind = if is_map {
            YamlKind::Map { entries: pairs(nodes), flow }
        } else {
            YamlKind::List { items: nodes, flow }
        };
        YamlNode {
            opening_end: span.end,
            span: span.start..end.max(span.start),
            kind,
            anchor,
            tag,
            is_complete,
        }
    }

    fn finish(&mut self, node: YamlNode) -> Result<(), YamlError> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes {
            return Err(YamlError::TooManyNodes(node.span));
        }
        self.attach(node);
        Ok(())
    }

    /// Puts a node where it belongs.
    fn attach(&mut self, node: YamlNode) {
        match self.unfinished.last_mut() {
            Some(parent) => parent.nodes.push(node),
            None => {
                if let Some(root) = self.documents.last_mut() {
                    *root = Some(node);
                }
            }
        }
    }
}

fn anchor_number(anchor: usize) -> Option<usize> {
    (anchor != 0).then_some(anchor)
}

fn short_tag(tag: &Tag) -> String {
    tag.to_string().chars().take(TAG_MAX_CHARS).collect()
}

/// Keys with their values. A key whose value an error cut off has an absent one.
fn pairs(nodes: Vec<YamlNode>) -> Vec<(YamlNode, YamlNode)> {
    let mut pairs = Vec::with_capacity(nodes.len().div_ceil(2));
    let mut nodes = nodes.into_iter();
    while let Some(key) = nodes.next() {
        let value = nodes.next().unwrap_or_else(|| cut_off_value(key.span.end));
        pairs.push((key, value));
    }
    pairs
}

fn cut_off_value(at: usize) -> YamlNode {
    YamlNode {
        span: at..at,
        opening_end: at,
        kind: YamlKind::Scalar { text: String::new(), plain: true, block: false },
        anchor: None,
        tag: None,
        is_complete: false,
    }
}
