//! The tree that a run walks: names resolved to places, long chains laid flat, constants built.

use std::cmp::Ordering;

use super::builtins::Builtin;
use super::text::Format;

/// Arithmetic of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Math {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

/// A comparison of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// A resolved program.
#[derive(Debug)]
pub(super) struct Code {
    /// The strings and numbers that `Constant`s name.
    pub(super) texts: Vec<Box<str>>,
    pub(super) defs: Vec<Def>,
    pub(super) main: Expr,
}

/// One definition. It calls only definitions that come before it.
#[derive(Debug)]
pub(super) struct Def {
    pub(super) args: Vec<Argument>,
    pub(super) body: Expr,
}

/// How a definition takes an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    Filter,
    Value,
    /// As a value `$x`, and as the filter `x` beside it, as jq does.
    Both,
}

/// One expression.
#[derive(Debug)]
pub(super) struct Expr {
    pub(super) kind: ExprKind,
    /// It yields exactly one value, or fails.
    pub(super) yields_one: bool,
}

/// An expression. Numbers of variables, filters and labels count from the innermost binding.
#[derive(Debug)]
pub(super) enum ExprKind {
    Id,
    Recurse,
    Const(Constant),
    Text(Format, Vec<StringPiece>),
    Array(Box<Expr>),
    /// Members; the flag: their keys are constants that all differ.
    Object(Vec<(Expr, Expr)>, bool),
    Neg(Box<Expr>),
    Pipe(Vec<Expr>),
    Bind(Box<Expr>, Binding, Box<Expr>),
    Comma(Vec<Expr>),
    Alt(Box<Expr>, Box<Expr>),
    /// `and` where false ends it, `or` where true does.
    Logic(Box<Expr>, bool, Box<Expr>),
    Math(Math, Box<[Expr; 2]>),
    Cmp(Cmp, Box<[Expr; 2]>),
    Assign(Box<Expr>, Box<Expr>),
    Update(Box<Expr>, Box<Expr>),
    /// `None` is `//=`.
    UpdateWith(Box<Expr>, Option<Math>, Box<Expr>),
    Label(Box<Expr>),
    Break(usize),
    Reduce(Box<FoldExpr>),
    Foreach(Box<FoldExpr>, Option<Box<Expr>>),
    Try(Box<Expr>, Option<Box<Expr>>),
    If(Vec<(Expr, Expr)>, Option<Box<Expr>>),
    Var(usize),
    Filter(usize),
    /// A definition, how many of the caller's bindings it does not see, and its arguments.
    Call(usize, usize, Vec<Expr>),
    Builtin(&'static Builtin, Vec<Expr>),
    Path(Box<Expr>, Vec<(AccessStep, bool)>),
}

/// A value of the program's text. Values belong to the thread of their run, so each run makes its
/// own when it first meets them; places are those in `Code::texts`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Constant {
    Null,
    Bool(bool),
    Text(usize),
    Int(i64),
    Float(f64),
    /// A number as it is written.
    Digits(usize),
    NoItems,
    NoMembers,
}

/// The parts that `reduce` and `foreach` share.
#[derive(Debug)]
pub(super) struct FoldExpr {
    pub(super) over: Expr,
    pub(super) pattern: Binding,
    pub(super) init: Expr,
    pub(super) update: Expr,
}

/// One step of a path; the flag beside it: it ends in `?`.
#[derive(Debug)]
pub(super) enum AccessStep {
    Each,
    Index(Expr),
    Slice(Option<Expr>, Option<Expr>),
}

/// The pattern between `as` and the body.
#[derive(Debug)]
pub(super) enum Binding {
    One(BindPattern),
    /// `pattern ?// pattern`: the first one with which nothing fails is taken. The variables of all
    /// are bound.
    Any(Vec<Alternative>),
}

/// One of several patterns.
#[derive(Debug)]
pub(super) struct Alternative {
    pub(super) pattern: BindPattern,
    /// For each variable of all patterns where this one binds it, counted from the innermost.
    pub(super) places: Vec<Option<usize>>,
}

/// A pattern that takes a value apart.
#[derive(Debug)]
pub(super) enum BindPattern {
    Var,
    Items(Vec<BindPattern>),
    Members(Vec<(Expr, BindPattern)>),
}

/// A part of a string with `\(…)`.
#[derive(Debug)]
pub(super) enum StringPiece {
    Plain(String),
    Value(Expr),
}

impl Cmp {
    /// Whether it holds of two values that stand so to one another.
    pub(super) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::Ne => order.is_ne(),
            Self::Lt => order.is_lt(),
            Self::Le => order.is_le(),
            Self::Gt => order.is_gt(),
            Self::Ge => order.is_ge(),
        }
    }
}

impl Binding {
    fn yields_one(&self) -> bool {
        matches!(self, Self::One(pattern) if pattern.yields_one())
    }
}

impl BindPattern {
    fn yields_one(&self) -> bool {
        match self {
            Self::Var => true,
            Self::Items(items) => items.iter().all(Self::yields_one),
            Self::Members(members) => {
                members.iter().all(|(key, pattern)| key.yields_one && pattern.yields_one())
            }
        }
    }
}

impl AccessStep {
    fn yields_one(&self) -> bool {
        match self {
            Self::Each => false,
            Self::Index(at) => at.yields_one,
            Self::Slice(from, to) => [from, to].into_iter().flatten().all(|e| e.yields_one),
        }
    }
}

impl ExprKind {
    /// Whether this yields exactly one value wherever it does not fail; `defs` are those that it
    /// may call.
    pub(super) fn yields_one(&self, defs: &[Def]) -> bool {
        match self {
            Self::Id | Self::Const(_) | Self::Array(_) | Self::Update(..) | Self::Var(_) => true,
            Self::Recurse
            | Self::Comma(_)
            | Self::Label(_)
            | Self::Break(_)
            | Self::Foreach(..)
            | Self::Try(..)
            | Self::Filter(_) => false,
            Self::Text(_, pieces) => {
                pieces.iter().all(|p| matches!(p, StringPiece::Plain(_)) || p.yields_one())
            }
            Self::Object(members, _) => members.iter().all(|(k, v)| k.yields_one && v.yields_one),
            Self::Neg(e) => e.yields_one,
            Self::Pipe(stages) => stages.iter().all(|e| e.yields_one),
            Self::Bind(xs, pattern, body) => {
                xs.yields_one && pattern.yields_one() && body.yields_one
            }
            Self::Alt(l, r) | Self::Logic(l, _, r) => l.yields_one && r.yields_one,
            Self::Math(_, sides) | Self::Cmp(_, sides) => sides.iter().all(|e| e.yields_one),
            Self::Assign(_, value) | Self::UpdateWith(_, _, value) => value.yields_one,
            Self::Reduce(fold) => fold.init.yields_one,
            Self::If(cases, or) => {
                cases.iter().all(|(c, t)| c.yields_one && t.yields_one)
                    && or.as_ref().is_none_or(|or| or.yields_one)
            }
            Self::Call(def, _, args) => {
                let def = &defs[*def];
                def.body.yields_one
                    && args
                        .iter()
                        .zip(&def.args)
                        .all(|(arg, taken)| arg.yields_one || *taken == Argument::Filter)
            }
            Self::Builtin(builtin, args) => builtin.yields_one(args),
            Self::Path(of, parts) => {
                of.yields_one && parts.iter().all(|(part, optional)| part.yields_one() && !optional)
            }
        }
    }
}

impl StringPiece {
    fn yields_one(&self) -> bool {
        matches!(self, Self::Value(e) if e.yields_one)
    }
}
