//! YAML as a tree with a place on every node.
//!
//! Built from the parser's events, so that a duplicate key is one problem among others. Depth and
//! size are bounded, and what would make the tree more than the text (anchors, aliases, tags,
//! several documents) is refused.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::context::Context;
use super::problem::quote;
use super::syntax;

/// How deep lists and mappings may be nested.
const MAX_DEPTH: usize = 64;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct TreeNode {
    /// In bytes of the file.
    pub(super) span: Range<usize>,
    /// What it is.
    pub(super) value: TreeValue,
}

/// A YAML value.
#[derive(Debug, Clone)]
pub(super) enum TreeValue {
    /// Text, still untyped.
    Scalar(Scalar),
    /// A list.
    List(Vec<TreeNode>),
    /// A mapping, without doubles, in the order of the file.
    Map(Vec<(TreeKey, TreeNode)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(super) struct TreeKey {
    /// In bytes of the file.
    pub(super) span: Range<usize>,
    /// Its text.
    pub(super) text: String,
}

/// A scalar's text, before and after substitution.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    /// As the parser read it.
    pub(super) raw: String,
    /// The same with `${NAME}` replaced.
    pub(super) text: String,
    /// Which part of `text` came from which part of `raw`; empty where they are the same.
    pub(super) pieces: Vec<TextPiece>,
    /// Whether it was written without quotes, so that `64` is a number.
    pub(super) plain: bool,
    /// Whether it was written as a block (`|`, `>`).
    pub(super) block: bool,
    /// Whether a substitution failed: reported, so that nothing more need be said of it.
    pub(super) broken: bool,
}

/// A run of a substituted text and what it was made of.
#[derive(Debug, Clone)]
pub(super) struct TextPiece {
    /// In bytes of [`Scalar::text`].
    pub(super) text: Range<usize>,
    /// In bytes of [`Scalar::raw`].
    pub(super) raw: Range<usize>,
    /// Whether the two are the same, byte for byte.
    pub(super) same: bool,
}

impl Scalar {
    /// Whether a part of it came from the environment.
    pub(super) fn substituted(&self) -> bool {
        self.pieces.iter().any(|piece| !piece.same)
    }

    /// Its text for a message, without anything from the environment.
    pub(super) fn shown(&self) -> String {
        quote(if self.substituted() { &self.raw } else { &self.text })
    }
}

/// Where lines begin, to turn the parser's line and column into bytes.
pub(crate) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
    /// The start of a line, a column of it, and that column's byte: places come nearly in order, so
    /// counting goes on from the last one. Counted from the start of its line, a file on one line
    /// takes time that grows with its square.
    last: Cell<(usize, usize, usize)>,
}

impl<'t> Lines<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let bytes = text.as_bytes();
        let ends = |at: &usize| {
            bytes[*at] == b'\n' || (bytes[*at] == b'\r' && bytes.get(at + 1) != Some(&b'\n'))
        };
        let starts =
            std::iter::once(0).chain((0..bytes.len()).filter(ends).map(|at| at + 1)).collect();
        Self { text, starts, last: Cell::new((0, 0, 0)) }
    }

    /// Columns are counted in characters from 0, lines from 1.
    pub(crate) fn byte(&self, mark: &Marker) -> usize {
        let Some(&start) = self.starts.get(mark.line().saturating_sub(1)) else {
            return self.text.len();
        };
        let line = &self.text[start..];
        let column = mark.col() + usize::from(start == 0 && line.starts_with('\u{feff}'));
        let at = match self.last.get() {
            (last_start, last_column, at) if last_start == start && last_column <= column => {
                self.forward(at, column - last_column)
            }
            // The parser puts some places a little before the one that it told last.
            (last_start, last_column, at)
                if last_start == start && last_column - column < column =>
            {
                self.back(at, last_column - column)
            }
            _ => self.forward(start, column),
        };
        self.last.set((start, column, at));
        at
    }

    /// The byte that stands `characters` after that at `from`.
    fn forward(&self, from: usize, characters: usize) -> usize {
        self.text[from..]
            .char_indices()
            .nth(characters)
            .map_or(self.text.len(), |(at, _)| from + at)
    }

    /// The byte that stands `characters`, at least one, before that at `from`.
    fn back(&self, from: usize, characters: usize) -> usize {
        self.text[..from].char_indices().rev().nth(characters - 1).map_or(0, |(at, _)| at)
    }

    /// Both ends of a span.
    pub(crate) fn bytes(&self, span: Span) -> Range<usize> {
        let start = self.byte(&span.start);
        start..self.byte(&span.end).max(start)
    }
}

/// The longest line that defines a prefix of tags, in bytes.
const MAX_TAG_DIRECTIVE: usize = 256;

/// The first line that defines a longer prefix of tags than anybody needs: the parser copies it for
/// every tag, so that a million tags with a prefix of megabytes would take days.
pub(crate) fn long_tag_directive(text: &str) -> Option<Range<usize>> {
    let text_without_mark = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = (text.len() - text_without_mark.len(), text_without_mark);
    let others = text.match_indices(['\n', '\r']).map(|(at, _)| (at + 1, &text[at + 1..]));
    let mut directives =
        std::iter::once(first).chain(others).filter(|(_, rest)| rest.starts_with("%TAG"));
    directives.find_map(|(start, rest)| {
        let length = rest
            .bytes()
            .take(MAX_TAG_DIRECTIVE + 1)
            .take_while(|byte| !matches!(byte, b'\n' | b'\r'))
            .count();
        (length > MAX_TAG_DIRECTIVE).then_some(start..start + "%TAG".len())
    })
}

/// A list or mapping that is still open.
enum OpenNode {
    List(usize, Vec<TreeNode>),
    Map {
        start: usize,
        entries: Vec<(TreeKey, TreeNode)>,
        known: HashMap<String, usize>,
        pending: Option<TreeKey>,
    },
}

impl OpenNode {
    fn map(start: usize) -> Self {
        Self::Map { start, entries: Vec::new(), known: HashMap::new(), pending: None }
    }
}

/// Reads one document; `None` if it is no YAML (the problem is reported).
pub(super) fn read(context: &mut Context<'_>) -> Option<TreeNode> {
    let text = context.text;
    if let Some(at) = long_tag_directive(text) {
        let (expected, hint) = ("keys and values only", "remove lines that begin with `%`");
        context.problem(at, "the prefix of a tag is too long", expected, hint);
        return None;
    }
    let lines = Lines::new(text);
    let mut builder = TreeBuilder { context, open: Vec::new(), root: None, documents: 0 };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                let span = lines.bytes(span);
                builder.event(event, span)?;
            }
            Err(error) => {
                let at = lines.byte(error.marker());
                syntax::report(builder.context, at, error.info());
                return None;
            }
        }
    }
    if builder.root.is_none() {
        let hint = "`bfb schema` prints what a domain file may say; the least is a name, \
                    a source and a version";
        builder.context.problem(
            0..0,
            "the file is empty",
            "`domain`, `sources` and `versions`",
            hint,
        );
    }
    builder.root
}

struct TreeBuilder<'b, 'a> {
    context: &'b mut Context<'a>,
    open: Vec<OpenNode>,
    root: Option<TreeNode>,
    documents: usize,
}

impl TreeBuilder<'_, '_> {
    /// `None`: there is no sense in reading on.
    fn event(&mut self, event: Event<'_>, span: Range<usize>) -> Option<()> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let (expected, hint) = ("one document", "write one file for each domain");
                    self.context.problem(span, "a second document begins here", expected, hint);
                    return None;
                }
            }
            Event::Alias(_) => {
                let (expected, hint) =
                    ("the value itself", "write the value out where it is needed");
                self.context.problem(span.clone(), "aliases are not supported", expected, hint);
                self.value(TreeNode { span, value: TreeValue::List(Vec::new()) });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.plain_only(&span, anchor, tag.is_some());
                self.value(scalar(text.into_owned(), style, span));
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain_only(&span, anchor, tag.is_some());
                self.start(OpenNode::List(span.start, Vec::new()), span)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.plain_only(&span, anchor, tag.is_some());
                self.start(OpenNode::map(span.start), span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(&span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Some(())
    }

    fn plain_only(&mut self, span: &Range<usize>, anchor: usize, tag: bool) {
        if anchor != 0 {
            let (expected, hint) = ("the value alone", "remove the `&name`");
            self.context.problem(span.clone(), "anchors are not supported", expected, hint);
        }
        if tag {
            let (expected, hint) =
                ("the value alone", "remove the `!tag`; quotes make a text of a number");
            self.context.problem(span.clone(), "tags are not supported", expected, hint);
        }
    }

    fn start(&mut self, open: OpenNode, span: Range<usize>) -> Option<()> {
        if self.open.len() == MAX_DEPTH {
            let (expected, hint) =
                (format!("at most {MAX_DEPTH} levels"), "no key of a domain file needs more");
            self.context.problem(span, "this is nested too deeply", expected, hint);
            return None;
        }
        self.open.push(open);
        Some(())
    }

    fn end(&mut self, span: &Range<usize>) {
        let node = match self.open.pop() {
            Some(OpenNode::List(start, items)) => {
                TreeNode { span: start..span.end.max(start), value: TreeValue::List(items) }
            }
            Some(OpenNode::Map { start, entries, .. }) => {
                TreeNode { span: start..span.end.max(start), value: TreeValue::Map(entries) }
            }
            None => return,
        };
        self.value(node);
    }

    /// Puts a finished node where it belongs.
    fn value(&mut self, mut node: TreeNode) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(OpenNode::List(_, items)) => items.push(node),
            Some(OpenNode::Map { entries, known, pending, .. }) => match pending.take() {
                None => *pending = Some(key(self.context, node)),
                Some(key) => {
                    if node.span.is_empty() {
                        node.span = key.span.clone();
                    }
                    if let Some(first) = known.get(&key.text) {
                        duplicate(self.context, *first, &key);
                    } else {
                        known.insert(key.text.clone(), key.span.start);
                        entries.push((key, node));
                    }
                }
            },
        }
    }
}

fn scalar(text: String, style: ScalarStyle, span: Range<usize>) -> TreeNode {
    let plain = style == ScalarStyle::Plain;
    let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
    TreeNode {
        span,
        value: TreeValue::Scalar(Scalar {
            raw: text.clone(),
            text,
            pieces: Vec::new(),
            plain,
            block,
            broken: false,
        }),
    }
}

fn key(context: &mut Context<'_>, node: TreeNode) -> TreeKey {
    let span = node.span;
    let TreeValue::Scalar(scalar) = node.value else {
        let hint = "put it in quotes if it is meant as a name";
        context.problem(span.clone(), "a list or mapping cannot be a key", "a name", hint);
        return TreeKey { text: format!("\0{}", span.start), span };
    };
    // The parser lets some of them pass.
    syntax::tab_before(context, span.start);
    TreeKey { span, text: scalar.raw }
}

fn duplicate(context: &mut Context<'_>, first: usize, second: &TreeKey) {
    if context.only_counts() {
        return;
    }
    let line = context.line(first);
    let message = format!("{} is given twice", quote(&second.text));
    let hint = format!("the first one is on line {line}; remove one of the two");
    context.problem(second.span.clone(), message, "each key once", hint);
}
