//! From jaq's terms to the tree that a run walks.
//!
//! Every name is resolved here, so that what a shape may not do is refused before it runs: unknown names, functions that
//! are not on the list, and definitions that call themselves. What is left is a graph of calls without cycles.

use std::collections::HashSet;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{self, BinaryOp, Term};
use jaq_core::{ops, path};

use super::builtins;
use super::number::Num;
use super::object::FEW_MEMBERS;
use super::program::{Code, Constant, Def, Expr, Fold, Kind, Part, Pattern, Piece};
use super::text::Format;
use super::{CompileError, syntax};

mod faults;

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

/// Whether all keys are constants, few, and differ.
fn differ(members: &[(Expr, Expr)], texts: &[Box<str>]) -> bool {
    let mut keys = HashSet::new();
    let is_new = |(key, _): &(Expr, Expr)| match key.kind {
        Kind::Const(Constant::Text(at)) => keys.insert(&texts[at]),
        _ => false,
    };
    members.len() <= FEW_MEMBERS && members.iter().all(is_new)
}

impl Constant {
    fn is_number(self) -> bool {
        matches!(self, Self::Int(_) | Self::Float(_) | Self::Digits(_))
    }

    fn number(self, texts: &[Box<str>]) -> Num {
        match self {
            Self::Int(i) => Num::Int(i),
            Self::Float(f) => Num::Float(f),
            Self::Digits(at) => Num::read(&texts[at]),
            Self::Text(_) | Self::NoItems | Self::NoMembers => Num::Float(f64::NAN),
        }
    }
}

/// A name in scope.
enum Name<'s> {
    Var(&'s str),
    Label(&'s str),
    Filter(&'s str),
    /// A definition, and how many variables, labels and filters it sees; `None` while it is being defined.
    Def {
        name: &'s str,
        arity: usize,
        bound: usize,
        id: Option<usize>,
    },
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

    fn string(&mut self, format: Option<&'s str>, parts: &[StrPart<&'s str, Term<&'s str>>]) -> Resolved<Kind> {
        let format = match format {
            None => Format::Text,
            Some(name) => Format::named(name).ok_or_else(|| self.no_format(name))?,
        };
        let mut pieces: Vec<Piece> = Vec::new();
        for part in parts {
            let plain = match part {
                StrPart::Str(text) => (*text).to_owned(),
                StrPart::Char(c) => c.to_string(),
                StrPart::Term(term) => {
                    pieces.push(Piece::Value(self.expr(term)?));
                    continue;
                }
            };
            match pieces.last_mut() {
                Some(Piece::Plain(before)) => before.push_str(&plain),
                _ => pieces.push(Piece::Plain(plain)),
            }
        }
        Ok(match pieces.as_slice() {
            [] => Kind::Const(self.constant("")),
            [Piece::Plain(text)] => Kind::Const(self.constant(text)),
            _ => Kind::Text(format, pieces),
        })
    }

    fn constant(&mut self, text: &str) -> Constant {
        self.texts.push(text.into());
        Constant::Text(self.texts.len() - 1)
    }

    fn number(&mut self, number: &Num) -> Constant {
        match number {
            Num::Int(i) => Constant::Int(*i),
            Num::Float(f) => Constant::Float(*f),
            Num::Short(_) | Num::Long(_) => {
                self.texts.push(number.written().unwrap_or_default().into());
                Constant::Digits(self.texts.len() - 1)
            }
        }
    }

    fn member(&mut self, key: &Term<&'s str>, value: Option<&Term<&'s str>>) -> Resolved<(Expr, Expr)> {
        Ok(match (key, value) {
            (Term::Var(name), None) => {
                let key_of = Kind::Const(self.constant(&name[1..]));
                (Expr { kind: key_of, one: true }, self.expr(key)?)
            }
            (key, None) => {
                let key = self.expr(key)?;
                let (key, again) = self.twice(key);
                let id = Box::new(Expr { kind: Kind::Id, one: true });
                let value = Kind::Path(id, vec![(Part::Index(again), false)]);
                let one = value.one(&self.defs);
                (key, Expr { kind: value, one })
            }
            (key, Some(value)) => (self.expr(key)?, self.expr(value)?),
        })
    }

    /// An expression for two places. It is not resolved twice: what nests so would take time and memory to the power of
    /// its depth.
    fn twice(&mut self, expr: Expr) -> (Expr, Expr) {
        let one = expr.one;
        if let Kind::Const(constant) = expr.kind {
            return (expr, Expr { kind: Kind::Const(constant), one });
        }
        let def = self.defs.len();
        self.defs.push(Def { by_value: Vec::new(), body: expr });
        let call = || Expr { kind: Kind::Call(def, 0, Vec::new()), one };
        (call(), call())
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

    fn def(&mut self, def: &parse::Def<&'s str>) -> Resolved<()> {
        let (name, arity) = (def.name, def.args.len());
        if !self.ours && name.starts_with("__") {
            return Err(self.reserved(name));
        }
        let at = self.scope.len();
        self.scope.push(Name::Def { name, arity, bound: self.bound, id: None });
        let mark = self.mark();
        for arg in &def.args {
            self.bind(if arg.starts_with('$') { Name::Var(arg) } else { Name::Filter(arg) })?;
        }
        let body = self.expr(&def.body)?;
        self.forget(mark);
        self.scope[at] = Name::Def { name, arity, bound: self.bound, id: Some(self.defs.len()) };
        let by_value = def.args.iter().map(|arg| arg.starts_with('$')).collect();
        self.defs.push(Def { by_value, body });
        Ok(())
    }

    fn call(&mut self, name: &'s str, args: &[Term<&'s str>]) -> Resolved<Kind> {
        let mut inner = 0;
        for known in self.scope.iter().rev() {
            match known {
                Name::Filter(n) if *n == name && args.is_empty() => return Ok(Kind::Filter(inner)),
                Name::Def { name: n, arity, bound, id } if *n == name && *arity == args.len() => {
                    let Some(id) = *id else { return Err(self.recursive(name)) };
                    let hidden = self.bound - bound;
                    return Ok(Kind::Call(id, hidden, self.exprs(args)?));
                }
                Name::Def { .. } => (),
                Name::Var(_) | Name::Label(_) | Name::Filter(_) => inner += 1,
            }
        }
        match builtins::find(name, args.len()) {
            Some(builtin) if self.ours || !name.starts_with("__") => Ok(Kind::Builtin(builtin, self.exprs(args)?)),
            _ => Err(self.unknown(name, args.len())),
        }
    }

    fn variable(&self, name: &'s str) -> Resolved<usize> {
        self.place(name, |n| matches!(n, Name::Var(v) if *v == name), "variable")
    }

    /// How many bindings lie between here and the wanted one.
    fn place(&self, name: &str, is: impl Fn(&Name<'s>) -> bool, what: &str) -> Resolved<usize> {
        let binds = self.scope.iter().rev().filter(|n| !matches!(n, Name::Def { .. }));
        binds.into_iter().position(is).ok_or_else(|| self.unbound(name, what))
    }

    fn bind(&mut self, name: Name<'s>) -> Resolved<()> {
        if self.bound >= MAX_SCOPE {
            return Err(self.too_many());
        }
        self.bound += 1;
        self.scope.push(name);
        Ok(())
    }

    fn mark(&self) -> (usize, usize) {
        (self.scope.len(), self.bound)
    }

    fn forget(&mut self, (scope, bound): (usize, usize)) {
        self.scope.truncate(scope);
        self.bound = bound;
    }
}
