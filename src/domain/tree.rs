//! A domain file's values with a place on every one: the YAML tree, cut down to the YAML that a
//! domain file may hold.

use std::ops::Range;

use crate::diagnostics::quote;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct TreeNode {
    /// In bytes of the file.
    pub(super) span: Range<usize>,
    /// Its value.
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
    /// Whether a substitution failed: that is reported, so no other problem is reported of it.
    pub(super) broken: bool,
}

/// A run of a substituted text and its origin.
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
