//! Looking into values: `.key`, `.[0]` and `.[1:2]`.

use std::rc::Rc;

use super::budget::{Flow, fault};
use super::eval::Evaluation;
use super::value::{Arr, Obj, Text, Val};

/// The cost of an index beside the bytes of a key.
const INDEX_COST: u64 = 16;

pub(super) fn cannot_index<T>(val: &Val, key: &Val) -> Flow<T> {
    fault(format!("cannot index {} with {}", val.type_name(), key.type_name()))
}

/// Where the number `at` lies in an array of `len`, if it does.
pub(super) fn array_position(at: i64, len: usize) -> Option<usize> {
    let at = if at < 0 { at.checked_add(i64::try_from(len).ok()?)? } else { at };
    usize::try_from(at).ok()
}

/// `val[key]`.
pub(super) fn index(run: &mut Evaluation<'_>, val: &Val, key: &Val) -> Flow<Val> {
    run.meter.work(INDEX_COST)?;
    match (val, key) {
        (Val::Obj(obj), Val::Str(key)) => {
            Ok(obj.get(&mut run.meter, key)?.cloned().unwrap_or(Val::Null))
        }
        (Val::Arr(arr), Val::Num(n)) => {
            let item = n
                .floor()
                .and_then(|at| array_position(at, arr.items().len()))
                .and_then(|at| arr.items().get(at));
            Ok(item.cloned().unwrap_or(Val::Null))
        }
        (Val::Arr(_), Val::Arr(_)) => super::functions::indices(run, val, key),
        (Val::Arr(_) | Val::Str(_) | Val::Null, Val::Obj(bounds)) => {
            let (from, to) = slice_bounds(run, bounds)?;
            slice(run, val, &from, &to)
        }
        (Val::Null, Val::Str(_) | Val::Num(_)) => Ok(Val::Null),
        _ => cannot_index(val, key),
    }
}

/// Start and end as a path has them.
pub(super) fn slice_bounds(run: &mut Evaluation<'_>, bounds: &Obj) -> Flow<(Val, Val)> {
    let mut bound = |name| Ok(bounds.get(&mut run.meter, name)?.cloned().unwrap_or(Val::Null));
    Ok((bound("start")?, bound("end")?))
}

/// The bounds of a slice of something `len` long.
pub(super) fn slice_range(from: &Val, to: &Val, len: usize) -> Flow<std::ops::Range<usize>> {
    let bound = |val: &Val, default: usize, up: bool| match val {
        Val::Null => Ok(default),
        // As in jq, nan is no bound.
        Val::Num(n) if n.is_nan() => Ok(default),
        Val::Num(n) => {
            let floor = n.floor().unwrap_or(0);
            let at = if up && n.f64() > n.floor().map_or(0.0, |f| super::number::Num::Int(f).f64())
            {
                floor.saturating_add(1)
            } else {
                floor
            };
            Ok(if at < 0 {
                array_position(at, len).unwrap_or(0)
            } else {
                array_position(at, len).unwrap_or(len).min(len)
            })
        }
        _ => fault("the start and end of a slice must be numbers"),
    };
    let from = bound(from, 0, false)?;
    let to = bound(to, len, true)?;
    Ok(from..to.max(from))
}

/// `val[from:to]`.
pub(super) fn slice(run: &mut Evaluation<'_>, val: &Val, from: &Val, to: &Val) -> Flow<Val> {
    match val {
        Val::Null => Ok(Val::Null),
        Val::Arr(arr) => {
            let items = &arr.items()[slice_range(from, to, arr.items().len())?];
            Ok(Val::Arr(Rc::new(Arr::copied(&mut run.meter, items)?)))
        }
        Val::Str(text) => {
            run.meter.touch(2 * text.len())?;
            let range = slice_range(from, to, text.chars().count())?;
            let mut places = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            let start = places.nth(range.start).unwrap_or(text.len());
            let end = if range.is_empty() {
                start
            } else {
                places.nth(range.len() - 1).unwrap_or(text.len())
            };
            Ok(Val::Str(Text::of(&mut run.meter, &text[start..end])?))
        }
        other => fault(format!("cannot slice {}", other.type_name())),
    }
}
