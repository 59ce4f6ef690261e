//! Functions from values to a value: arrays, objects, numbers. Each charges the meter before it
//! takes.

use std::cmp::Ordering;
use std::rc::Rc;

use super::budget::{Flow, fault};
use super::buffer::Buffer;
use super::eval::Evaluation;
use super::memory_count::HeldMemory;
use super::number::Num;
use super::object::Member;
use super::order::COMPARISON_COST;
use super::program::Math;
use super::value::{Arr, SLOT_BYTES, Val};
use super::{json, operators, text};

pub(super) fn array(val: &Val) -> Flow<&[Val]> {
    match val {
        Val::Arr(arr) => Ok(arr.items()),
        other => fault(format!("cannot use {} as array", other.type_name())),
    }
}

/// Hands each item or member's value to `f`.
pub(super) fn for_each_child(val: &Val, f: &mut dyn FnMut(&Val) -> Flow) -> Flow {
    match val {
        Val::Arr(arr) => arr.items().iter().try_for_each(f),
        Val::Obj(obj) => obj.iter().try_for_each(|(_, item)| f(item)),
        other => fault(format!("cannot iterate over {}", other.type_name())),
    }
}

pub(super) fn number(val: &Val) -> Flow<&Num> {
    match val {
        Val::Num(n) => Ok(n),
        other => fault(format!("cannot use {} as number", other.type_name())),
    }
}

pub(super) fn count(val: &Val) -> Flow<i64> {
    Ok(number(val)?.floor().unwrap_or(0))
}

pub(super) fn float(val: &Val, f: fn(f64) -> f64) -> Flow<Val> {
    number(val).map(|n| Val::float(f(n.f64())))
}

pub(super) fn floats(x: &Val, y: &Val, f: fn(f64, f64) -> f64) -> Flow<Val> {
    Ok(Val::float(f(number(x)?.f64(), number(y)?.f64())))
}

/// Whole numbers of any length stay as they are.
pub(super) fn rounded(val: &Val, f: fn(f64) -> f64) -> Flow<Val> {
    match number(val)? {
        n if n.is_whole() => Ok(val.clone()),
        n => Ok(Val::float(f(n.f64()))),
    }
}

pub(super) fn length(run: &mut Evaluation<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    match val {
        Val::Null => Ok(Val::int(0)),
        Val::Bool(_) => fault("boolean has no length"),
        Val::Num(_) => magnitude(run, val),
        Val::Str(s) => {
            run.meter.touch(s.len())?;
            Ok(Val::int(s.chars().count()))
        }
        Val::Arr(arr) => Ok(Val::int(arr.items().len())),
        Val::Obj(obj) => Ok(Val::int(obj.len())),
    }
}

pub(super) fn keys(run: &mut Evaluation<'_>, val: &Val, sorted: bool) -> Flow<Val> {
    let keys: Vec<Val> = match val {
        Val::Arr(arr) => {
            run.meter.alloc(arr.items().len() * SLOT_BYTES)?;
            (0..arr.items().len()).map(Val::int).collect()
        }
        Val::Obj(obj) => {
            run.meter.alloc(obj.len() * SLOT_BYTES)?;
            let key = |(key, _): &Member| Val::Str(key.clone());
            if sorted {
                run.meter.sorted_members(obj)?.into_iter().map(key).collect()
            } else {
                obj.iter().map(key).collect()
            }
        }
        other => return fault(format!("{} has no keys", other.type_name())),
    };
    Ok(array_of(keys))
}

pub(super) fn has(run: &mut Evaluation<'_>, val: &Val, key: &Val) -> Flow<Val> {
    match (val, key) {
        (Val::Obj(obj), Val::Str(key)) => Ok(Val::Bool(obj.get(&mut run.meter, key)?.is_some())),
        (Val::Null, Val::Str(_) | Val::Num(_)) => Ok(Val::Bool(false)),
        (Val::Arr(arr), Val::Num(n)) => {
            let at = n.floor().and_then(|at| usize::try_from(at).ok());
            Ok(Val::Bool(at.is_some_and(|at| at < arr.items().len())))
        }
        _ => {
            fault(format!("cannot check whether {} has a {} key", val.type_name(), key.type_name()))
        }
    }
}

/// As deep as values are; every comparison is charged, for there may be the product of both sizes.
pub(super) fn contains(run: &mut Evaluation<'_>, val: &Val, part: &Val) -> Flow<bool> {
    run.meter.enter()?;
    match (val, part) {
        (Val::Obj(val), Val::Obj(part)) => {
            for (key, part) in part.iter() {
                match val.get(&mut run.meter, key)? {
                    Some(val) if contains(run, val, part)? => (),
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        (Val::Arr(val), Val::Arr(part)) => {
            for part in part.items() {
                let mut found = false;
                for val in val.items() {
                    run.meter.work(COMPARISON_COST)?;
                    if val.is_same_type(part) && contains(run, val, part)? {
                        found = true;
                        break;
                    }
                }
                if !found {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Val::Str(val), Val::Str(part)) => {
            // A search in linear time, a few times as slow as a copy.
            run.meter.touch(4 * (val.len() + part.len()))?;
            Ok(val.contains(&**part))
        }
        (val, part) if val.is_same_type(part) => run.meter.is_equal(val, part),
        (val, part) => {
            fault(format!("cannot check whether {} contains {}", val.type_name(), part.type_name()))
        }
    }
}

/// Where `part` occurs in `val`.
pub(super) fn indices(run: &mut Evaluation<'_>, val: &Val, part: &Val) -> Flow<Val> {
    let mut found = Arr::default();
    match (val, part) {
        (Val::Null, Val::Str(_) | Val::Num(_)) => return Ok(Val::Null),
        (Val::Obj(obj), Val::Str(key)) => {
            return Ok(obj.get(&mut run.meter, key)?.cloned().unwrap_or(Val::Null));
        }
        (Val::Str(_), Val::Str(part)) if part.is_empty() => (),
        (Val::Str(text), Val::Str(part)) => {
            for (nth, (at, _)) in text.char_indices().enumerate() {
                run.meter.work(4)?;
                if text.as_bytes()[at] == part.as_bytes()[0] {
                    run.meter.touch(part.len())?;
                    if text[at..].starts_with(&**part) {
                        found.push(&mut run.meter, Val::int(nth))?;
                    }
                }
            }
        }
        (Val::Arr(_), Val::Arr(part)) if part.items().is_empty() => (),
        (Val::Arr(arr), Val::Arr(part)) => {
            for (at, window) in arr.items().windows(part.items().len()).enumerate() {
                if run.meter.order_items(window, part.items())? == Ordering::Equal {
                    found.push(&mut run.meter, Val::int(at))?;
                }
            }
        }
        (Val::Arr(arr), item) => {
            for (at, one) in arr.items().iter().enumerate() {
                if run.meter.is_equal(one, item)? {
                    found.push(&mut run.meter, Val::int(at))?;
                }
            }
        }
        _ => return fault(format!("cannot index {} with {}", val.type_name(), part.type_name())),
    }
    Ok(Val::Arr(Rc::new(found)))
}

pub(super) fn add(run: &mut Evaluation<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    let mut sum = Val::Null;
    let plus = |run: &mut Evaluation<'_>, sum: &mut Val, item: &Val| {
        run.meter.spend(1)?;
        *sum =
            operators::apply_math(run, Math::Add, std::mem::replace(sum, Val::Null), item.clone())?;
        Ok(())
    };
    match val {
        Val::Arr(arr)
            if arr.items().len() > 1 && arr.items().iter().all(|v| matches!(v, Val::Str(_))) =>
        {
            return text::join(run, val, &Val::static_text(""));
        }
        Val::Arr(arr) => arr.items().iter().try_for_each(|item| plus(run, &mut sum, item))?,
        Val::Obj(obj) => obj.iter().try_for_each(|(_, item)| plus(run, &mut sum, item))?,
        other => return fault(format!("cannot iterate over {}", other.type_name())),
    }
    Ok(sum)
}

pub(super) fn reverse(run: &mut Evaluation<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    match val {
        Val::Null => Ok(Val::Arr(Rc::default())),
        Val::Str(s) => {
            let mut out = Buffer::default();
            out.reserve(&mut run.meter, s.len())?;
            s.chars().rev().try_for_each(|c| out.push_char(&mut run.meter, c))?;
            out.into_text(&mut run.meter).map(Val::Str)
        }
        other => {
            let items = array(other)?;
            run.meter.alloc(items.len() * SLOT_BYTES)?;
            Ok(array_of(items.iter().rev().cloned().collect()))
        }
    }
}

pub(super) fn flatten(run: &mut Evaluation<'_>, val: &Val, depth: &Val) -> Flow<Val> {
    fn flatten_into(run: &mut Evaluation<'_>, item: &Val, depth: i64, out: &mut Arr) -> Flow {
        run.meter.spend(1)?;
        match item {
            Val::Arr(inner) if depth > 0 => {
                run.meter.enter()?;
                inner.items().iter().try_for_each(|item| flatten_into(run, item, depth - 1, out))
            }
            other => out.push(&mut run.meter, other.clone()),
        }
    }
    let depth = count(depth)?;
    if depth < 0 {
        return fault("the depth to flatten must not be negative");
    }
    let mut out = Arr::default();
    for_each_child(val, &mut |item| flatten_into(run, item, depth, &mut out))?;
    Ok(Val::Arr(Rc::new(out)))
}

pub(super) fn transpose(run: &mut Evaluation<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    let items = array(val)?;
    let bytes = size_of_val(items) / SLOT_BYTES * size_of::<&[Val]>();
    run.meter.alloc(bytes)?;
    let _held = HeldMemory::of(bytes);
    let mut rows = Vec::with_capacity(items.len());
    for item in items {
        // As in jq, null is a row without items.
        rows.push(if matches!(item, Val::Null) { &[] } else { array(item)? });
    }
    let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    run.meter.require_memory(rows.len().saturating_mul(width).saturating_mul(SLOT_BYTES))?;
    let mut columns = Arr::default();
    for at in 0..width {
        run.meter.alloc(rows.len() * SLOT_BYTES)?;
        let column = rows.iter().map(|row| row.get(at).cloned().unwrap_or(Val::Null)).collect();
        columns.push(&mut run.meter, array_of(column))?;
    }
    Ok(Val::Arr(Rc::new(columns)))
}

pub(super) fn fromjson(run: &mut Evaluation<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    let text = text::string(val)?;
    json::read_leniently(&mut run.meter, text)?
        .map_or_else(|| fault("cannot parse string as JSON"), Ok)
}

pub(super) fn tonumber(run: &mut Evaluation<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    match val {
        Val::Num(_) => Ok(val.clone()),
        Val::Str(s) => {
            run.meter.touch(s.len())?;
            if !s
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
            {
                return fault("cannot parse string as number");
            }
            match json::read_leniently(&mut run.meter, s)? {
                Some(number @ Val::Num(_)) => Ok(number),
                _ => fault("cannot parse string as number"),
            }
        }
        other => fault(format!("cannot parse {} as number", other.type_name())),
    }
}

/// `abs`: a number without its sign, and as in jq anything that is more than a number as it is.
pub(super) fn abs(run: &mut Evaluation<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    match val {
        Val::Str(_) | Val::Arr(_) | Val::Obj(_) => Ok(val.clone()),
        other => magnitude(run, other),
    }
}

/// The number without its sign.
pub(super) fn magnitude(run: &mut Evaluation<'_>, val: &Val) -> Flow<Val> {
    let n = number(val)?;
    Ok(if n.f64() < 0.0 { Val::Num(n.neg(&mut run.meter)?) } else { val.clone() })
}

pub(super) fn implode(run: &mut Evaluation<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    let mut out = Buffer::default();
    for point in array(val)? {
        let Val::Num(number) = point else {
            return fault(format!(
                "implode needs an array of code points, not of {}",
                point.type_name()
            ));
        };
        let Some(point) = number.truncated() else {
            return fault("implode needs an array of code points, not nan");
        };
        let char = u32::try_from(point).ok().and_then(char::from_u32);
        out.push_char(&mut run.meter, char.unwrap_or(char::REPLACEMENT_CHARACTER))?;
    }
    out.into_text(&mut run.meter).map(Val::Str)
}

pub(super) fn explode(run: &mut Evaluation<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    let text = text::string(val)?;
    run.meter.touch(text.len())?;
    let len = text.chars().count();
    run.meter.alloc(len.saturating_mul(SLOT_BYTES))?;
    let mut points = Vec::with_capacity(len);
    points.extend(text.chars().map(|c| Val::Num(Num::Int(i64::from(u32::from(c))))));
    Ok(array_of(points))
}

/// The array of items that have been charged for.
fn array_of(items: Vec<Val>) -> Val {
    Val::Arr(Rc::new(Arr::of(items)))
}
