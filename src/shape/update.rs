//! Operators, indexing, and changes along paths.
//!
//! Changes are made in place where nobody else holds the value, and charged as a copy where somebody does.

use std::sync::Arc;

use jaq_core::ops::Math;

use super::eval::{Env, Item, Run, Trail};
use super::meter::{Flow, Stop, fault};
use super::program::Expr;
use super::value::{Arr, MEMBER_BYTES, Obj, SLOT_BYTES, Val};

/// `left op right`.
pub(super) fn math(run: &mut Run<'_>, op: Math, left: Val, right: Val) -> Flow<Val> {
    let (lt, rt) = (left.type_name(), right.type_name());
    let zero = || format!("cannot divide {lt} by zero");
    match (op, left, right) {
        (Math::Add, Val::Null, x) | (Math::Add, x, Val::Null) => Ok(x),
        (Math::Add, Val::Num(x), Val::Num(y)) => Ok(Val::Num(x.add(&y))),
        (Math::Sub, Val::Num(x), Val::Num(y)) => Ok(Val::Num(x.sub(&y))),
        (Math::Mul, Val::Num(x), Val::Num(y)) => Ok(Val::Num(x.mul(&y))),
        (Math::Div, Val::Num(x), Val::Num(y)) => x.div(&y).map_or_else(|| fault(zero()), |n| Ok(Val::Num(n))),
        (Math::Rem, Val::Num(x), Val::Num(y)) => x.rem(&y).map_or_else(|| fault(zero()), |n| Ok(Val::Num(n))),
        (Math::Add, Val::Str(x), Val::Str(y)) => {
            run.meter.alloc(x.len() as u64 + y.len() as u64)?;
            run.meter.admit(Val::str(&format!("{x}{y}")))
        }
        (Math::Add, Val::Arr(mut x), Val::Arr(y)) => {
            let arr = arr_mut(run, &mut x)?;
            for item in y.items() {
                run.meter.alloc(SLOT_BYTES)?;
                arr.push(item.clone());
            }
            run.meter.admit(Val::Arr(x))
        }
        (Math::Add, Val::Obj(mut x), Val::Obj(y)) => {
            let obj = obj_mut(run, &mut x)?;
            for (key, val) in y.iter() {
                run.meter.alloc(MEMBER_BYTES)?;
                obj.insert(key.clone(), val.clone());
            }
            run.meter.admit(Val::Obj(x))
        }
        (Math::Mul, Val::Obj(x), Val::Obj(y)) => merge(run, x, &y),
        (Math::Mul, Val::Str(s), Val::Num(n)) | (Math::Mul, Val::Num(n), Val::Str(s)) => repeat(run, &s, n.f64()),
        (Math::Sub, Val::Arr(x), Val::Arr(y)) => {
            run.meter.spend(x.items().len() as u64 * (1 + y.items().len() as u64))?;
            let (most, all) = (x.items().iter().map(Val::size).max().unwrap_or(0), y.items().len() as u64);
            run.meter.spend((x.items().len() as u64).saturating_mul(all).saturating_mul(most / 64))?;
            run.meter.alloc(x.items().len() as u64 * SLOT_BYTES)?;
            let kept = x.items().iter().filter(|item| !y.items().contains(item)).cloned();
            Ok(Val::Arr(Arc::new(kept.collect())))
        }
        (Math::Div, Val::Str(x), Val::Str(y)) => super::text::split(run, &x, &y),
        _ => fault(format!("cannot {} {lt} and {rt}", op_name(op))),
    }
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

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "above zero, and `as` clips")]
fn repeat(run: &mut Run<'_>, text: &str, times: f64) -> Flow<Val> {
    // As in jq: nothing or less is null, a part of once is once; nan compares as less.
    if times.is_nan() || times <= 0.0 {
        return Ok(Val::Null);
    }
    let times = if times < 1.0 { 1 } else { times as u64 };
    run.meter.alloc((text.len() as u64).saturating_mul(times))?;
    run.meter.admit(Val::str(&text.repeat(usize::try_from(times).unwrap_or(usize::MAX))))
}

/// `*` of objects; as deep as values are.
fn merge(run: &mut Run<'_>, mut left: Arc<Obj>, right: &Arc<Obj>) -> Flow<Val> {
    run.meter.enter()?;
    let obj = obj_mut(run, &mut left)?;
    for (key, new) in right.iter() {
        run.meter.alloc(MEMBER_BYTES)?;
        let old = obj.get(key).cloned();
        let merged = match (old, new) {
            (Some(Val::Obj(old)), Val::Obj(new)) => merge(run, old, new)?,
            (_, new) => new.clone(),
        };
        obj.insert(key.clone(), merged);
    }
    run.meter.admit(Val::Obj(left))
}

/// The array, to be changed: a charged copy where it is shared.
fn arr_mut<'a>(run: &mut Run<'_>, arr: &'a mut Arc<Arr>) -> Flow<&'a mut Arr> {
    if Arc::get_mut(arr).is_none() {
        run.meter.alloc(arr.items().len() as u64 * SLOT_BYTES)?;
        run.meter.spend(arr.items().len() as u64 / 4)?;
    }
    Ok(Arc::make_mut(arr))
}

fn obj_mut<'a>(run: &mut Run<'_>, obj: &'a mut Arc<Obj>) -> Flow<&'a mut Obj> {
    if Arc::get_mut(obj).is_none() {
        run.meter.alloc(obj.len() as u64 * MEMBER_BYTES)?;
        run.meter.spend(obj.len() as u64 / 4)?;
    }
    Ok(Arc::make_mut(obj))
}

fn cannot_index<T>(val: &Val, key: &Val) -> Flow<T> {
    fault(format!("cannot index {} with {}", val.type_name(), key.type_name()))
}

/// Where the number `at` lies in an array of `len`, if it does.
fn place(at: i64, len: usize) -> Option<usize> {
    let at = if at < 0 { at.checked_add(i64::try_from(len).ok()?)? } else { at };
    usize::try_from(at).ok()
}

/// `val[key]`.
pub(super) fn index(run: &mut Run<'_>, val: &Val, key: &Val) -> Flow<Val> {
    match (val, key) {
        (Val::Obj(obj), Val::Str(key)) => Ok(obj.get(key).cloned().unwrap_or(Val::Null)),
        (Val::Arr(arr), Val::Num(n)) => {
            let item = n.floor().and_then(|at| place(at, arr.items().len())).and_then(|at| arr.items().get(at));
            Ok(item.cloned().unwrap_or(Val::Null))
        }
        (Val::Arr(_), Val::Arr(_)) => super::functions::indices(run, val, key),
        (Val::Arr(_) | Val::Str(_) | Val::Null, Val::Obj(bounds)) => {
            let bound = |name| bounds.get(name).cloned().unwrap_or(Val::Null);
            slice(run, val, &bound("start"), &bound("end"))
        }
        (Val::Null, Val::Str(_) | Val::Num(_) | Val::Null) => Ok(Val::Null),
        _ => cannot_index(val, key),
    }
}

/// The bounds of a slice of something `len` long.
fn range(from: &Val, to: &Val, len: usize) -> Flow<std::ops::Range<usize>> {
    let bound = |val: &Val, default: usize, up: bool| match val {
        Val::Null => Ok(default),
        Val::Num(n) => {
            let floor = n.floor().unwrap_or(0);
            let at = if up && n.f64() > n.floor().map_or(0.0, |f| super::number::Num::Int(f).f64()) {
                floor.saturating_add(1)
            } else {
                floor
            };
            Ok(if at < 0 { place(at, len).unwrap_or(0) } else { place(at, len).unwrap_or(len).min(len) })
        }
        _ => fault("the start and end of a slice must be numbers"),
    };
    let (from, to) = (bound(from, 0, false)?, bound(to, len, true)?);
    Ok(from..to.max(from))
}

/// `val[from:to]`.
pub(super) fn slice(run: &mut Run<'_>, val: &Val, from: &Val, to: &Val) -> Flow<Val> {
    match val {
        Val::Null => Ok(Val::Null),
        Val::Arr(arr) => {
            let items = &arr.items()[range(from, to, arr.items().len())?];
            run.meter.alloc(items.len() as u64 * SLOT_BYTES)?;
            Ok(Val::Arr(Arc::new(items.iter().cloned().collect())))
        }
        Val::Str(text) => {
            run.meter.alloc(text.len() as u64)?;
            let range = range(from, to, text.chars().count())?;
            let cut: String = text.chars().skip(range.start).take(range.len()).collect();
            Ok(Val::str(&cut))
        }
        other => fault(format!("cannot slice {}", other.type_name())),
    }
}

/// The paths that `to` names in `val`.
pub(super) fn paths<'p>(run: &mut Run<'p>, to: &'p Expr, env: &Env<'p>, val: &Val) -> Flow<Vec<Vec<Val>>> {
    let mut paths = Vec::new();
    run.each(to, env, Item { val: val.clone(), path: Some(Trail::default()) }, &mut |run, item| {
        let keys = item.path.map(|path| path.keys()).unwrap_or_default();
        run.meter.alloc((keys.len() as u64 + 2) * SLOT_BYTES)?;
        paths.push(keys);
        Ok(())
    })?;
    Ok(paths)
}

/// `to = new`.
pub(super) fn assign<'p>(run: &mut Run<'p>, to: &'p Expr, env: &Env<'p>, val: Val, new: &Val) -> Flow<Val> {
    update(run, to, env, val, &mut |_, _| Ok(Some(new.clone())))
}

/// What becomes of a value that an update meets; `None` deletes it.
type Change<'f, 'p> = &'f mut dyn FnMut(&mut Run<'p>, Val) -> Flow<Option<Val>>;

/// `to |= change`.
pub(super) fn update<'p>(
    run: &mut Run<'p>,
    to: &'p Expr,
    env: &Env<'p>,
    val: Val,
    change: Change<'_, 'p>,
) -> Flow<Val> {
    let paths = paths(run, to, env, &val)?;
    let mut val = val;
    let mut gone = Vec::new();
    for path in paths {
        let mut empty = false;
        val = change_at(run, val, &path, &mut |run, old| {
            // Where there is no new value the old one stays until all have been visited: places must not move.
            let kept = old.clone();
            let new = change(run, old)?;
            empty = new.is_none();
            Ok(Some(new.unwrap_or(kept)))
        })?;
        if empty {
            gone.push(path);
        }
    }
    delete(run, val, gone)
}

/// `val` with `change` made at `path`.
pub(super) fn change_at<'p>(run: &mut Run<'p>, val: Val, path: &[Val], change: Change<'_, 'p>) -> Flow<Val> {
    run.meter.enter()?;
    let [key, rest @ ..] = path else { return Ok(change(run, val)?.unwrap_or(Val::Null)) };
    let changed = match (val, key) {
        (Val::Null, Val::Str(key)) => {
            let new = change_at(run, Val::Null, rest, change)?;
            run.meter.alloc(MEMBER_BYTES)?;
            Val::Obj(Arc::new([(key.clone(), new)].into_iter().collect()))
        }
        (Val::Obj(mut arc), Val::Str(key)) => {
            let obj = obj_mut(run, &mut arc)?;
            run.meter.alloc(MEMBER_BYTES)?;
            // Taken out, so that what is below is ours alone.
            let old = obj.get(key).is_some().then(|| obj.insert(key.clone(), Val::Null)).flatten();
            let new = change_at(run, old.unwrap_or(Val::Null), rest, change)?;
            obj.insert(key.clone(), new);
            Val::Obj(arc)
        }
        (Val::Null, Val::Num(_)) => return change_at(run, Val::Arr(Arc::default()), path, change),
        (Val::Arr(mut arc), Val::Num(n)) => {
            let len = arc.items().len();
            let Some(at) = n.floor().and_then(|at| place(at, len)) else {
                return fault("an array index is out of bounds");
            };
            let more = (at + 1).saturating_sub(len);
            run.meter.alloc((more as u64).saturating_mul(SLOT_BYTES))?;
            let arr = arr_mut(run, &mut arc)?;
            (0..more).for_each(|_| arr.push(Val::Null));
            let old = arr.replace(at, Val::Null);
            let new = change_at(run, old, rest, change)?;
            arr.replace(at, new);
            Val::Arr(arc)
        }
        (val @ (Val::Null | Val::Arr(_)), Val::Obj(bounds)) => return change_slice(run, &val, bounds, rest, change),
        (val, key) => return cannot_index(&val, key),
    };
    run.meter.admit(changed)
}

fn change_slice<'p>(run: &mut Run<'p>, val: &Val, bounds: &Obj, rest: &[Val], change: Change<'_, 'p>) -> Flow<Val> {
    let bound = |name| bounds.get(name).cloned().unwrap_or(Val::Null);
    let (from, to) = (bound("start"), bound("end"));
    let old = slice(run, val, &from, &to)?;
    let new = change_at(run, old, rest, change)?;
    let empty = Arc::default();
    let arr = if let Val::Arr(arr) = val { arr } else { &empty };
    let range = range(&from, &to, arr.items().len())?;
    let new = match new {
        Val::Arr(new) => new,
        other => return fault(format!("a slice can only be set to an array, not to {}", other.type_name())),
    };
    run.meter.alloc((arr.items().len() + new.items().len()) as u64 * SLOT_BYTES)?;
    let (before, after) = (&arr.items()[..range.start], &arr.items()[range.end..]);
    run.meter.admit(Val::Arr(Arc::new([before, new.items(), after].concat().into_iter().collect())))
}

/// `val` without what is at `paths`.
pub(super) fn delete(run: &mut Run<'_>, mut val: Val, mut paths: Vec<Vec<Val>>) -> Flow<Val> {
    run.meter.spend((paths.len() as u64).saturating_mul(u64::from(paths.len().max(1).ilog2()) + 1))?;
    // From the end, so that places before stay.
    paths.sort();
    paths.dedup();
    while let Some(path) = paths.pop() {
        let Some((last, parents)) = path.split_last() else { return Ok(Val::Null) };
        // Neighbours go together: a long array must not be moved once for each.
        let mut keys = vec![last.clone()];
        while paths.last().is_some_and(|p| p.split_last().is_some_and(|(_, ps)| ps == parents)) {
            keys.extend(paths.pop().and_then(|p| p.last().cloned()));
        }
        val = delete_keys(run, val, parents, &keys)?;
    }
    Ok(val)
}

fn delete_keys(run: &mut Run<'_>, val: Val, parents: &[Val], keys: &[Val]) -> Flow<Val> {
    // A place that does not exist must not come to be by deleting in it.
    let mut at = val.clone();
    for key in parents {
        at = index(run, &at, key)?;
        if matches!(at, Val::Null) {
            return Ok(val);
        }
    }
    drop(at);
    change_at(run, val, parents, &mut |run, at| without(run, at, keys).map(Some))
}

fn without(run: &mut Run<'_>, val: Val, keys: &[Val]) -> Flow<Val> {
    run.meter.spend(keys.len() as u64)?;
    match val {
        Val::Null => Ok(Val::Null),
        Val::Obj(mut arc) => {
            let mut names = std::collections::HashSet::new();
            for key in keys {
                let Val::Str(name) = key else { return fault(format!("cannot delete {} of object", key.type_name())) };
                names.insert(&**name);
            }
            run.meter.alloc(arc.len() as u64 * 8)?;
            obj_mut(run, &mut arc)?.retain(|key| !names.contains(key));
            Ok(Val::Obj(arc))
        }
        Val::Arr(arc) => {
            let len = arc.items().len();
            let mut gone = std::collections::HashSet::new();
            for key in keys {
                match key {
                    Val::Num(n) => gone.extend(n.floor().and_then(|at| place(at, len))),
                    Val::Obj(bounds) => {
                        let bound = |name| bounds.get(name).cloned().unwrap_or(Val::Null);
                        let range = range(&bound("start"), &bound("end"), len)?;
                        run.meter.alloc(range.len() as u64 * 16)?;
                        gone.extend(range);
                    }
                    other => return fault(format!("cannot delete {} of array", other.type_name())),
                }
            }
            run.meter.alloc(len as u64 * SLOT_BYTES)?;
            let kept =
                arc.items().iter().enumerate().filter(|(at, _)| !gone.contains(at)).map(|(_, item)| item.clone());
            Ok(Val::Arr(Arc::new(kept.collect())))
        }
        other => fault(format!("cannot delete from {}", other.type_name())),
    }
}

/// The keys of a path given as a value.
pub(super) fn keys_of(path: &Val) -> Flow<Vec<Val>> {
    match path {
        Val::Arr(keys) if keys.items().len() > super::meter::MAX_DEPTH as usize => {
            Err(Stop::Spent("follows a path of more than 256 steps"))
        }
        Val::Arr(keys) => Ok(keys.items().to_vec()),
        other => fault(format!("cannot use {} as a path", other.type_name())),
    }
}
