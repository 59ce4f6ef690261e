//! From jaq's terms to the tree that a run walks.
//!
//! Every name is resolved here, so that what a shape may not do is refused before it runs: unknown names, functions that
//! are not on the list, and definitions that call themselves. What is left is a graph of calls without cycles.

use jaq_core::load::parse::{self, BinaryOp, Term};
use jaq_core::{ops, path};

use super::number::Num;
use super::program::{Code, Constant, Def, Expr, Fold, Kind, Part, Pattern};
use super::{CompileError, syntax};

mod faults;
mod literals;
mod scope;

use literals::differ;
use scope::Name;

/// How deep terms may nest; a chain of `|` or of `,` counts once.
const MAX_NESTING: usize = 256;
/// How many variables, labels and filters may be in scope.
const MAX_SCOPE: usize = 256;

type Resolved<T> = Result<T, CompileError>;

/// Resolves a program; the slices in `term` are of `text`.
pub(super) fn program(text: &str, term: &Term<&str>) -> Resolved<Code> {
    let prelude = syntax::prelude();
    let mut resolver =
        Resolver { text, ours: true, depth: 0, bound: 0, scope: Vec::new(), defs: Vec::new(), texts: Vec::new() };
    for def in &prelude {
        resolver.def(def)?;
    }
    resolver.ours = false;
    let main = resolver.expr(term)?;
    Ok(Code { texts: resolver.texts, defs: resolver.defs, main })
}

struct Resolver<'s> {
    text: &'s str,
    /// While the prelude is read, which may use what programs may not.
    ours: bool,
    depth: usize,
    /// How many of `scope` a run binds.
    bound: usize,
    scope: Vec<Name<'s>>,
    defs: Vec<Def>,
    texts: Vec<Box<str>>,
}

impl<'s> Resolver<'s> {
    fn expr(&mut self, term: &Term<&'s str>) -> Resolved<Expr> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(self.too_deep());
        }
        let kind = self.kind(term)?;
        self.depth -= 1;
        let one = kind.one(&self.defs);
        Ok(Expr { kind, one })
    }

    fn boxed(&mut self, term: &Term<&'s str>) -> Resolved<Box<Expr>> {
        self.expr(term).map(Box::new)
    }

    fn exprs<'a>(&mut self, terms: impl IntoIterator<Item = &'a Term<&'s str>>) -> Resolved<Vec<Expr>>
    where
        's: 'a,
    {
        terms.into_iter().map(|term| self.expr(term)).collect()
    }

    fn maybe(&mut self, term: Option<&Term<&'s str>>) -> Resolved<Option<Box<Expr>>> {
        term.map(|term| self.boxed(term)).transpose()
    }

    fn kind(&mut self, term: &Term<&'s str>) -> Resolved<Kind> {
        Ok(match term {
            Term::Id => Kind::Id,
            Term::Recurse => Kind::Recurse,
            Term::Num(n) => Kind::Const(self.number(&Num::literal(n))),
            Term::Str(format, parts) => self.string(*format, parts)?,
            Term::Arr(None) => Kind::Const(Constant::NoItems),
            Term::Arr(Some(term)) => Kind::Array(self.boxed(term)?),
            Term::Obj(members) if members.is_empty() => Kind::Const(Constant::NoMembers),
            Term::Obj(members) => {
                let members = members.iter().map(|(key, value)| self.member(key, value.as_ref()));
                let members = members.collect::<Resolved<Vec<_>>>()?;
                let distinct = differ(&members, &self.texts);
                Kind::Object(members, distinct)
            }
            Term::Neg(term) => match self.expr(term)? {
                Expr { kind: Kind::Const(constant), .. } if constant.is_number() => {
                    let number = constant.number(&self.texts).negated();
                    Kind::Const(self.number(&number))
                }
                other => Kind::Neg(Box::new(other)),
            },
            Term::BinOp(left, op, right) => self.binary(left, op, right)?,
            Term::Label(name, body) => {
                let mark = self.mark();
                self.bind(Name::Label(name))?;
                let body = self.boxed(body)?;
                self.forget(mark);
                Kind::Label(body)
            }
            Term::Break(name) => {
                Kind::Break(self.place(name, |n| matches!(n, Name::Label(l) if l == name), "label")?)
            }
            Term::Fold(name, over, pattern, args) => self.fold(name, over, pattern, args)?,
            Term::TryCatch(body, handler) => Kind::Try(self.boxed(body)?, self.maybe(handler.as_deref())?),
            Term::IfThenElse(cases, or) => {
                let cases = cases.iter().map(|(if_, then)| Ok((self.expr(if_)?, self.expr(then)?)));
                Kind::If(cases.collect::<Resolved<_>>()?, self.maybe(or.as_deref())?)
            }
            Term::Def(defs, body) => {
                let mark = self.mark();
                for def in defs {
                    self.def(def)?;
                }
                let body = self.expr(body)?;
                self.forget(mark);
                body.kind
            }
            Term::Call(name, args) => self.call(name, args)?,
            Term::Var(name) => Kind::Var(self.variable(name)?),
            Term::Path(of, path) => {
                let of = self.boxed(of)?;
                let parts = path.0.iter().map(|(part, opt)| Ok((self.part(part)?, matches!(opt, path::Opt::Optional))));
                Kind::Path(of, parts.collect::<Resolved<_>>()?)
            }
        })
    }

    fn part(&mut self, part: &path::Part<Term<&'s str>>) -> Resolved<Part> {
        Ok(match part {
            path::Part::Index(at) => Part::Index(self.expr(at)?),
            path::Part::Range(None, None) => Part::Each,
            path::Part::Range(from, to) => {
                let mut bound = |term: &Option<Term<_>>| term.as_ref().map(|term| self.expr(term)).transpose();
                Part::Slice(bound(from)?, bound(to)?)
            }
        })
    }

    fn binary(&mut self, left: &Term<&'s str>, op: &BinaryOp<&'s str>, right: &Term<&'s str>) -> Resolved<Kind> {
        let both = |this: &mut Self| Ok::<_, CompileError>((this.boxed(left)?, this.boxed(right)?));
        Ok(match op {
            BinaryOp::Pipe(None) => {
                let mut stages = vec![left];
                let mut rest = right;
                while let Term::BinOp(next, BinaryOp::Pipe(None), after) = rest {
                    stages.push(next);
                    rest = after;
                }
                stages.push(rest);
                Kind::Pipe(self.exprs(stages)?)
            }
            BinaryOp::Pipe(Some(pattern)) => {
                let of = self.boxed(left)?;
                let mark = self.mark();
                let pattern = self.pattern(pattern)?;
                let body = self.boxed(right)?;
                self.forget(mark);
                Kind::Bind(of, pattern, body)
            }
            BinaryOp::Comma => {
                let mut items = vec![right];
                let mut rest = left;
                while let Term::BinOp(before, BinaryOp::Comma, next) = rest {
                    items.push(next);
                    rest = before;
                }
                items.push(rest);
                Kind::Comma(self.exprs(items.into_iter().rev())?)
            }
            BinaryOp::Alt => both(self).map(|(l, r)| Kind::Alt(l, r))?,
            BinaryOp::Or => both(self).map(|(l, r)| Kind::Logic(l, true, r))?,
            BinaryOp::And => both(self).map(|(l, r)| Kind::Logic(l, false, r))?,
            BinaryOp::Math(op) => both(self).map(|(l, r)| Kind::Math(*op, Box::new([*l, *r])))?,
            BinaryOp::Cmp(op) => both(self).map(|(l, r)| Kind::Cmp(*op, Box::new([*l, *r])))?,
            BinaryOp::Assign => both(self).map(|(l, r)| Kind::Assign(l, r))?,
            BinaryOp::Update => both(self).map(|(l, r)| Kind::Update(l, r))?,
            BinaryOp::UpdateMath(op) => both(self).map(|(l, r)| Kind::UpdateWith(l, Some(*op), r))?,
            BinaryOp::UpdateAlt => both(self).map(|(l, r)| Kind::UpdateWith(l, None::<ops::Math>, r))?,
        })
    }

    fn fold(
        &mut self,
        name: &'s str,
        over: &Term<&'s str>,
        pattern: &parse::Pattern<&'s str>,
        args: &[Term<&'s str>],
    ) -> Resolved<Kind> {
        let (init, update, extract) = match (name, args) {
            (_, [init, update]) => (init, update, None),
            ("foreach", [init, update, extract]) => (init, update, Some(extract)),
            _ => return Err(self.not_so_many(name, args.len())),
        };
        let (over, init) = (self.expr(over)?, self.expr(init)?);
        let mark = self.mark();
        let pattern = self.pattern(pattern)?;
        let update = self.expr(update)?;
        let extract = self.maybe(extract)?;
        self.forget(mark);
        let fold = Box::new(Fold { over, pattern, init, update });
        Ok(if name == "reduce" { Kind::Reduce(fold) } else { Kind::Foreach(fold, extract) })
    }

    fn pattern(&mut self, pattern: &parse::Pattern<&'s str>) -> Resolved<Pattern> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(self.too_deep());
        }
        let pattern = match pattern {
            parse::Pattern::Var(name) => {
                self.bind(Name::Var(name))?;
                Pattern::Var
            }
            parse::Pattern::Arr(items) => {
                Pattern::Items(items.iter().map(|p| self.pattern(p)).collect::<Resolved<_>>()?)
            }
            parse::Pattern::Obj(members) => {
                let members = members.iter().map(|(key, p)| Ok((self.expr(key)?, self.pattern(p)?)));
                Pattern::Members(members.collect::<Resolved<_>>()?)
            }
        };
        self.depth -= 1;
        Ok(pattern)
    }
}
