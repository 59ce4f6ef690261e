//! Functions from values to a value: arrays, objects, numbers. Each charges the meter before it takes.

use std::sync::Arc;

use super::eval::Run;
use super::meter::{Flow, fault};
use super::number::Num;
use super::value::{Arr, SLOT_BYTES, Val};
use super::{json, text, update};

pub(super) fn array(val: &Val) -> Flow<&[Val]> {
    match val {
        Val::Arr(arr) => Ok(arr.items()),
        other => fault(format!("cannot use {} as array", other.type_name())),
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
        Num::Text(text) if text.bytes().all(|b| b.is_ascii_digit() || b == b'-') => Ok(val.clone()),
        Num::Int(_) => Ok(val.clone()),
        n => Ok(Val::float(f(n.f64()))),
    }
}

pub(super) fn length(run: &mut Run<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    match val {
        Val::Null => Ok(Val::int(0)),
        Val::Bool(_) => fault("boolean has no length"),
        Val::Num(n) => Ok(if n.f64() < 0.0 { Val::Num(n.neg()) } else { val.clone() }),
        Val::Str(s) => {
            run.meter.spend(s.len() as u64 / 256)?;
            Ok(Val::int(s.chars().count()))
        }
        Val::Arr(arr) => Ok(Val::int(arr.items().len())),
        Val::Obj(obj) => Ok(Val::int(obj.len())),
    }
}

pub(super) fn keys(run: &mut Run<'_>, val: &Val, sorted: bool) -> Flow<Val> {
    let keys: Arr = match val {
        Val::Arr(arr) => {
            run.meter.alloc(arr.items().len() as u64 * SLOT_BYTES)?;
            (0..arr.items().len()).map(Val::int).collect()
        }
        Val::Obj(obj) => {
            run.meter.alloc(obj.len() as u64 * SLOT_BYTES)?;
            run.meter.spend(if sorted { obj.len() as u64 } else { 0 })?;
            let key = |(key, _): &(Arc<str>, Val)| Val::Str(key.clone());
            if sorted { obj.sorted().into_iter().map(key).collect() } else { obj.iter().map(key).collect() }
        }
        other => return fault(format!("{} has no keys", other.type_name())),
    };
    Ok(Val::Arr(Arc::new(keys)))
}

pub(super) fn has(val: &Val, key: &Val) -> Flow<Val> {
    match (val, key) {
        (Val::Obj(obj), Val::Str(key)) => Ok(Val::Bool(obj.get(key).is_some())),
        (Val::Arr(arr), Val::Num(n)) => {
            let at = n.floor().and_then(|at| usize::try_from(at).ok());
            Ok(Val::Bool(at.is_some_and(|at| at < arr.items().len())))
        }
        _ => fault(format!("cannot check whether {} has a {} key", val.type_name(), key.type_name())),
    }
}

/// As deep as values are; every comparison is charged, for there may be the product of both sizes.
pub(super) fn contains(run: &mut Run<'_>, val: &Val, part: &Val) -> Flow<bool> {
    run.meter.enter()?;
    match (val, part) {
        (Val::Obj(val), Val::Obj(part)) => {
            for (key, part) in part.iter() {
                match val.get(key) {
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
                    if val.same_type(part) && contains(run, val, part)? {
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
            run.meter.spend((val.len() as u64 + part.len() as u64) / 64)?;
            Ok(val.contains(&**part))
        }
        (val, part) if val.same_type(part) => Ok(val == part),
        (val, part) => fault(format!("cannot check whether {} contains {}", val.type_name(), part.type_name())),
    }
}

/// Where `part` occurs in `val`.
pub(super) fn indices(run: &mut Run<'_>, val: &Val, part: &Val) -> Flow<Val> {
    let found: Arr = match (val, part) {
        (Val::Null, _) => return Ok(Val::Null),
        (Val::Str(_), Val::Str(part)) if part.is_empty() => return Ok(Val::Null),
        (Val::Str(text), Val::Str(part)) => {
            run.meter.alloc(text.len() as u64 * 2)?;
            run.meter.spend((text.len() as u64).saturating_mul(part.len() as u64) / 64)?;
            let places = text.char_indices().enumerate();
            let found = places.filter(|(_, (at, _))| text[*at..].starts_with(&**part)).map(|(nth, _)| Val::int(nth));
            found.collect()
        }
        (Val::Arr(_), Val::Arr(part)) if part.items().is_empty() => return Ok(Val::Null),
        (Val::Arr(arr), Val::Arr(part)) => {
            let cost = (arr.items().len() as u64).saturating_mul(part.items().len() as u64);
            run.meter.spend(cost.saturating_add(val.size().saturating_mul(part.items().len() as u64) / 16))?;
            run.meter.alloc(arr.items().len() as u64 * SLOT_BYTES)?;
            let windows = arr.items().windows(part.items().len()).enumerate();
            windows.filter(|(_, window)| *window == part.items()).map(|(at, _)| Val::int(at)).collect()
        }
        (Val::Arr(arr), item) => {
            run.meter.spend(arr.items().len() as u64 + val.size() / 16)?;
            run.meter.alloc(arr.items().len() as u64 * SLOT_BYTES)?;
            arr.items().iter().enumerate().filter(|(_, x)| *x == item).map(|(at, _)| Val::int(at)).collect()
        }
        _ => return fault(format!("cannot index {} with {}", val.type_name(), part.type_name())),
    };
    Ok(Val::Arr(Arc::new(found)))
}

pub(super) fn add(run: &mut Run<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    let items: Vec<Val> = match val {
        Val::Arr(arr) if arr.items().len() > 1 && arr.items().iter().all(|v| matches!(v, Val::Str(_))) => {
            return text::join(run, val, &Val::str(""));
        }
        Val::Arr(arr) => arr.items().to_vec(),
        Val::Obj(obj) => obj.iter().map(|(_, v)| v.clone()).collect(),
        other => return fault(format!("cannot iterate over {}", other.type_name())),
    };
    run.meter.alloc(items.len() as u64 * SLOT_BYTES)?;
    items.into_iter().try_fold(Val::Null, |sum, item| update::math(run, jaq_core::ops::Math::Add, sum, item))
}

pub(super) fn reverse(run: &mut Run<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    run.meter.alloc(val.size())?;
    match val {
        Val::Null => Ok(Val::Arr(Arc::default())),
        Val::Str(s) => Ok(Val::str(&s.chars().rev().collect::<String>())),
        other => Ok(Val::Arr(Arc::new(array(other)?.iter().rev().cloned().collect()))),
    }
}

pub(super) fn flatten(run: &mut Run<'_>, val: &Val, depth: &Val) -> Flow<Val> {
    fn into(run: &mut Run<'_>, items: &[Val], depth: i64, out: &mut Arr) -> Flow {
        run.meter.enter()?;
        for item in items {
            match item {
                Val::Arr(inner) if depth > 0 => into(run, inner.items(), depth - 1, out)?,
                other => {
                    run.meter.alloc(SLOT_BYTES)?;
                    run.meter.spend(1)?;
                    out.push(other.clone());
                }
            }
        }
        Ok(())
    }
    let depth = count(depth)?;
    if depth < 0 {
        return fault("the depth to flatten must not be negative");
    }
    let mut out = Arr::default();
    into(run, array(val)?, depth, &mut out)?;
    Ok(Val::Arr(Arc::new(out)))
}

pub(super) fn transpose(run: &mut Run<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    let rows = array(val)?.iter().map(array).collect::<Flow<Vec<_>>>()?;
    let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    run.meter.alloc((rows.len() as u64).saturating_mul(width as u64).saturating_mul(SLOT_BYTES))?;
    let column = |at: usize| rows.iter().map(|row| row.get(at).cloned().unwrap_or(Val::Null)).collect::<Arr>();
    Ok(Val::Arr(Arc::new((0..width).map(|at| Val::Arr(Arc::new(column(at)))).collect())))
}

pub(super) fn fromjson(run: &mut Run<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    let text = text::string(val)?;
    run.meter.alloc((text.len() as u64).saturating_mul(12))?;
    json::read(text.as_bytes()).map_or_else(|| fault("cannot parse string as JSON"), Ok)
}

pub(super) fn tonumber(_: &mut Run<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    match val {
        Val::Num(_) => Ok(val.clone()),
        Val::Str(s) => match json::read(s.trim().as_bytes()) {
            Some(number @ Val::Num(_)) => Ok(number),
            _ => fault("cannot parse string as number"),
        },
        other => fault(format!("cannot parse {} as number", other.type_name())),
    }
}

pub(super) fn implode(run: &mut Run<'_>, val: &Val, _: &[Val]) -> Flow<Val> {
    let points = array(val)?;
    run.meter.alloc(points.len() as u64 * 4)?;
    let char = |v: &Val| match v {
        Val::Num(Num::Int(n)) => u32::try_from(*n).ok().and_then(char::from_u32),
        _ => None,
    };
    let text: Option<String> = points.iter().map(char).collect();
    text.map_or_else(|| fault("implode needs an array of code points"), |text| Ok(Val::str(&text)))
}
