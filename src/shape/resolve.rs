//! From the parser's terms to the tree that a run walks.
//!
//! Every name is resolved here, so that a forbidden shape is refused before it runs: unknown names,
//! functions that are not on the list, and definitions that call themselves. The result is a graph
//! of calls without cycles.

use super::number::Num;
use super::program::{AccessStep, Code, Constant, Def, Expr, ExprKind, FoldExpr, Math};
use super::syntax::errors::MAX_NESTING;
use super::syntax::term::{self, BinaryOp, PathPart, Term};
use super::{CompileError, syntax};

mod binding;
mod errors;
mod literal_checks;
mod literals;
mod scope;

use literals::are_distinct_keys;
use scope::ScopeName;

/// How many variables, labels and filters may be in scope.
const MAX_SCOPE: usize = 256;

type Resolved<T> = Result<T, CompileError>;

/// Resolves a program; the slices in `term` are of `text`.
pub(super) fn program(text: &str, term: &Term<'_>) -> Resolved<Code> {
    let prelude = syntax::prelude();
    let mut resolver = NameResolver {
        text,
        is_prelude: true,
        depth: 0,
        bound_count: 0,
        scope: Vec::new(),
        defs: Vec::new(),
        texts: Vec::new(),
        checked_patterns: Vec::new(),
        prelude_defs: 0,
    };
    if let Term::Define(definitions, _) = &prelude {
        for definition in definitions {
            resolver.def(definition)?;
        }
    }
    resolver.is_prelude = false;
    resolver.prelude_defs = resolver.defs.len();
    let main = resolver.expr(term)?;
    Ok(Code { texts: resolver.texts, defs: resolver.defs, main })
}

struct NameResolver<'s> {
    text: &'s str,
    /// True while the prelude is read, which may use functions that programs may not.
    is_prelude: bool,
    depth: usize,
    /// How many of `scope` a run binds.
    bound_count: usize,
    scope: Vec<ScopeName<'s>>,
    defs: Vec<Def>,
    texts: Vec<Box<str>>,
    /// Patterns that have been judged, with their flags.
    checked_patterns: Vec<(String, String)>,
    /// How many definitions are the prelude's.
    prelude_defs: usize,
}

impl<'s> NameResolver<'s> {
    fn expr(&mut self, term: &Term<'s>) -> Resolved<Expr> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(self.too_deep());
        }
        let kind = self.kind(term)?;
        self.depth -= 1;
        let one = kind.yields_one(&self.defs);
        Ok(Expr { kind, yields_one: one })
    }

    fn boxed(&mut self, term: &Term<'s>) -> Resolved<Box<Expr>> {
        self.expr(term).map(Box::new)
    }

    fn exprs<'a>(&mut self, terms: impl IntoIterator<Item = &'a Term<'s>>) -> Resolved<Vec<Expr>>
    where
        's: 'a,
    {
        terms.into_iter().map(|term| self.expr(term)).collect()
    }

    fn optional_expr(&mut self, term: Option<&Term<'s>>) -> Resolved<Option<Box<Expr>>> {
        term.map(|term| self.boxed(term)).transpose()
    }

    fn kind(&mut self, term: &Term<'s>) -> Resolved<ExprKind> {
        Ok(match term {
            Term::Id => ExprKind::Id,
            Term::Recurse => ExprKind::Recurse,
            Term::Null => ExprKind::Const(Constant::Null),
            Term::Bool(b) => ExprKind::Const(Constant::Bool(*b)),
            Term::Number(n) => ExprKind::Const(self.number(&Num::literal(n))),
            Term::Text(text) => self.string(text.format, &text.parts)?,
            Term::Location(line) => self.location(*line),
            Term::Array(None) => ExprKind::Const(Constant::NoItems),
            Term::Array(Some(term)) => ExprKind::Array(self.boxed(term)?),
            Term::Object(members) if members.is_empty() => ExprKind::Const(Constant::NoMembers),
            Term::Object(members) => {
                let members = members.iter().map(|(key, value)| self.member(key, value.as_ref()));
                let members = members.collect::<Resolved<Vec<_>>>()?;
                let distinct = are_distinct_keys(&members, &self.texts);
                ExprKind::Object(members, distinct)
            }
            Term::Negation(term) => self.negation(term)?,
            Term::Pipe(stages) => ExprKind::Pipe(self.exprs(stages)?),
            Term::Comma(items) => ExprKind::Comma(self.exprs(items)?),
            Term::Bind(of, patterns, body) => {
                let of = self.boxed(of)?;
                let mark = self.scope_mark();
                let binding = self.binding(patterns)?;
                let body = self.boxed(body)?;
                self.restore_scope(mark);
                ExprKind::Bind(of, binding, body)
            }
            Term::Binary(left, op, right) => self.binary(left, *op, right)?,
            Term::Label(name, body) => {
                let mark = self.scope_mark();
                self.bind(ScopeName::Label(name))?;
                let body = self.boxed(body)?;
                self.restore_scope(mark);
                ExprKind::Label(body)
            }
            Term::Break(name) => ExprKind::Break(self.binding_index(
                name,
                |n| matches!(n, ScopeName::Label(l) if l == name),
                "label",
            )?),
            Term::Fold(fold) => self.fold(fold)?,
            Term::Try(body, handler) => {
                ExprKind::Try(self.boxed(body)?, self.optional_expr(handler.as_deref())?)
            }
            Term::If(cases, or) => {
                let cases = cases.iter().map(|(if_, then)| Ok((self.expr(if_)?, self.expr(then)?)));
                ExprKind::If(cases.collect::<Resolved<_>>()?, self.optional_expr(or.as_deref())?)
            }
            Term::Define(definitions, body) => {
                let mark = self.scope_mark();
                for definition in definitions {
                    self.def(definition)?;
                }
                let body = self.expr(body)?;
                self.restore_scope(mark);
                body.kind
            }
            Term::Call(name, args) => self.call(name, args)?,
            Term::Variable(name) => ExprKind::Var(self.variable(name)?),
            Term::Path(of, parts) => {
                let of = self.boxed(of)?;
                let parts = parts.iter().map(|(part, optional)| Ok((self.part(part)?, *optional)));
                ExprKind::Path(of, parts.collect::<Resolved<_>>()?)
            }
        })
    }

    /// A negated term; a negated number is a constant.
    fn negation(&mut self, term: &Term<'s>) -> Resolved<ExprKind> {
        Ok(match self.expr(term)? {
            Expr { kind: ExprKind::Const(constant), .. } if constant.is_number() => {
                let number = constant.number(&self.texts).negated();
                ExprKind::Const(self.number(&number))
            }
            other => ExprKind::Neg(Box::new(other)),
        })
    }

    fn part(&mut self, part: &PathPart<'s>) -> Resolved<AccessStep> {
        Ok(match part {
            PathPart::Each => AccessStep::Each,
            PathPart::Index(at) => AccessStep::Index(self.expr(at)?),
            PathPart::Slice(from, to) => {
                let mut bound =
                    |term: &Option<Term<'s>>| term.as_ref().map(|term| self.expr(term)).transpose();
                AccessStep::Slice(bound(from)?, bound(to)?)
            }
        })
    }

    fn binary(&mut self, left: &Term<'s>, op: BinaryOp, right: &Term<'s>) -> Resolved<ExprKind> {
        let left = self.expr(left)?;
        let right = self.expr(right)?;
        Ok(match op {
            BinaryOp::Math(op) => ExprKind::Math(op, Box::new([left, right])),
            BinaryOp::Compare(op) => ExprKind::Cmp(op, Box::new([left, right])),
            op => {
                let left = Box::new(left);
                let right = Box::new(right);
                match op {
                    BinaryOp::Alternative => ExprKind::Alt(left, right),
                    BinaryOp::Or => ExprKind::Logic(left, true, right),
                    BinaryOp::And => ExprKind::Logic(left, false, right),
                    BinaryOp::Update => ExprKind::Update(left, right),
                    BinaryOp::UpdateMath(op) => ExprKind::UpdateWith(left, Some(op), right),
                    BinaryOp::UpdateAlternative => ExprKind::UpdateWith(left, None::<Math>, right),
                    _ => ExprKind::Assign(left, right),
                }
            }
        })
    }

    fn fold(&mut self, fold: &term::Fold<'s>) -> Resolved<ExprKind> {
        let (init, update, extract) = match (fold.name, fold.args.as_slice()) {
            (_, [init, update]) => (init, update, None),
            ("foreach", [init, update, extract]) => (init, update, Some(extract)),
            (name, args) => return Err(self.wrong_argument_count(name, args.len())),
        };
        let over = self.expr(&fold.over)?;
        let init = self.expr(init)?;
        let mark = self.scope_mark();
        let pattern = self.binding(&fold.patterns)?;
        let update = self.expr(update)?;
        let extract = self.optional_expr(extract)?;
        self.restore_scope(mark);
        let resolved = Box::new(FoldExpr { over, pattern, init, update });
        Ok(if fold.name == "reduce" {
            ExprKind::Reduce(resolved)
        } else {
            ExprKind::Foreach(resolved, extract)
        })
    }
}
