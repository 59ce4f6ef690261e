//! The parser's result: jq's grammar as a tree. Its slices are of the program's text, so that each
//! problem can name its place.

use super::super::program::{Cmp, Math};

/// One expression.
#[derive(Debug)]
pub(in crate::shape) enum Term<'s> {
    /// `.`
    Id,
    /// `..`
    Recurse,
    Null,
    Bool(bool),
    Number(&'s str),
    Text(TextTerm<'s>),
    Array(Option<Box<Self>>),
    Object(Vec<(Self, Option<Self>)>),
    Negation(Box<Self>),
    Pipe(Vec<Self>),
    Comma(Vec<Self>),
    /// `of as pattern ?// pattern | body`
    Bind(Box<Self>, Vec<Pattern<'s>>, Box<Self>),
    Binary(Box<Self>, BinaryOp, Box<Self>),
    Label(&'s str, Box<Self>),
    Break(&'s str),
    Fold(Box<Fold<'s>>),
    Try(Box<Self>, Option<Box<Self>>),
    If(Vec<(Self, Self)>, Option<Box<Self>>),
    Define(Vec<Definition<'s>>, Box<Self>),
    Call(&'s str, Vec<Self>),
    Variable(&'s str),
    /// `$__loc__`, with its line.
    Location(usize),
    /// The beginning of the path, and its parts; a part's flag: it ends in `?`.
    Path(Box<Self>, Vec<(PathPart<'s>, bool)>),
}

/// A string.
#[derive(Debug)]
pub(in crate::shape) struct TextTerm<'s> {
    /// As it is written, with its quotes.
    pub(in crate::shape) source_text: &'s str,
    /// The format before it.
    pub(in crate::shape) format: Option<&'s str>,
    pub(in crate::shape) parts: Vec<TextPart<'s>>,
}

/// `reduce` or `foreach`.
#[derive(Debug)]
pub(in crate::shape) struct Fold<'s> {
    pub(in crate::shape) name: &'s str,
    pub(in crate::shape) over: Term<'s>,
    pub(in crate::shape) patterns: Vec<Pattern<'s>>,
    pub(in crate::shape) args: Vec<Term<'s>>,
}

/// A part of a string.
#[derive(Debug)]
pub(in crate::shape) enum TextPart<'s> {
    Plain(&'s str),
    Char(char),
    Value(Term<'s>),
}

/// A step of a path.
#[derive(Debug)]
pub(in crate::shape) enum PathPart<'s> {
    Each,
    Index(Term<'s>),
    Slice(Option<Term<'s>>, Option<Term<'s>>),
}

/// The patterns after `as`.
#[derive(Debug)]
pub(in crate::shape) enum Pattern<'s> {
    Variable(&'s str),
    Items(Vec<Self>),
    Members(Vec<(Term<'s>, Self)>),
}

/// `def name(args): body;`
#[derive(Debug)]
pub(in crate::shape) struct Definition<'s> {
    pub(in crate::shape) name: &'s str,
    pub(in crate::shape) args: Vec<&'s str>,
    pub(in crate::shape) body: Term<'s>,
}

/// The operators between two expressions, beside `|` and `,`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shape) enum BinaryOp {
    Alternative,
    Or,
    And,
    Math(Math),
    Compare(Cmp),
    Assign,
    Update,
    UpdateMath(Math),
    UpdateAlternative,
}

/// How an operator stands to others of its rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Associativity {
    Left,
    Right,
    /// Two of them need brackets.
    Never,
}

impl BinaryOp {
    /// The operator that is written so.
    pub(super) fn from_symbol(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "//" => Self::Alternative,
            "or" => Self::Or,
            "and" => Self::And,
            "+" => Self::Math(Math::Add),
            "-" => Self::Math(Math::Sub),
            "*" => Self::Math(Math::Mul),
            "/" => Self::Math(Math::Div),
            "%" => Self::Math(Math::Rem),
            "==" => Self::Compare(Cmp::Eq),
            "!=" => Self::Compare(Cmp::Ne),
            "<" => Self::Compare(Cmp::Lt),
            "<=" => Self::Compare(Cmp::Le),
            ">" => Self::Compare(Cmp::Gt),
            ">=" => Self::Compare(Cmp::Ge),
            "=" => Self::Assign,
            "|=" => Self::Update,
            "+=" => Self::UpdateMath(Math::Add),
            "-=" => Self::UpdateMath(Math::Sub),
            "*=" => Self::UpdateMath(Math::Mul),
            "/=" => Self::UpdateMath(Math::Div),
            "%=" => Self::UpdateMath(Math::Rem),
            "//=" => Self::UpdateAlternative,
            _ => return None,
        })
    }

    /// jq's precedence: the higher binds tighter.
    pub(super) fn precedence(self) -> (u8, Associativity) {
        match self {
            Self::Alternative => (1, Associativity::Right),
            Self::Assign | Self::Update | Self::UpdateMath(_) | Self::UpdateAlternative => {
                (2, Associativity::Never)
            }
            Self::Or => (3, Associativity::Left),
            Self::And => (4, Associativity::Left),
            Self::Compare(_) => (5, Associativity::Never),
            Self::Math(Math::Add | Math::Sub) => (6, Associativity::Left),
            Self::Math(Math::Mul | Math::Div | Math::Rem) => (7, Associativity::Left),
        }
    }
}
