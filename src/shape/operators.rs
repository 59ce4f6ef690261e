//! Arithmetic on values: `+`, `-`, `*`, `/` and `%`.
//!
//! A value without another owner is changed in place; a shared one is copied, and charged as a
//! copy.

use std::rc::Rc;

use super::budget::{Flow, fault};
use super::buffer::Buffer;
use super::eval::Evaluation;
use super::program::Math;
use super::value::{Arr, Obj, Val};

/// `left op right`.
pub(super) fn apply_math(run: &mut Evaluation<'_>, op: Math, left: Val, right: Val) -> Flow<Val> {
    let lt = left.type_name();
    let rt = right.type_name();
    let zero = || format!("cannot divide {lt} by zero");
    match (op, left, right) {
        (Math::Add, Val::Null, x) | (Math::Add, x, Val::Null) => Ok(x),
        (Math::Add, Val::Num(x), Val::Num(y)) => Ok(Val::Num(x.add(&y))),
        (Math::Sub, Val::Num(x), Val::Num(y)) => Ok(Val::Num(x.sub(&y))),
        (Math::Mul, Val::Num(x), Val::Num(y)) => Ok(Val::Num(x.mul(&y))),
        (Math::Div, Val::Num(x), Val::Num(y)) => {
            x.div(&y).map_or_else(|| fault(zero()), |n| Ok(Val::Num(n)))
        }
        (Math::Rem, Val::Num(x), Val::Num(y)) => {
            x.rem(&y).map_or_else(|| fault(zero()), |n| Ok(Val::Num(n)))
        }
        (Math::Add, Val::Str(x), Val::Str(y)) => {
            let mut both = Buffer::default();
            both.reserve(&mut run.meter, x.len() + y.len())?;
            both.push(&mut run.meter, &x)?;
            both.push(&mut run.meter, &y)?;
            let text = both.into_text(&mut run.meter)?;
            run.meter.admit(Val::Str(text))
        }
        (Math::Add, Val::Arr(mut x), Val::Arr(y)) => {
            let arr = Arr::make_mut(&mut run.meter, &mut x)?;
            for item in y.items() {
                arr.push(&mut run.meter, item.clone())?;
            }
            run.meter.admit(Val::Arr(x))
        }
        (Math::Add, Val::Obj(mut x), Val::Obj(y)) => {
            let obj = Obj::make_mut(&mut run.meter, &mut x)?;
            for (key, val) in y.iter() {
                obj.insert(&mut run.meter, key.clone(), val.clone())?;
            }
            run.meter.admit(Val::Obj(x))
        }
        (Math::Mul, Val::Obj(x), Val::Obj(y)) => merge(run, x, &y),
        (Math::Mul, Val::Str(s), Val::Num(n)) | (Math::Mul, Val::Num(n), Val::Str(s)) => {
            repeat(run, &s, n.f64())
        }
        (Math::Sub, Val::Arr(x), Val::Arr(y)) => {
            let mut rest = Arr::default();
            for item in x.items() {
                if !is_among(run, item, y.items())? {
                    rest.push(&mut run.meter, item.clone())?;
                }
            }
            Ok(Val::Arr(Rc::new(rest)))
        }
        (Math::Div, Val::Str(x), Val::Str(y)) => super::text::split(run, &x, &y),
        _ => fault(format!("cannot {} {lt} and {rt}", op_name(op))),
    }
}

fn is_among(run: &mut Evaluation<'_>, item: &Val, others: &[Val]) -> Flow<bool> {
    for other in others {
        if run.meter.is_equal(item, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn op_name(op: Math) -> &'static str {
    match op {
        Math::Add => "add",
        Math::Sub => "subtract",
        Math::Mul => "multiply",
        Math::Div => "divide",
        Math::Rem => "take the remainder of",
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "above zero, and `as` clips"
)]
fn repeat(run: &mut Evaluation<'_>, text: &str, times: f64) -> Flow<Val> {
    // As in jq: less than nothing is null, and so is nan; a part of once is nothing.
    if times.is_nan() || times < 0.0 {
        return Ok(Val::Null);
    }
    let times = times as u64;
    let bytes = text.len().saturating_mul(usize::try_from(times).unwrap_or(usize::MAX));
    let mut all = Buffer::default();
    all.reserve(&mut run.meter, bytes)?;
    if bytes > 0 {
        all.push(&mut run.meter, text)?;
    }
    // Doubles the text, in pieces after which the clock is read.
    while all.len() < bytes {
        let more = all.len().min(bytes - all.len());
        all.push_own_prefix(
            &mut run.meter,
            more.min((64 * 1024 / text.len()).max(1) * text.len()),
        )?;
    }
    let text = all.into_text(&mut run.meter)?;
    run.meter.admit(Val::Str(text))
}

/// `*` of objects; as deep as values are.
fn merge(run: &mut Evaluation<'_>, mut left: Rc<Obj>, right: &Rc<Obj>) -> Flow<Val> {
    run.meter.enter()?;
    let obj = Obj::make_mut(&mut run.meter, &mut left)?;
    for (key, new) in right.iter() {
        let old = obj.get(&mut run.meter, key)?.cloned();
        let merged = match (old, new) {
            (Some(Val::Obj(old)), Val::Obj(new)) => merge(run, old, new)?,
            (_, new) => new.clone(),
        };
        obj.insert(&mut run.meter, key.clone(), merged)?;
    }
    run.meter.admit(Val::Obj(left))
}
