//! The names in reach: what binds them, and what a name means where it is used.

use super::super::builtins;
use super::super::program::{Argument, Def, ExprKind};
use super::super::syntax::term::{Definition, Term};
use super::{MAX_SCOPE, NameResolver, Resolved};

/// A name in scope.
pub(super) enum Name<'s> {
    Var(&'s str),
    Label(&'s str),
    Filter(&'s str),
    /// A definition, and how many variables, labels and filters it sees; `None` while it is being
    /// defined.
    Def {
        name: &'s str,
        arity: usize,
        bound: usize,
        id: Option<usize>,
    },
}

impl<'s> NameResolver<'s> {
    pub(super) fn def(&mut self, def: &Definition<'s>) -> Resolved<()> {
        let (name, arity) = (def.name, def.args.len());
        if !self.ours && name.starts_with("__") {
            return Err(self.reserved(name));
        }
        let at = self.scope.len();
        self.scope.push(Name::Def { name, arity, bound: self.bound, id: None });
        let mark = self.mark();
        let mut taken = Vec::with_capacity(arity);
        for arg in &def.args {
            let by_value = arg.starts_with('$');
            taken.push(match by_value {
                false => Argument::Filter,
                true if self.ours => Argument::Value,
                true => Argument::Both,
            });
            if taken.last() != Some(&Argument::Value) {
                self.bind(Name::Filter(arg.trim_start_matches('$')))?;
            }
            if by_value {
                self.bind(Name::Var(arg))?;
            }
        }
        let body = self.expr(&def.body)?;
        self.forget(mark);
        self.scope[at] = Name::Def { name, arity, bound: self.bound, id: Some(self.defs.len()) };
        self.defs.push(Def { args: taken, body });
        Ok(())
    }

    pub(super) fn call(&mut self, name: &'s str, args: &[Term<'s>]) -> Resolved<ExprKind> {
        let mut inner = 0;
        for known in self.scope.iter().rev() {
            match known {
                Name::Filter(n) if *n == name && args.is_empty() => {
                    return Ok(ExprKind::Filter(inner));
                }
                Name::Def { name: n, arity, bound, id } if *n == name && *arity == args.len() => {
                    let Some(id) = *id else { return Err(self.recursive(name)) };
                    let hidden = self.bound - bound;
                    if !self.ours && id < self.prelude {
                        self.judge(name, args)?;
                    }
                    return Ok(ExprKind::Call(id, hidden, self.exprs(args)?));
                }
                Name::Def { .. } => (),
                Name::Var(_) | Name::Label(_) | Name::Filter(_) => inner += 1,
            }
        }
        match builtins::find(name, args.len()) {
            Some(builtin) if self.ours || !name.starts_with("__") => {
                self.judge(name, args)?;
                Ok(ExprKind::Builtin(builtin, self.exprs(args)?))
            }
            _ => Err(self.unknown(name, args.len())),
        }
    }

    pub(super) fn variable(&self, name: &'s str) -> Resolved<usize> {
        self.place(name, |n| matches!(n, Name::Var(v) if *v == name), "variable")
    }

    /// How many bindings lie between here and the wanted one.
    pub(super) fn place(
        &self,
        name: &str,
        is: impl Fn(&Name<'s>) -> bool,
        what: &str,
    ) -> Resolved<usize> {
        let binds = self.scope.iter().rev().filter(|n| !matches!(n, Name::Def { .. }));
        binds.into_iter().position(is).ok_or_else(|| self.unbound(name, what))
    }

    pub(super) fn bind(&mut self, name: Name<'s>) -> Resolved<()> {
        if self.bound >= MAX_SCOPE {
            return Err(self.too_many());
        }
        self.bound += 1;
        self.scope.push(name);
        Ok(())
    }

    pub(super) fn mark(&self) -> (usize, usize) {
        (self.scope.len(), self.bound)
    }

    pub(super) fn forget(&mut self, (scope, bound): (usize, usize)) {
        self.scope.truncate(scope);
        self.bound = bound;
    }
}
