//! Operators, indexing, and changes along paths.
//!
//! Changes are made in place where nobody else holds the value, and charged as a copy where somebody does.

use std::cmp::Ordering;
use std::rc::Rc;

use jaq_core::ops::Math;

use super::buffer::{Buffer, Pile};
use super::eval::{Env, Item, Run, Trail};
use super::memory_count::Held;
use super::meter::{Flow, Stop, fault};
use super::program::Expr;
use super::value::{Arr, Obj, SLOT_BYTES, Text, Val};

/// What an index costs beside the bytes of a key.
const INDEXING: u64 = 16;

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
        (Math::Mul, Val::Str(s), Val::Num(n)) | (Math::Mul, Val::Num(n), Val::Str(s)) => repeat(run, &s, n.f64()),
        (Math::Sub, Val::Arr(x), Val::Arr(y)) => {
            let mut kept = Arr::default();
            for item in x.items() {
                if !is_among(run, item, y.items())? {
                    kept.push(&mut run.meter, item.clone())?;
                }
            }
            Ok(Val::Arr(Rc::new(kept)))
        }
        (Math::Div, Val::Str(x), Val::Str(y)) => super::text::split(run, &x, &y),
        _ => fault(format!("cannot {} {lt} and {rt}", op_name(op))),
    }
}

fn is_among(run: &mut Run<'_>, item: &Val, others: &[Val]) -> Flow<bool> {
    for other in others {
        if run.meter.equal(item, other)? {
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

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "above zero, and `as` clips")]
fn repeat(run: &mut Run<'_>, text: &str, times: f64) -> Flow<Val> {
    // As in jq: nothing or less is null, a part of once is once; nan compares as less.
    if times.is_nan() || times <= 0.0 {
        return Ok(Val::Null);
    }
    let times = if times < 1.0 { 1 } else { times as u64 };
    let bytes = text.len().saturating_mul(usize::try_from(times).unwrap_or(usize::MAX));
    let mut all = Buffer::default();
    all.reserve(&mut run.meter, bytes)?;
    if !text.is_empty() {
        all.push(&mut run.meter, text)?;
    }
    // What there is, doubled, in pieces after which the clock is looked at.
    while all.len() < bytes {
        let more = all.len().min(bytes - all.len());
        all.push_again(&mut run.meter, more.min((64 * 1024 / text.len()).max(1) * text.len()))?;
    }
    let text = all.into_text(&mut run.meter)?;
    run.meter.admit(Val::Str(text))
}

/// `*` of objects; as deep as values are.
fn merge(run: &mut Run<'_>, mut left: Rc<Obj>, right: &Rc<Obj>) -> Flow<Val> {
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
    run.meter.work(INDEXING)?;
    match (val, key) {
        (Val::Obj(obj), Val::Str(key)) => Ok(obj.get(&mut run.meter, key)?.cloned().unwrap_or(Val::Null)),
        (Val::Arr(arr), Val::Num(n)) => {
            let item = n.floor().and_then(|at| place(at, arr.items().len())).and_then(|at| arr.items().get(at));
            Ok(item.cloned().unwrap_or(Val::Null))
        }
        (Val::Arr(_), Val::Arr(_)) => super::functions::indices(run, val, key),
        (Val::Arr(_) | Val::Str(_) | Val::Null, Val::Obj(bounds)) => {
            let (from, to) = slice_bounds(run, bounds)?;
            slice(run, val, &from, &to)
        }
        (Val::Null, Val::Str(_) | Val::Num(_) | Val::Null) => Ok(Val::Null),
        _ => cannot_index(val, key),
    }
}

/// Start and end as a path has them.
fn slice_bounds(run: &mut Run<'_>, bounds: &Obj) -> Flow<(Val, Val)> {
    let mut bound = |name| Ok(bounds.get(&mut run.meter, name)?.cloned().unwrap_or(Val::Null));
    Ok((bound("start")?, bound("end")?))
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
            Ok(Val::Arr(Rc::new(Arr::copied(&mut run.meter, items)?)))
        }
        Val::Str(text) => {
            run.meter.touch(2 * text.len())?;
            let range = range(from, to, text.chars().count())?;
            let mut places = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            let start = places.nth(range.start).unwrap_or(text.len());
            let end = if range.is_empty() { start } else { places.nth(range.len() - 1).unwrap_or(text.len()) };
            Ok(Val::Str(Text::of(&mut run.meter, &text[start..end])?))
        }
        other => fault(format!("cannot slice {}", other.type_name())),
    }
}

/// The paths that `to` names in `val`.
pub(super) fn paths<'p>(run: &mut Run<'p>, to: &'p Expr, env: &Env<'p>, val: &Val) -> Flow<Pile<Arr>> {
    let mut paths = Pile::default();
    run.each(to, env, Item { val: val.clone(), path: Some(Trail::default()) }, &mut |run, item| {
        let keys = item.path.unwrap_or_default().keys(&mut run.meter)?;
        paths.push(&mut run.meter, keys)
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
    let mut gone = Pile::default();
    for path in paths.iter() {
        let mut empty = false;
        val = change_at(run, val, path.items(), &mut |run, old| {
            // Where there is no new value the old one stays until all have been visited: places must not move.
            let kept = old.clone();
            let new = change(run, old)?;
            empty = new.is_none();
            Ok(Some(new.unwrap_or(kept)))
        })?;
        if empty {
            let path = Arr::copied(&mut run.meter, path.items())?;
            gone.push(&mut run.meter, path)?;
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
            let mut obj = Obj::default();
            obj.insert(&mut run.meter, key.clone(), new)?;
            Val::Obj(Rc::new(obj))
        }
        (Val::Obj(mut arc), Val::Str(key)) => {
            let obj = Obj::make_mut(&mut run.meter, &mut arc)?;
            // Taken out, so that what is below is ours alone.
            let old = obj.replace(&mut run.meter, key, Val::Null)?;
            let new = change_at(run, old.unwrap_or(Val::Null), rest, change)?;
            obj.insert(&mut run.meter, key.clone(), new)?;
            Val::Obj(arc)
        }
        (Val::Null, Val::Num(_)) => return change_at(run, Val::Arr(Rc::default()), path, change),
        (Val::Arr(mut arc), Val::Num(n)) => {
            let len = arc.items().len();
            let Some(at) = n.floor().and_then(|at| place(at, len)) else {
                return fault("an array index is out of bounds");
            };
            let more = (at + 1).saturating_sub(len);
            run.meter.alloc(more.saturating_mul(SLOT_BYTES))?;
            let arr = Arr::make_mut(&mut run.meter, &mut arc)?;
            if more > 1 {
                arr.reserve(&mut run.meter, more)?;
            }
            for _ in 0..more {
                arr.push(&mut run.meter, Val::Null)?;
            }
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
    let (from, to) = slice_bounds(run, bounds)?;
    let old = slice(run, val, &from, &to)?;
    let new = change_at(run, old, rest, change)?;
    let empty = Rc::default();
    let arr = if let Val::Arr(arr) = val { arr } else { &empty };
    let range = range(&from, &to, arr.items().len())?;
    let new = match new {
        Val::Arr(new) => new,
        other => return fault(format!("a slice can only be set to an array, not to {}", other.type_name())),
    };
    run.meter.alloc((arr.items().len() + new.items().len()) * SLOT_BYTES)?;
    let before = &arr.items()[..range.start];
    let after = &arr.items()[range.end..];
    run.meter.admit(Val::Arr(Rc::new(Arr::of([before, new.items(), after].concat()))))
}

/// `val` without what is at `paths`.
pub(super) fn delete(run: &mut Run<'_>, mut val: Val, mut paths: Pile<Arr>) -> Flow<Val> {
    let paths = paths.take(&mut run.meter, 0)?;
    let _held = Held::of(paths.len() * size_of::<Arr>());
    // From the end, so that places before stay.
    let paths = run.meter.sort(paths, &mut |meter, x, y| meter.order_all(x.items(), y.items()))?;
    let mut rest = paths.as_slice();
    while let [.., path] = rest {
        let Some((_, parents)) = path.items().split_last() else { return Ok(Val::Null) };
        // Neighbours go together: a long array must not be moved once for each.
        let mut first = rest.len() - 1;
        while first > 0 && is_neighbour(run, &rest[first - 1], parents)? {
            first -= 1;
        }
        run.meter.alloc((rest.len() - first) * size_of::<&Val>())?;
        let keys: Vec<&Val> = rest[first..].iter().filter_map(|path| path.items().last()).collect();
        val = delete_keys(run, val, parents, &keys)?;
        rest = &rest[..first];
    }
    Ok(val)
}

/// Whether a path leads into what is at `parents`.
fn is_neighbour(run: &mut Run<'_>, path: &Arr, parents: &[Val]) -> Flow<bool> {
    let Some((_, others)) = path.items().split_last() else { return Ok(false) };
    Ok(others.len() == parents.len() && run.meter.order_all(others, parents)? == Ordering::Equal)
}

fn delete_keys(run: &mut Run<'_>, val: Val, parents: &[Val], keys: &[&Val]) -> Flow<Val> {
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

fn without(run: &mut Run<'_>, val: Val, keys: &[&Val]) -> Flow<Val> {
    match val {
        Val::Null => Ok(Val::Null),
        Val::Obj(obj) => without_members(run, obj, keys),
        Val::Arr(arr) => without_items(run, &arr, keys),
        other => fault(format!("cannot delete from {}", other.type_name())),
    }
}

fn without_members(run: &mut Run<'_>, mut obj: Rc<Obj>, keys: &[&Val]) -> Flow<Val> {
    // A place in a set of names, and its hash.
    run.meter.alloc(keys.len() * 64)?;
    let _held = Held::of(keys.len() * 64);
    let mut names = std::collections::HashSet::with_capacity(keys.len());
    for key in keys {
        let Val::Str(name) = key else { return fault(format!("cannot delete {} of object", key.type_name())) };
        run.meter.touch(2 * name.len())?;
        names.insert(&**name);
    }
    let longest = names.iter().map(|name| name.len()).max().unwrap_or(0);
    run.meter.touch(obj.len().saturating_mul(16 + 2 * longest))?;
    // No name is looked for that is longer than all that go.
    let rest = Obj::make_mut(&mut run.meter, &mut obj)?;
    rest.retain(&mut run.meter, |key| key.len() > longest || !names.contains(key))?;
    Ok(Val::Obj(obj))
}

fn without_items(run: &mut Run<'_>, arr: &Arr, keys: &[&Val]) -> Flow<Val> {
    let len = arr.items().len();
    run.meter.alloc(len)?;
    let _held = Held::of(len);
    let mut gone = vec![false; len];
    for key in keys {
        run.meter.touch(8)?;
        match key {
            Val::Num(n) => {
                if let Some(gone) = n.floor().and_then(|at| place(at, len)).and_then(|at| gone.get_mut(at)) {
                    *gone = true;
                }
            }
            Val::Obj(bounds) => {
                let (from, to) = slice_bounds(run, bounds)?;
                let range = range(&from, &to, len)?;
                run.meter.touch(range.len())?;
                gone[range].fill(true);
            }
            other => return fault(format!("cannot delete {} of array", other.type_name())),
        }
    }
    run.meter.touch(2 * len)?;
    let stay = gone.iter().filter(|gone| !**gone).count();
    run.meter.alloc(stay * SLOT_BYTES)?;
    let mut kept: Vec<Val> = Vec::with_capacity(stay);
    kept.extend(arr.items().iter().zip(&gone).filter(|(_, gone)| !**gone).map(|(item, _)| item.clone()));
    Ok(Val::Arr(Rc::new(Arr::of(kept))))
}

/// The keys of a path given as a value.
pub(super) fn keys_of(path: &Val) -> Flow<&[Val]> {
    match path {
        Val::Arr(keys) if keys.items().len() > super::meter::MAX_DEPTH as usize => {
            Err(Stop::Spent("follows a path of more than 256 steps"))
        }
        Val::Arr(keys) => Ok(keys.items()),
        other => fault(format!("cannot use {} as a path", other.type_name())),
    }
}
