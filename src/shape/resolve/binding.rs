//! Bindings of variables: the patterns after `as`, and which variable each of several binds.

use super::super::program::{Alternative, BindPattern, Binding};
use super::super::syntax::errors::{MAX_NESTING, too_deep};
use super::super::syntax::term;
use super::{MAX_SCOPE, NameResolver, Resolved, ScopeName};

impl<'s> NameResolver<'s> {
    /// Binds the variables of the patterns for the expression that is resolved next.
    pub(super) fn binding(&mut self, patterns: &[term::Pattern<'s>]) -> Resolved<Binding> {
        let [pattern] = patterns else { return self.alternatives(patterns) };
        Ok(Binding::One(self.pattern(pattern)?))
    }

    /// Each pattern is resolved by itself; then the variables of all are bound.
    fn alternatives(&mut self, patterns: &[term::Pattern<'s>]) -> Resolved<Binding> {
        if patterns.len() > MAX_SCOPE {
            return Err(self.too_many_names());
        }
        let mut names: Vec<&'s str> = Vec::new();
        for pattern in patterns {
            for_each_variable(pattern, &mut |name| {
                if names.len() <= MAX_SCOPE && !names.contains(&name) {
                    names.push(name);
                }
            });
        }
        // Each pattern remembers a place for each name.
        if self.bound_count + names.len() > MAX_SCOPE {
            return Err(self.too_many_names());
        }
        let mut resolved = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let mark = self.scope_mark();
            let (scope, _) = mark;
            let pattern = self.pattern(pattern)?;
            let bound = &self.scope[scope..];
            let place = |name: &&str| {
                bound.iter().rev().position(|other| matches!(other, ScopeName::Var(n) if n == name))
            };
            let places = names.iter().map(place).collect();
            resolved.push(Alternative { pattern, places });
            self.restore_scope(mark);
        }
        for name in names {
            self.bind(ScopeName::Var(name))?;
        }
        Ok(Binding::Any(resolved))
    }

    fn pattern(&mut self, pattern: &term::Pattern<'s>) -> Resolved<BindPattern> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(too_deep(self.text));
        }
        let pattern = match pattern {
            term::Pattern::Variable(name) => {
                self.bind(ScopeName::Var(name))?;
                BindPattern::Var
            }
            term::Pattern::Items(items) => {
                BindPattern::Items(items.iter().map(|p| self.pattern(p)).collect::<Resolved<_>>()?)
            }
            term::Pattern::Members(members) => {
                let members = members.iter().map(|(key, p)| {
                    let key = self.key(key)?;
                    Ok((key, self.pattern(p)?))
                });
                BindPattern::Members(members.collect::<Resolved<_>>()?)
            }
        };
        self.depth -= 1;
        Ok(pattern)
    }
}

fn for_each_variable<'s>(pattern: &term::Pattern<'s>, f: &mut impl FnMut(&'s str)) {
    match pattern {
        term::Pattern::Variable(name) => f(name),
        term::Pattern::Items(items) => items.iter().for_each(|item| for_each_variable(item, f)),
        term::Pattern::Members(members) => {
            for (_, member) in members {
                for_each_variable(member, f);
            }
        }
    }
}
