//! `tostream`, which takes a value apart, and `bsearch`, which finds one.

use std::cmp::Ordering;
use std::rc::Rc;

use super::budget::Flow;
use super::eval::{Evaluation, Out, Trail};
use super::filters::emit;
use super::functions::array;
use super::value::{Arr, SLOT_BYTES, Val};

/// `tostream`: each leaf with its path, and after the last of each array or object its path alone.
pub(super) fn to_stream<'p>(
    run: &mut Evaluation<'p>,
    val: &Val,
    path: &Trail,
    out: Out<'_, 'p>,
) -> Flow {
    run.meter.enter()?;
    let len = match val {
        Val::Arr(arr) => arr.items().len(),
        Val::Obj(obj) => obj.len(),
        _ => 0,
    };
    if len == 0 {
        let keys = Val::Arr(Rc::new(path.keys(&mut run.meter)?));
        return emit_event(run, vec![keys, val.clone()], out);
    }
    let mut last = None;
    let mut each = |run: &mut Evaluation<'p>, key: Val, item: &Val| {
        let path = path.push(key)?;
        to_stream(run, item, &path, out)?;
        last = Some(path);
        Ok(())
    };
    match val {
        Val::Obj(obj) => {
            for (key, item) in obj.iter() {
                each(run, Val::Str(key.clone()), item)?;
            }
        }
        other => {
            for (at, item) in array(other)?.iter().enumerate() {
                each(run, Val::int(at), item)?;
            }
        }
    }
    let keys = last.unwrap_or_default().keys(&mut run.meter)?;
    let closing = vec![Val::Arr(Rc::new(keys))];
    emit_event(run, closing, out)
}

fn emit_event<'p>(run: &mut Evaluation<'p>, parts: Vec<Val>, out: Out<'_, 'p>) -> Flow {
    run.meter.alloc(parts.len() * SLOT_BYTES)?;
    emit(run, Val::Arr(Rc::new(Arr::of(parts))), out)
}

/// Where `wanted` stands in a sorted array, or `-1 - place` of where it would.
pub(super) fn binary_search(run: &mut Evaluation<'_>, items: &[Val], wanted: &Val) -> Flow<i64> {
    let mut low = 0;
    let mut high = items.len();
    while low < high {
        let middle = low.midpoint(high);
        match run.meter.order(&items[middle], wanted)? {
            Ordering::Equal => return Ok(place_of(middle)),
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    Ok(-1 - place_of(low))
}

fn place_of(at: usize) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}
