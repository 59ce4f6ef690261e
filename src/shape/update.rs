//! Changes along paths.
//!
//! A value without another owner is changed in place; a shared one is copied, and charged as a
//! copy.

use std::cmp::Ordering;
use std::rc::Rc;

use super::budget::{Flow, Stop, fault};
use super::buffer::ValueStack;
use super::env::Env;
use super::eval::{Evaluation, PathedValue, Trail};
use super::index::{array_position, cannot_index, index, slice, slice_bounds, slice_range};
use super::memory_count::HeldMemory;
use super::program::Expr;
use super::value::{Arr, Obj, SLOT_BYTES, Val};

/// The paths that `to` names in `val`.
pub(super) fn paths<'p>(
    run: &mut Evaluation<'p>,
    to: &'p Expr,
    env: &Env<'p>,
    val: &Val,
) -> Flow<ValueStack<Arr>> {
    let mut paths = ValueStack::default();
    run.eval_each(
        to,
        env,
        PathedValue { val: val.clone(), path: Some(Trail::default()) },
        &mut |run, item| {
            let keys = item.path.unwrap_or_default().keys(&mut run.meter)?;
            paths.push(&mut run.meter, keys)
        },
    )?;
    Ok(paths)
}

/// `to = new`.
pub(super) fn assign<'p>(
    run: &mut Evaluation<'p>,
    to: &'p Expr,
    env: &Env<'p>,
    val: Val,
    new: &Val,
) -> Flow<Val> {
    update(run, to, env, val, &mut |_, _| Ok(Some(new.clone())))
}

/// The change of a value at a path; `None` deletes it.
type ChangeFn<'f, 'p> = &'f mut dyn FnMut(&mut Evaluation<'p>, Val) -> Flow<Option<Val>>;

/// `to |= change`.
pub(super) fn update<'p>(
    run: &mut Evaluation<'p>,
    to: &'p Expr,
    env: &Env<'p>,
    val: Val,
    change: ChangeFn<'_, 'p>,
) -> Flow<Val> {
    let paths = paths(run, to, env, &val)?;
    let mut val = val;
    let mut deleted_paths = ValueStack::default();
    for path in paths.iter() {
        let mut empty = false;
        val = change_at(run, val, path.items(), &mut |run, old| {
            // Where there is no new value the old one stays until all have been visited: places
            // must not move.
            let unchanged = old.clone();
            let new = change(run, old)?;
            empty = new.is_none();
            Ok(Some(new.unwrap_or(unchanged)))
        })?;
        if empty {
            let path = Arr::copied(&mut run.meter, path.items())?;
            deleted_paths.push(&mut run.meter, path)?;
        }
    }
    delete(run, val, deleted_paths)
}

/// `val` with `change` made at `path`.
pub(super) fn change_at<'p>(
    run: &mut Evaluation<'p>,
    val: Val,
    path: &[Val],
    change: ChangeFn<'_, 'p>,
) -> Flow<Val> {
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
            // Taken out, so that the values below have no other owner.
            let old = obj.replace(&mut run.meter, key, Val::Null)?;
            let new = change_at(run, old.unwrap_or(Val::Null), rest, change)?;
            obj.insert(&mut run.meter, key.clone(), new)?;
            Val::Obj(arc)
        }
        (Val::Null, Val::Num(_)) => return change_at(run, Val::Arr(Rc::default()), path, change),
        (Val::Arr(mut arc), Val::Num(n)) => {
            let len = arc.items().len();
            let Some(at) = n.floor().and_then(|at| array_position(at, len)) else {
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
        (val @ (Val::Null | Val::Arr(_)), Val::Obj(bounds)) => {
            return change_slice(run, &val, bounds, rest, change);
        }
        (val, key) => return cannot_index(&val, key),
    };
    run.meter.admit(changed)
}

fn change_slice<'p>(
    run: &mut Evaluation<'p>,
    val: &Val,
    bounds: &Obj,
    rest: &[Val],
    change: ChangeFn<'_, 'p>,
) -> Flow<Val> {
    let (from, to) = slice_bounds(run, bounds)?;
    let old = slice(run, val, &from, &to)?;
    let new = change_at(run, old, rest, change)?;
    let empty = Rc::default();
    let arr = if let Val::Arr(arr) = val { arr } else { &empty };
    let range = slice_range(&from, &to, arr.items().len())?;
    let new = match new {
        Val::Arr(new) => new,
        other => {
            return fault(format!(
                "a slice can only be set to an array, not to {}",
                other.type_name()
            ));
        }
    };
    run.meter.alloc((arr.items().len() + new.items().len()) * SLOT_BYTES)?;
    let before = &arr.items()[..range.start];
    let after = &arr.items()[range.end..];
    run.meter.admit(Val::Arr(Rc::new(Arr::of([before, new.items(), after].concat()))))
}

/// `val` without the values at `paths`.
pub(super) fn delete(
    run: &mut Evaluation<'_>,
    mut val: Val,
    mut paths: ValueStack<Arr>,
) -> Flow<Val> {
    let paths = paths.take_from(&mut run.meter, 0)?;
    let _held = HeldMemory::of(paths.len() * size_of::<Arr>());
    // From the end, so that places before stay.
    let paths =
        run.meter.sort(paths, &mut |meter, x, y| meter.order_items(x.items(), y.items()))?;
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

/// Whether a path leads into a value at `parents`.
fn is_neighbour(run: &mut Evaluation<'_>, path: &Arr, parents: &[Val]) -> Flow<bool> {
    let Some((_, others)) = path.items().split_last() else { return Ok(false) };
    Ok(others.len() == parents.len() && run.meter.order_items(others, parents)? == Ordering::Equal)
}

fn delete_keys(run: &mut Evaluation<'_>, val: Val, parents: &[Val], keys: &[&Val]) -> Flow<Val> {
    // A place that does not exist must not come to be by deleting in it.
    let mut at = val.clone();
    for key in parents {
        at = index(run, &at, key)?;
        if matches!(at, Val::Null) {
            return Ok(val);
        }
    }
    drop(at);
    change_at(run, val, parents, &mut |run, at| delete_from(run, at, keys).map(Some))
}

fn delete_from(run: &mut Evaluation<'_>, val: Val, keys: &[&Val]) -> Flow<Val> {
    match val {
        Val::Null => Ok(Val::Null),
        Val::Obj(obj) => delete_members(run, obj, keys),
        Val::Arr(arr) => delete_items(run, &arr, keys),
        other => fault(format!("cannot delete from {}", other.type_name())),
    }
}

fn delete_members(run: &mut Evaluation<'_>, mut obj: Rc<Obj>, keys: &[&Val]) -> Flow<Val> {
    // A place in a set of names, and its hash.
    run.meter.alloc(keys.len() * 64)?;
    let _held = HeldMemory::of(keys.len() * 64);
    let mut names = std::collections::HashSet::with_capacity(keys.len());
    for key in keys {
        let Val::Str(name) = key else {
            return fault(format!("cannot delete {} of object", key.type_name()));
        };
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

fn delete_items(run: &mut Evaluation<'_>, arr: &Arr, keys: &[&Val]) -> Flow<Val> {
    let len = arr.items().len();
    run.meter.alloc(len)?;
    let _held = HeldMemory::of(len);
    let mut deleted = vec![false; len];
    for key in keys {
        run.meter.touch(8)?;
        match key {
            Val::Num(n) => {
                if let Some(gone) = n
                    .floor()
                    .and_then(|at| array_position(at, len))
                    .and_then(|at| deleted.get_mut(at))
                {
                    *gone = true;
                }
            }
            Val::Obj(bounds) => {
                let (from, to) = slice_bounds(run, bounds)?;
                let range = slice_range(&from, &to, len)?;
                run.meter.touch(range.len())?;
                deleted[range].fill(true);
            }
            other => return fault(format!("cannot delete {} of array", other.type_name())),
        }
    }
    run.meter.touch(2 * len)?;
    let stay = deleted.iter().filter(|gone| !**gone).count();
    run.meter.alloc(stay * SLOT_BYTES)?;
    let mut rest: Vec<Val> = Vec::with_capacity(stay);
    rest.extend(
        arr.items().iter().zip(&deleted).filter(|(_, gone)| !**gone).map(|(item, _)| item.clone()),
    );
    Ok(Val::Arr(Rc::new(Arr::of(rest))))
}

/// The keys of a path given as a value.
pub(super) fn path_keys(path: &Val) -> Flow<&[Val]> {
    match path {
        Val::Arr(keys) if keys.items().len() > super::budget::MAX_DEPTH as usize => {
            Err(Stop::Spent("follows a path of more than 256 steps"))
        }
        Val::Arr(keys) => Ok(keys.items()),
        other => fault(format!("cannot use {} as a path", other.type_name())),
    }
}
