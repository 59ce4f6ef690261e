//! The bindings where an expression runs: values, filters and labels, which the resolver has
//! numbered from within.

use std::rc::Rc;

use super::budget::{Flow, fault};
use super::eval::Evaluation;
use super::program::Expr;
use super::value::Val;

/// The bindings where an expression runs, innermost first.
#[derive(Clone, Default)]
pub(super) struct Env<'p>(Option<Rc<(Bound<'p>, Env<'p>)>>);

pub(super) enum Bound<'p> {
    Val(Val),
    Filter(&'p Expr, Env<'p>),
    Label(u64),
}

impl<'p> Env<'p> {
    pub(super) fn with(&self, bound: Bound<'p>) -> Self {
        Self(Some(Rc::new((bound, self.clone()))))
    }

    fn above(&self, n: usize) -> &Self {
        let mut at = self;
        for _ in 0..n {
            match &at.0 {
                Some(node) => at = &node.1,
                None => break,
            }
        }
        at
    }
}

/// The resolver numbers bindings; a wrong number would be its bug.
pub(super) fn unbound<T>() -> Flow<T> {
    fault("internal: a name is not bound")
}

impl<'p> Evaluation<'p> {
    /// The binding `n` levels up. The way from binding to binding is charged.
    pub(super) fn up<'e>(&mut self, env: &'e Env<'p>, n: usize) -> Flow<&'e Env<'p>> {
        self.meter.work(2 * n as u64)?;
        Ok(env.above(n))
    }

    pub(super) fn binding<'e>(
        &mut self,
        env: &'e Env<'p>,
        n: usize,
    ) -> Flow<Option<&'e Bound<'p>>> {
        Ok(self.up(env, n)?.0.as_ref().map(|node| &node.0))
    }

    pub(super) fn variable(&mut self, env: &Env<'p>, n: usize) -> Flow<Val> {
        match self.binding(env, n)? {
            Some(Bound::Val(val)) => Ok(val.clone()),
            _ => unbound(),
        }
    }
}
