//! Expressions that yield new values: constants, constructions, operators, updates.

use jaq_core::ops::Cmp;

use super::eval::{Env, Item, Out, Run};
use super::meter::{Flow, fault};
use super::program::{Expr, Kind, Piece};
use super::value::{Arr, MEMBER_BYTES, Obj, SLOT_BYTES, Val};
use super::{text, update};

impl<'p> Run<'p> {
    /// What yields new values, without a path.
    pub(super) fn calculated(&mut self, expr: &'p Expr, env: &Env<'p>, val: Val, out: Out<'_, 'p>) -> Flow {
        let item = || Item::of(val.clone());
        match &expr.kind {
            Kind::Const(c) => out(self, Item::of(c.clone())),
            Kind::Var(n) => {
                let val = Self::variable(env, *n)?;
                out(self, Item::of(val))
            }
            Kind::Array(inner) => {
                let mut arr = Arr::default();
                self.each(inner, env, item(), &mut |run, x| {
                    run.meter.alloc(SLOT_BYTES)?;
                    arr.push(x.val);
                    Ok(())
                })?;
                let val = self.meter.admit(Val::Arr(arr.into()))?;
                out(self, Item::of(val))
            }
            Kind::Text(format, pieces) => self.pieces(*format, pieces, env, &val, String::new(), out),
            Kind::Object(members) => self.members(members, env, &val, &Obj::default(), out),
            Kind::Neg(inner) => self.each(inner, env, item(), &mut |run, x| match x.val {
                Val::Num(n) => out(run, Item::of(Val::Num(n.neg()))),
                other => fault(format!("cannot negate {}", other.type_name())),
            }),
            Kind::Logic(left, ends, right) => self.each(left, env, item(), &mut |run, x| {
                if x.val.truthy() == *ends {
                    return out(run, Item::of(Val::Bool(*ends)));
                }
                run.each(right, env, item(), &mut |run, y| out(run, Item::of(Val::Bool(y.val.truthy()))))
            }),
            Kind::Math(op, sides) => self.sides(sides, env, &val, &mut |run, l, r| {
                let result = update::math(run, *op, l, r)?;
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
                        Some(op) => update::math(run, *op, old, x.val.clone())?,
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
        self.meter.spend(left.size().min(right.size()) / 16)?;
        Ok(Val::Bool(op.run(left, right)))
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
        self.meter.alloc(MEMBER_BYTES)?;
        obj.insert(key.clone(), value);
        Ok(())
    }

    fn members(&mut self, rest: &'p [(Expr, Expr)], env: &Env<'p>, val: &Val, so_far: &Obj, out: Out<'_, 'p>) -> Flow {
        let [(key, value), rest @ ..] = rest else {
            let obj = self.meter.admit(Val::Obj(so_far.clone().into()))?;
            return out(self, Item::of(obj));
        };
        self.each(key, env, Item::of(val.clone()), &mut |run, k| {
            run.each(value, env, Item::of(val.clone()), &mut |run, v| {
                run.meter.alloc(so_far.len() as u64 * MEMBER_BYTES)?;
                let mut obj = so_far.clone();
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
        mut so_far: String,
        out: Out<'_, 'p>,
    ) -> Flow {
        match rest {
            [] => {
                let val = self.meter.admit(Val::str(&so_far))?;
                out(self, Item::of(val))
            }
            [Piece::Plain(plain), rest @ ..] => {
                so_far.push_str(plain);
                self.pieces(format, rest, env, val, so_far, out)
            }
            [Piece::Value(expr), rest @ ..] => self.each(expr, env, Item::of(val.clone()), &mut |run, x| {
                let piece = text::format(run, format, &x.val)?;
                run.meter.alloc(so_far.len() as u64 + piece.len() as u64)?;
                run.pieces(format, rest, env, val, format!("{so_far}{piece}"), out)
            }),
        }
    }
}
