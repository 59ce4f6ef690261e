//! Paths: part by part, with the keys that they pass where paths are asked for.

use std::rc::Rc;

use super::budget::{Flow, Stop, fault};
use super::env::{Env, unbound};
use super::eval::{Evaluation, Out, PathedValue};
use super::index;
use super::number::Num;
use super::program::{AccessStep, Expr, ExprKind};
use super::value::{Obj, Text, Val};

impl<'p> Evaluation<'p> {
    /// One part of a path that yields one value.
    pub(super) fn eval_step(
        &mut self,
        part: &'p AccessStep,
        env: &Env<'p>,
        input: &Val,
        at: &Val,
    ) -> Flow<Val> {
        match part {
            AccessStep::Each => unbound(),
            AccessStep::Index(Expr { kind: ExprKind::Const(key), .. }) => {
                let key = self.constant(*key)?;
                index::index(self, at, &key)
            }
            AccessStep::Index(key) => {
                let key = self.eval_one(key, env, input.clone())?;
                index::index(self, at, &key)
            }
            AccessStep::Slice(from, to) => {
                let mut bound = |e: &'p Option<Expr>| match e {
                    Some(e) => self.eval_one(e, env, input.clone()),
                    None => Ok(Val::Null),
                };
                let from = bound(from)?;
                let to = bound(to)?;
                index::slice(self, at, &from, &to)
            }
        }
    }

    /// A path of several results. As in jq, the brackets of the last part vary slowest, and the
    /// beginning of the path fastest: `.[]["a", "b"]` is `(.[].a), (.[].b)`. The brackets see the
    /// input, as `of` does.
    pub(super) fn eval_path(
        &mut self,
        of: &'p Expr,
        parts: &'p [(AccessStep, bool)],
        env: &Env<'p>,
        item: PathedValue,
        out: Out<'_, 'p>,
    ) -> Flow {
        let [before @ .., (part, optional)] = parts else {
            return self.eval_each(of, env, item, out);
        };
        self.meter.enter()?;
        match part {
            AccessStep::Each => self.eval_path(of, before, env, item, &mut |run, at| {
                if *optional && !matches!(at.val, Val::Arr(_) | Val::Obj(_)) {
                    return Ok(());
                }
                run.children(at, out)
            }),
            AccessStep::Index(Expr { kind: ExprKind::Const(key), .. }) => {
                let key = self.constant(*key)?;
                self.eval_path(of, before, env, item, &mut |run, at| {
                    run.emit_child(&at, key.clone(), *optional, out)
                })
            }
            AccessStep::Index(key) => {
                let input = item.value();
                self.eval_each(key, env, input, &mut |run, key| {
                    run.eval_path(of, before, env, item.clone(), &mut |run, at| {
                        run.emit_child(&at, key.val.clone(), *optional, out)
                    })
                })
            }
            AccessStep::Slice(from, to) => {
                let input = item.val.clone();
                self.eval_bound(from.as_ref(), env, &input, &mut |run, from| {
                    run.eval_bound(to.as_ref(), env, &input, &mut |run, to| {
                        run.meter.spend(8)?;
                        let bounds = vec![
                            (Text::unmetered("start"), from.clone()),
                            (Text::unmetered("end"), to),
                        ];
                        let bounds = Val::Obj(Rc::new(Obj::of(&mut run.meter, bounds, false)?));
                        run.eval_path(of, before, env, item.clone(), &mut |run, at| {
                            run.emit_child(&at, bounds.clone(), *optional, out)
                        })
                    })
                })
            }
        }
    }

    /// Hands on the member or item `key`; where it is optional, nothing if there can be none.
    fn emit_child(&mut self, at: &PathedValue, key: Val, optional: bool, out: Out<'_, 'p>) -> Flow {
        match self.child(at, key) {
            Ok(item) => out(self, item),
            Err(Stop::Fault(_)) if optional => Ok(()),
            Err(stop) => Err(stop),
        }
    }

    fn eval_bound(
        &mut self,
        expr: Option<&'p Expr>,
        env: &Env<'p>,
        input: &Val,
        f: &mut dyn FnMut(&mut Self, Val) -> Flow,
    ) -> Flow {
        match expr {
            Some(expr) => {
                self.eval_each(expr, env, PathedValue::of(input.clone()), &mut |run, x| {
                    f(run, x.val)
                })
            }
            None => f(self, Val::Null),
        }
    }

    /// The member or item `key`, with its path where `at` has one.
    pub(super) fn child(&mut self, at: &PathedValue, key: Val) -> Flow<PathedValue> {
        let val = index::index(self, &at.val, &key)?;
        let path = at.path.as_ref().map(|path| path.push(key)).transpose()?;
        Ok(PathedValue { val, path })
    }

    /// `.[]`
    pub(super) fn children(&mut self, at: PathedValue, out: Out<'_, 'p>) -> Flow {
        let path = at.path;
        let trail = |key: &dyn Fn() -> Val| path.as_ref().map(|path| path.push(key())).transpose();
        match &at.val {
            Val::Arr(arr) => {
                for (i, val) in arr.items().iter().enumerate() {
                    self.meter.spend(1)?;
                    let path = trail(&|| Val::Num(Num::count(i)))?;
                    out(self, PathedValue { val: val.clone(), path })?;
                }
                Ok(())
            }
            Val::Obj(obj) => {
                for (key, val) in obj.iter() {
                    self.meter.spend(1)?;
                    let path = trail(&|| Val::Str(key.clone()))?;
                    out(self, PathedValue { val: val.clone(), path })?;
                }
                Ok(())
            }
            other => fault(format!("cannot iterate over {}", other.type_name())),
        }
    }

    /// `..`
    pub(super) fn recurse(&mut self, at: PathedValue, out: Out<'_, 'p>) -> Flow {
        self.meter.enter()?;
        out(self, at.clone())?;
        if at.val.depth() == 0 {
            return Ok(());
        }
        self.children(at, &mut |run, x| run.recurse(x, out))
    }
}
