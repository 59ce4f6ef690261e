//! Strings, numbers and the members of objects.

use std::collections::HashSet;

use super::super::number::Num;
use super::super::object::UNINDEXED_MEMBERS_MAX;
use super::super::program::{AccessStep, Constant, Def, Expr, ExprKind, StringPiece};
use super::super::syntax::errors::{error, span};
use super::super::syntax::term::{Term, TextPart};
use super::super::text::Format;
use super::{NameResolver, Resolved};

/// Whether all keys are constants, few, and differ.
pub(super) fn are_distinct_keys(members: &[(Expr, Expr)], texts: &[Box<str>]) -> bool {
    let mut keys = HashSet::new();
    let is_new = |(key, _): &(Expr, Expr)| match key.kind {
        ExprKind::Const(Constant::Text(at)) => keys.insert(&texts[at]),
        _ => false,
    };
    members.len() <= UNINDEXED_MEMBERS_MAX && members.iter().all(is_new)
}

impl Constant {
    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Int(_) | Self::Float(_) | Self::Digits(_))
    }

    pub(super) fn number(self, texts: &[Box<str>]) -> Num {
        match self {
            Self::Int(i) => Num::Int(i),
            Self::Float(f) => Num::Float(f),
            Self::Digits(at) => Num::read(&texts[at]),
            _ => Num::Float(f64::NAN),
        }
    }
}

impl<'s> NameResolver<'s> {
    pub(super) fn string(
        &mut self,
        format: Option<&'s str>,
        parts: &[TextPart<'s>],
    ) -> Resolved<ExprKind> {
        let format = match format {
            None => Format::Text,
            Some(name) => Format::named(name).ok_or_else(|| self.unknown_format(name))?,
        };
        let mut pieces: Vec<StringPiece> = Vec::new();
        for part in parts {
            let plain = match part {
                TextPart::Plain(text) => (*text).to_owned(),
                TextPart::Char(c) => c.to_string(),
                TextPart::Value(term) => {
                    pieces.push(StringPiece::Value(self.expr(term)?));
                    continue;
                }
            };
            match pieces.last_mut() {
                Some(StringPiece::Plain(before)) => before.push_str(&plain),
                _ => pieces.push(StringPiece::Plain(plain)),
            }
        }
        Ok(match pieces.as_slice() {
            [] => ExprKind::Const(self.constant("")),
            [StringPiece::Plain(text)] => ExprKind::Const(self.constant(text)),
            _ => ExprKind::Text(format, pieces),
        })
    }

    pub(super) fn constant(&mut self, text: &str) -> Constant {
        self.texts.push(text.into());
        Constant::Text(self.texts.len() - 1)
    }

    pub(super) fn number(&mut self, number: &Num) -> Constant {
        match number {
            Num::Int(i) => Constant::Int(*i),
            Num::Float(f) => Constant::Float(*f),
            Num::Short(_) | Num::Long(_) => {
                self.texts.push(number.source_text().unwrap_or_default().into());
                Constant::Digits(self.texts.len() - 1)
            }
        }
    }

    pub(super) fn member(
        &mut self,
        key: &Term<'s>,
        value: Option<&Term<'s>>,
    ) -> Resolved<(Expr, Expr)> {
        Ok(match (key, value) {
            (Term::Variable(name), None) => {
                let key_of = ExprKind::Const(self.constant(&name[1..]));
                (Expr { kind: key_of, yields_one: true }, self.expr(key)?)
            }
            (key, None) => {
                let key = self.expr(key)?;
                let (key, again) = self.share_expr(key);
                let id = Box::new(Expr { kind: ExprKind::Id, yields_one: true });
                let value = ExprKind::Path(id, vec![(AccessStep::Index(again), false)]);
                let one = value.yields_one(&self.defs);
                (key, Expr { kind: value, yields_one: one })
            }
            (key, Some(value)) => (self.key(key)?, self.expr(value)?),
        })
    }

    /// The name of a member, where it stands before a `:`.
    pub(super) fn key(&mut self, key: &Term<'s>) -> Resolved<Expr> {
        let resolved = self.expr(key)?;
        let what = match resolved.kind {
            ExprKind::Const(Constant::Null) => "null",
            ExprKind::Const(Constant::Bool(_)) => "a boolean",
            ExprKind::Const(constant) if constant.is_number() => "a number",
            ExprKind::Const(Constant::NoItems) => "an array",
            ExprKind::Const(Constant::NoMembers) => "an object",
            _ => return Ok(resolved),
        };
        let at = match key {
            Term::Number(n) => span(self.text, n),
            _ => 0..self.text.len(),
        };
        let message = format!("{what} cannot be the name of a member");
        Err(error(at, message, "a text", "write it in double quotes, or `(.a | tostring)`"))
    }

    /// `$__loc__`
    pub(super) fn location(&mut self, line: usize) -> ExprKind {
        let expr = |constant| Expr { kind: ExprKind::Const(constant), yields_one: true };
        let file = (expr(self.constant("file")), expr(self.constant("<top-level>")));
        let line = (
            expr(self.constant("line")),
            expr(Constant::Int(i64::try_from(line).unwrap_or(i64::MAX))),
        );
        ExprKind::Object(vec![file, line], true)
    }

    /// An expression for two places. It is not resolved twice: such nesting would take time and
    /// memory exponential in its depth.
    pub(super) fn share_expr(&mut self, expr: Expr) -> (Expr, Expr) {
        let one = expr.yields_one;
        if let ExprKind::Const(constant) = expr.kind {
            return (expr, Expr { kind: ExprKind::Const(constant), yields_one: one });
        }
        let def = self.defs.len();
        self.defs.push(Def { args: Vec::new(), body: expr });
        let call = || Expr { kind: ExprKind::Call(def, 0, Vec::new()), yields_one: one };
        (call(), call())
    }
}
