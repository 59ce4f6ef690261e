//! Expressions that yield new values: constants, constructions, operators, updates.

use super::budget::{Flow, fault};
use super::buffer::Buffer;
use super::env::Env;
use super::eval::{Evaluation, Out, PathedValue};
use super::program::{Cmp, Expr, ExprKind, StringPiece};
use super::value::{Obj, Text, Val};
use super::{operators, text, update};

impl<'p> Evaluation<'p> {
    /// Evaluates an expression that yields new values, without a path.
    pub(super) fn eval_calculation(
        &mut self,
        expr: &'p Expr,
        env: &Env<'p>,
        val: Val,
        out: Out<'_, 'p>,
    ) -> Flow {
        let item = || PathedValue::of(val.clone());
        match &expr.kind {
            ExprKind::Const(constant) => {
                let val = self.constant(*constant)?;
                out(self, PathedValue::of(val))
            }
            ExprKind::Var(n) => {
                let val = self.variable(env, *n)?;
                out(self, PathedValue::of(val))
            }
            ExprKind::Array(inner) => {
                let arr = self.eval_array(inner, env, val)?;
                let val = self.meter.admit(Val::Arr(arr.into()))?;
                out(self, PathedValue::of(val))
            }
            ExprKind::Text(format, pieces) => {
                self.build_string(*format, pieces, env, &val, &StringTail::Nothing, out)
            }
            ExprKind::Object(members, _) => {
                self.build_object(members, env, &val, &Obj::default(), out)
            }
            ExprKind::Neg(inner) => self.eval_each(inner, env, item(), &mut |run, x| match x.val {
                Val::Num(n) => {
                    let n = n.neg(&mut run.meter)?;
                    out(run, PathedValue::of(Val::Num(n)))
                }
                other => fault(format!("cannot negate {}", other.type_name())),
            }),
            ExprKind::Logic(left, ends, right) => {
                self.eval_each(left, env, item(), &mut |run, x| {
                    if x.val.is_truthy() == *ends {
                        return out(run, PathedValue::of(Val::Bool(*ends)));
                    }
                    run.eval_each(right, env, item(), &mut |run, y| {
                        out(run, PathedValue::of(Val::Bool(y.val.is_truthy())))
                    })
                })
            }
            ExprKind::Math(op, sides) => self.eval_sides(sides, env, &val, &mut |run, l, r| {
                let result = operators::apply_math(run, *op, l, r)?;
                out(run, PathedValue::of(result))
            }),
            ExprKind::Cmp(op, sides) => self.eval_sides(sides, env, &val, &mut |run, l, r| {
                let result = run.compare(*op, &l, &r)?;
                out(run, PathedValue::of(result))
            }),
            ExprKind::Assign(to, from) => self.eval_each(from, env, item(), &mut |run, x| {
                let result = update::assign(run, to, env, val.clone(), &x.val)?;
                out(run, PathedValue::of(result))
            }),
            ExprKind::Update(to, f) => {
                let result =
                    update::update(self, to, env, val, &mut |run, old| run.first(f, env, old))?;
                out(self, PathedValue::of(result))
            }
            ExprKind::UpdateWith(to, op, from) => {
                self.eval_each(from, env, item(), &mut |run, x| {
                    let result = update::update(run, to, env, val.clone(), &mut |run, old| {
                        let new = match op {
                            Some(op) => operators::apply_math(run, *op, old, x.val.clone())?,
                            None if old.is_truthy() => old,
                            None => x.val.clone(),
                        };
                        Ok(Some(new))
                    })?;
                    out(run, PathedValue::of(result))
                })
            }
            _ => fault("internal: an expression without a way to run"),
        }
    }

    pub(super) fn compare(&mut self, op: Cmp, left: &Val, right: &Val) -> Flow<Val> {
        let order = self.meter.order(left, right)?;
        Ok(Val::Bool(op.holds(order)))
    }

    fn eval_sides(
        &mut self,
        sides: &'p [Expr; 2],
        env: &Env<'p>,
        val: &Val,
        f: &mut dyn FnMut(&mut Self, Val, Val) -> Flow,
    ) -> Flow {
        self.eval_each(&sides[1], env, PathedValue::of(val.clone()), &mut |run, r| {
            run.eval_each(&sides[0], env, PathedValue::of(val.clone()), &mut |run, l| {
                f(run, l.val, r.val.clone())
            })
        })
    }

    /// Adds a member to an object under construction.
    pub(super) fn set_member(&mut self, obj: &mut Obj, key: &Val, value: Val) -> Flow {
        let Val::Str(key) = key else {
            return fault(format!("cannot use {} as an object key", key.type_name()));
        };
        obj.insert(&mut self.meter, key.clone(), value)?;
        Ok(())
    }

    fn build_object(
        &mut self,
        rest: &'p [(Expr, Expr)],
        env: &Env<'p>,
        val: &Val,
        so_far: &Obj,
        out: Out<'_, 'p>,
    ) -> Flow {
        let [(key, value), rest @ ..] = rest else {
            let obj = so_far.copied(&mut self.meter)?;
            let obj = self.meter.admit(Val::Obj(obj.into()))?;
            return out(self, PathedValue::of(obj));
        };
        self.eval_each(key, env, PathedValue::of(val.clone()), &mut |run, k| {
            run.eval_each(value, env, PathedValue::of(val.clone()), &mut |run, v| {
                let mut obj = so_far.copied(&mut run.meter)?;
                run.set_member(&mut obj, &k.val, v.val)?;
                run.build_object(rest, env, val, &obj, out)
            })
        })
    }

    /// The string of `pieces` before `after`. As in jq, where several pieces have several values
    /// the first one varies fastest: `"\(1, 2)\(3, 4)"` is `13`, `23`, `14`, `24`.
    fn build_string(
        &mut self,
        format: text::Format,
        pieces: &'p [StringPiece],
        env: &Env<'p>,
        val: &Val,
        after: &StringTail<'_>,
        out: Out<'_, 'p>,
    ) -> Flow {
        match pieces {
            [] => {
                let text = after.text(self)?;
                let val = self.meter.admit(Val::Str(text))?;
                out(self, PathedValue::of(val))
            }
            [before @ .., StringPiece::Plain(plain)] => {
                self.build_string(format, before, env, val, &StringTail::More(plain, after), out)
            }
            [before @ .., StringPiece::Value(expr)] => {
                self.eval_each(expr, env, PathedValue::of(val.clone()), &mut |run, x| {
                    let text = text::format_text(run, format, &x.val)?;
                    run.build_string(format, before, env, val, &StringTail::More(&text, after), out)
                })
            }
        }
    }
}

/// The rest of a string under construction, on the stack of the frame that makes its beginning.
enum StringTail<'r> {
    Nothing,
    More(&'r str, &'r StringTail<'r>),
}

impl StringTail<'_> {
    fn text(&self, run: &mut Evaluation<'_>) -> Flow<Text> {
        let mut bytes = 0_usize;
        let mut rest = self;
        while let StringTail::More(text, after) = rest {
            bytes = bytes.saturating_add(text.len());
            rest = after;
        }
        let mut all = Buffer::default();
        all.reserve(&mut run.meter, bytes)?;
        let mut rest = self;
        while let StringTail::More(text, after) = rest {
            run.meter.work(4)?;
            all.push(&mut run.meter, text)?;
            rest = after;
        }
        all.into_text(&mut run.meter)
    }
}
