//! Paths: one part after the other, with the trail that they leave where paths are asked for.

use std::rc::Rc;

use super::env::{Env, unbound};
use super::eval::{Item, Out, Run};
use super::index;
use super::meter::{Flow, fault};
use super::number::Num;
use super::program::{Expr, Kind, Part};
use super::value::{Obj, Text, Val};

impl<'p> Run<'p> {
    /// One part of a path that yields one value.
    pub(super) fn step(&mut self, part: &'p Part, env: &Env<'p>, input: &Val, at: &Val) -> Flow<Val> {
        match part {
            Part::Each => unbound(),
            Part::Index(Expr { kind: Kind::Const(key), .. }) => {
                let key = self.constant(*key)?;
                index::index(self, at, &key)
            }
            Part::Index(key) => {
                let key = self.one(key, env, input.clone())?;
                index::index(self, at, &key)
            }
            Part::Slice(from, to) => {
                let mut bound = |e: &'p Option<Expr>| match e {
                    Some(e) => self.one(e, env, input.clone()),
                    None => Ok(Val::Null),
                };
                let (from, to) = (bound(from)?, bound(to)?);
                index::slice(self, at, &from, &to)
            }
        }
    }

    /// The rest of a path, from `at`; its indices see `input`.
    pub(super) fn follow(
        &mut self,
        parts: &'p [(Part, bool)],
        env: &Env<'p>,
        input: &Val,
        at: Item,
        out: Out<'_, 'p>,
    ) -> Flow {
        let [(part, optional), rest @ ..] = parts else { return out(self, at) };
        self.meter.enter()?;
        let mut next = |run: &mut Self, x: Item| run.follow(rest, env, input, x, out);
        if *optional {
            self.guarded(|run, out| run.part(part, env, input, at, out), &mut next, |_, _| Ok(()))
        } else {
            self.part(part, env, input, at, &mut next)
        }
    }

    fn part(&mut self, part: &'p Part, env: &Env<'p>, input: &Val, at: Item, out: Out<'_, 'p>) -> Flow {
        match part {
            Part::Each => self.children(at, out),
            Part::Index(key) => self.each(key, env, Item::of(input.clone()), &mut |run, key| {
                let item = run.child(&at, key.val)?;
                out(run, item)
            }),
            Part::Slice(from, to) => self.bound(from.as_ref(), env, input, &mut |run, from| {
                run.bound(to.as_ref(), env, input, &mut |run, to| {
                    run.meter.spend(8)?;
                    let bounds = vec![(Text::unmetered("start"), from.clone()), (Text::unmetered("end"), to)];
                    let bounds = Obj::of(&mut run.meter, bounds, false)?;
                    let item = run.child(&at, Val::Obj(Rc::new(bounds)))?;
                    out(run, item)
                })
            }),
        }
    }

    fn bound(
        &mut self,
        expr: Option<&'p Expr>,
        env: &Env<'p>,
        input: &Val,
        f: &mut dyn FnMut(&mut Self, Val) -> Flow,
    ) -> Flow {
        match expr {
            Some(expr) => self.each(expr, env, Item::of(input.clone()), &mut |run, x| f(run, x.val)),
            None => f(self, Val::Null),
        }
    }

    /// The member or item `key`, with its path where `at` has one.
    pub(super) fn child(&mut self, at: &Item, key: Val) -> Flow<Item> {
        let val = index::index(self, &at.val, &key)?;
        let path = at.path.as_ref().map(|path| path.push(key)).transpose()?;
        Ok(Item { val, path })
    }

    /// `.[]`
    pub(super) fn children(&mut self, at: Item, out: Out<'_, 'p>) -> Flow {
        let path = at.path;
        let trail = |key: &dyn Fn() -> Val| path.as_ref().map(|path| path.push(key())).transpose();
        match &at.val {
            Val::Arr(arr) => {
                for (i, val) in arr.items().iter().enumerate() {
                    self.meter.spend(1)?;
                    let path = trail(&|| Val::Num(Num::count(i)))?;
                    out(self, Item { val: val.clone(), path })?;
                }
                Ok(())
            }
            Val::Obj(obj) => {
                for (key, val) in obj.iter() {
                    self.meter.spend(1)?;
                    let path = trail(&|| Val::Str(key.clone()))?;
                    out(self, Item { val: val.clone(), path })?;
                }
                Ok(())
            }
            other => fault(format!("cannot iterate over {}", other.type_name())),
        }
    }

    /// `..`
    pub(super) fn recurse(&mut self, at: Item, out: Out<'_, 'p>) -> Flow {
        self.meter.enter()?;
        out(self, at.clone())?;
        if at.val.depth() == 0 {
            return Ok(());
        }
        self.children(at, &mut |run, x| run.recurse(x, out))
    }
}
