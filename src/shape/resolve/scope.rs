//! The names in scope: their bindings, and the meaning of a name where it is used.

use super::super::builtins;
use super::super::program::{Argument, Def, ExprKind};
use super::super::syntax::term::{Definition, Term};
use super::{MAX_SCOPE, NameResolver, Resolved};

/// A name in scope.
pub(super) enum ScopeName<'s> {
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
        let name = def.name;
        let arity = def.args.len();
        if !self.is_prelude && name.starts_with("__") {
            return Err(self.reserved(name));
        }
        let at = self.scope.len();
        self.scope.push(ScopeName::Def { name, arity, bound: self.bound_count, id: None });
        let mark = self.scope_mark();
        let mut taken = Vec::with_capacity(arity);
        for arg in &def.args {
            let by_value = arg.starts_with('$');
            taken.push(match by_value {
                false => Argument::Filter,
                true if self.is_prelude => Argument::Value,
                true => Argument::Both,
            });
            if taken.last() != Some(&Argument::Value) {
                self.bind(ScopeName::Filter(arg.trim_start_matches('$')))?;
            }
            if by_value {
                self.bind(ScopeName::Var(arg))?;
            }
        }
        let body = self.expr(&def.body)?;
        self.restore_scope(mark);
        self.scope[at] =
            ScopeName::Def { name, arity, bound: self.bound_count, id: Some(self.defs.len()) };
        self.defs.push(Def { args: taken, body });
        Ok(())
    }

    pub(super) fn call(&mut self, name: &'s str, args: &[Term<'s>]) -> Resolved<ExprKind> {
        let mut inner = 0;
        for known in self.scope.iter().rev() {
            match known {
                ScopeName::Filter(n) if *n == name && args.is_empty() => {
                    return Ok(ExprKind::Filter(inner));
                }
                ScopeName::Def { name: n, arity, bound, id }
                    if *n == name && *arity == args.len() =>
                {
                    let Some(id) = *id else { return Err(self.recursive(name)) };
                    let hidden = self.bound_count - bound;
                    if !self.is_prelude && id < self.prelude_defs {
                        self.check_arguments(name, args)?;
                    }
                    return Ok(ExprKind::Call(id, hidden, self.exprs(args)?));
                }
                ScopeName::Def { .. } => (),
                ScopeName::Var(_) | ScopeName::Label(_) | ScopeName::Filter(_) => inner += 1,
            }
        }
        match builtins::find(name, args.len()) {
            Some(builtin) if self.is_prelude || !name.starts_with("__") => {
                self.check_arguments(name, args)?;
                Ok(ExprKind::Builtin(builtin, self.exprs(args)?))
            }
            _ => Err(self.unknown(name, args.len())),
        }
    }

    pub(super) fn variable(&self, name: &'s str) -> Resolved<usize> {
        self.binding_index(name, |n| matches!(n, ScopeName::Var(v) if *v == name), "variable")
    }

    /// How many bindings lie between here and the wanted one.
    pub(super) fn binding_index(
        &self,
        name: &str,
        is: impl Fn(&ScopeName<'s>) -> bool,
        what: &str,
    ) -> Resolved<usize> {
        let binds = self.scope.iter().rev().filter(|n| !matches!(n, ScopeName::Def { .. }));
        binds.into_iter().position(is).ok_or_else(|| self.unbound(name, what))
    }

    pub(super) fn bind(&mut self, name: ScopeName<'s>) -> Resolved<()> {
        if self.bound_count >= MAX_SCOPE {
            return Err(self.too_many_names());
        }
        self.bound_count += 1;
        self.scope.push(name);
        Ok(())
    }

    pub(super) fn scope_mark(&self) -> (usize, usize) {
        (self.scope.len(), self.bound_count)
    }

    pub(super) fn restore_scope(&mut self, (scope, bound): (usize, usize)) {
        self.scope.truncate(scope);
        self.bound_count = bound;
    }
}
