//! Expressions that yield new values: constants, constructions, operators, updates.

use std::cmp::Ordering;

use jaq_core::ops::Cmp;

use super::buffer::Buffer;
use super::env::Env;
use super::eval::{Item, Out, Run};
use super::meter::{Flow, fault};
use super::program::{Expr, Kind, Piece};
use super::value::{Obj, Val};
use super::{operators, text, update};

impl<'p> Run<'p> {
    /// What yields new values, without a path.
    pub(super) fn calculated(&mut self, expr: &'p Expr, env: &Env<'p>, val: Val, out: Out<'_, 'p>) -> Flow {
        let item = || Item::of(val.clone());
        match &expr.kind {
            Kind::Const(constant) => {
                let val = self.constant(*constant)?;
                out(self, Item::of(val))
            }
            Kind::Var(n) => {
                let val = self.variable(env, *n)?;
                out(self, Item::of(val))
            }
            Kind::Array(inner) => {
                let arr = self.all(inner, env, val)?;
                let val = self.meter.admit(Val::Arr(arr.into()))?;
                out(self, Item::of(val))
            }
            Kind::Text(format, pieces) => self.pieces(*format, pieces, env, &val, Buffer::default(), out),
            Kind::Object(members, _) => self.members(members, env, &val, &Obj::default(), out),
            Kind::Neg(inner) => self.each(inner, env, item(), &mut |run, x| match x.val {
                Val::Num(n) => {
                    let n = n.neg(&mut run.meter)?;
                    out(run, Item::of(Val::Num(n)))
                }
                other => fault(format!("cannot negate {}", other.type_name())),
            }),
            Kind::Logic(left, ends, right) => self.each(left, env, item(), &mut |run, x| {
                if x.val.truthy() == *ends {
                    return out(run, Item::of(Val::Bool(*ends)));
                }
                run.each(right, env, item(), &mut |run, y| out(run, Item::of(Val::Bool(y.val.truthy()))))
            }),
            Kind::Math(op, sides) => self.sides(sides, env, &val, &mut |run, l, r| {
                let result = operators::math(run, *op, l, r)?;
                out(run, Item::of(result))
            }),
            Kind::Cmp(op, sides) => self.sides(sides, env, &val, &mut |run, l, r| {
                let result = run.compare(*op, &l, &r)?;
                out(run, Item::of(result))
            }),
            Kind::Assign(to, from) => self.each(from, env, item(), &mut |run, x| {
                let result = update::assign(run, to, env, val.clone(), &x.val)?;
                out(run, Item::of(result))
            }),
            Kind::Update(to, f) => {
                let result = update::update(self, to, env, val, &mut |run, old| run.first(f, env, old))?;
                out(self, Item::of(result))
            }
            Kind::UpdateWith(to, op, from) => self.each(from, env, item(), &mut |run, x| {
                let result = update::update(run, to, env, val.clone(), &mut |run, old| {
                    let new = match op {
                        Some(op) => operators::math(run, *op, old, x.val.clone())?,
                        None if old.truthy() => old,
                        None => x.val.clone(),
                    };
                    Ok(Some(new))
                })?;
                out(run, Item::of(result))
            }),
            _ => fault("internal: an expression without a way to run"),
        }
    }

    pub(super) fn compare(&mut self, op: Cmp, left: &Val, right: &Val) -> Flow<Val> {
        let order = self.meter.order(left, right)?;
        Ok(Val::Bool(op.run(&order, &Ordering::Equal)))
    }

    fn sides(
        &mut self,
        sides: &'p [Expr; 2],
        env: &Env<'p>,
        val: &Val,
        f: &mut dyn FnMut(&mut Self, Val, Val) -> Flow,
    ) -> Flow {
        self.each(&sides[1], env, Item::of(val.clone()), &mut |run, r| {
            run.each(&sides[0], env, Item::of(val.clone()), &mut |run, l| f(run, l.val, r.val.clone()))
        })
    }

    /// Adds a member to an object under construction.
    pub(super) fn set_member(&mut self, obj: &mut Obj, key: &Val, value: Val) -> Flow {
        let Val::Str(key) = key else { return fault(format!("cannot use {} as an object key", key.type_name())) };
        obj.insert(&mut self.meter, key.clone(), value)?;
        Ok(())
    }

    fn members(&mut self, rest: &'p [(Expr, Expr)], env: &Env<'p>, val: &Val, so_far: &Obj, out: Out<'_, 'p>) -> Flow {
        let [(key, value), rest @ ..] = rest else {
            let obj = so_far.copied(&mut self.meter)?;
            let obj = self.meter.admit(Val::Obj(obj.into()))?;
            return out(self, Item::of(obj));
        };
        self.each(key, env, Item::of(val.clone()), &mut |run, k| {
            run.each(value, env, Item::of(val.clone()), &mut |run, v| {
                let mut obj = so_far.copied(&mut run.meter)?;
                run.set_member(&mut obj, &k.val, v.val)?;
                run.members(rest, env, val, &obj, out)
            })
        })
    }

    fn pieces(
        &mut self,
        format: text::Format,
        rest: &'p [Piece],
        env: &Env<'p>,
        val: &Val,
        mut so_far: Buffer,
        out: Out<'_, 'p>,
    ) -> Flow {
        match rest {
            [] => {
                let text = so_far.into_text(&mut self.meter)?;
                let val = self.meter.admit(Val::Str(text))?;
                out(self, Item::of(val))
            }
            [Piece::Plain(plain), rest @ ..] => {
                so_far.push(&mut self.meter, plain)?;
                self.pieces(format, rest, env, val, so_far, out)
            }
            [Piece::Value(expr), rest @ ..] => self.each(expr, env, Item::of(val.clone()), &mut |run, x| {
                let mut longer = Buffer::default();
                longer.append(&mut run.meter, &so_far)?;
                text::format(run, format, &x.val, &mut longer)?;
                run.pieces(format, rest, env, val, longer, out)
            }),
        }
    }
}
