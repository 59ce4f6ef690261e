//! The expressions that bind names: folds, calls of definitions, destructuring.

use super::budget::{Flow, Stop};
use super::env::{Bound, Env};
use super::eval::{Evaluation, Out, PathedValue};
use super::index;
use super::program::{Alternative, Argument, BindPattern, Binding, Def, Expr, FoldExpr};
use super::value::Val;

impl<'p> Evaluation<'p> {
    pub(super) fn reduce(
        &mut self,
        fold: &'p FoldExpr,
        env: &Env<'p>,
        item: PathedValue,
        out: Out<'_, 'p>,
    ) -> Flow {
        let input = item.value();
        self.eval_each(&fold.init, env, item, &mut |run, init| {
            let with_paths = init.path.is_some();
            let mut state = Some(init);
            run.eval_each(&fold.over, env, input.clone(), &mut |run, x| {
                run.bind(&fold.pattern, env, x.val, &mut |run, env| {
                    let Some(old) = state.take() else { return Ok(()) };
                    run.eval_each(&fold.update, &env, old, &mut |_, new| {
                        state = Some(new);
                        Ok(())
                    })?;
                    // As in jq: an update that yields nothing leaves null.
                    if state.is_none() && !with_paths {
                        state = Some(PathedValue::of(Val::Null));
                    }
                    Ok(())
                })
            })?;
            state.map_or(Ok(()), |state| out(run, state))
        })
    }

    pub(super) fn foreach(
        &mut self,
        fold: &'p FoldExpr,
        extract: Option<&'p Expr>,
        env: &Env<'p>,
        item: PathedValue,
        out: Out<'_, 'p>,
    ) -> Flow {
        let input = item.value();
        self.eval_each(&fold.init, env, item, &mut |run, init| {
            let mut state = init;
            run.eval_each(&fold.over, env, input.clone(), &mut |run, x| {
                run.bind(&fold.pattern, env, x.val, &mut |run, env| {
                    run.eval_each(&fold.update, &env, state.clone(), &mut |run, new| {
                        state = new.clone();
                        match extract {
                            Some(extract) => run.eval_each(extract, &env, new, out),
                            None => out(run, new),
                        }
                    })
                })
            })
        })
    }

    pub(super) fn call(
        &mut self,
        def: &'p Def,
        args: &'p [Expr],
        env: &Env<'p>,
        frame: &Env<'p>,
        item: PathedValue,
        out: Out<'_, 'p>,
    ) -> Flow {
        let [arg, rest @ ..] = args else { return self.eval_each(&def.body, frame, item, out) };
        let taken = def.args[def.args.len() - args.len()];
        let filter = || frame.with(Bound::Filter(arg, env.clone()));
        let frame = if taken == Argument::Value { frame.clone() } else { filter() };
        if taken == Argument::Filter {
            return self.call(def, rest, env, &frame, item, out);
        }
        self.eval_each(arg, env, item.value(), &mut |run, x| {
            run.call(def, rest, env, &frame.with(Bound::Val(x.val)), item.clone(), out)
        })
    }

    /// Runs `f` where `val` is taken apart.
    pub(super) fn bind(
        &mut self,
        binding: &'p Binding,
        env: &Env<'p>,
        val: Val,
        f: &mut dyn FnMut(&mut Self, Env<'p>) -> Flow,
    ) -> Flow {
        match binding {
            Binding::One(pattern) => self.bind_pattern(pattern, env.clone(), val, f),
            Binding::Any(alternatives) => self.bind_any(alternatives, env, &val, f),
        }
    }

    /// As in jq, an error while the body runs with one pattern leads to the next pattern as well.
    fn bind_any(
        &mut self,
        alternatives: &'p [Alternative],
        env: &Env<'p>,
        val: &Val,
        f: &mut dyn FnMut(&mut Self, Env<'p>) -> Flow,
    ) -> Flow {
        for (at, alternative) in alternatives.iter().enumerate() {
            let flow = self.bind_pattern(
                &alternative.pattern,
                env.clone(),
                val.clone(),
                &mut |run, inner| {
                    // A name of the other patterns is bound to null here, which nothing else
                    // charges.
                    run.meter.spend(alternative.places.len() as u64)?;
                    let mut all = env.clone();
                    for place in &alternative.places {
                        let val =
                            place.map_or(Ok(Val::Null), |place| run.variable(&inner, place))?;
                        all = all.with(Bound::Val(val));
                    }
                    f(run, all)
                },
            );
            match flow {
                Err(Stop::Fault(_)) if at + 1 < alternatives.len() => (),
                flow => return flow,
            }
        }
        Ok(())
    }

    fn bind_pattern(
        &mut self,
        pattern: &'p BindPattern,
        env: Env<'p>,
        val: Val,
        f: &mut dyn FnMut(&mut Self, Env<'p>) -> Flow,
    ) -> Flow {
        self.meter.enter()?;
        match pattern {
            BindPattern::Var => f(self, env.with(Bound::Val(val))),
            BindPattern::Items(items) => self.bind_items(items, 0, env, &val, f),
            BindPattern::Members(members) => self.bind_members(members, env, &val, f),
        }
    }

    fn bind_items(
        &mut self,
        items: &'p [BindPattern],
        at: usize,
        env: Env<'p>,
        val: &Val,
        f: &mut dyn FnMut(&mut Self, Env<'p>) -> Flow,
    ) -> Flow {
        let Some(pattern) = items.get(at) else { return f(self, env) };
        let item = index::index(self, val, &Val::int(at))?;
        self.bind_pattern(pattern, env, item, &mut |run, env| {
            run.bind_items(items, at + 1, env, val, f)
        })
    }

    fn bind_members(
        &mut self,
        members: &'p [(Expr, BindPattern)],
        env: Env<'p>,
        val: &Val,
        f: &mut dyn FnMut(&mut Self, Env<'p>) -> Flow,
    ) -> Flow {
        let [(key, pattern), rest @ ..] = members else { return f(self, env) };
        let outer = env.clone();
        self.eval_each(key, &outer, PathedValue::of(val.clone()), &mut |run, key| {
            let member = index::index(run, val, &key.val)?;
            run.bind_pattern(pattern, env.clone(), member, &mut |run, env| {
                run.bind_members(rest, env, val, f)
            })
        })
    }
}
