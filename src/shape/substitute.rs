//! `sub` and `gsub`: a text with its matches replaced.

use super::budget::{Flow, fault};
use super::buffer::Buffer;
use super::env::Env;
use super::eval::{Evaluation, Out, PathedValue};
use super::filters::emit;
use super::memory_count::HeldMemory;
use super::program::Expr;
use super::value::Val;

/// `sub`: `parts` are the texts between matches and, between those, the groups of each match. As in
/// jq, the texts that `f` yields first for each match make one result, those that it yields second
/// the next one.
pub(super) fn substitute<'p>(
    run: &mut Evaluation<'p>,
    val: &Val,
    parts: &[Val],
    f: &'p Expr,
    env: &Env<'p>,
    out: Out<'_, 'p>,
) -> Flow {
    let mut results: Vec<Buffer> = Vec::new();
    let mut held = HeldMemory::default();
    let mut gap = "";
    for part in parts {
        if let Val::Str(text) = part {
            gap = text;
            continue;
        }
        let mut nth = 0;
        run.eval_each(f, env, PathedValue::of(part.clone()), &mut |run, new| {
            if nth == results.len() {
                run.meter.alloc(2 * size_of::<Buffer>())?;
                results.push(Buffer::default());
                held.set(results.capacity() * size_of::<Buffer>());
            }
            results[nth].push(&mut run.meter, gap)?;
            match &new.val {
                Val::Str(text) => results[nth].push(&mut run.meter, text)?,
                Val::Null => (),
                other => return fault(format!("cannot add string and {}", other.type_name())),
            }
            nth += 1;
            Ok(())
        })?;
    }
    if results.is_empty() {
        return out(run, PathedValue::of(val.clone()));
    }
    for mut result in results {
        result.push(&mut run.meter, gap)?;
        let text = result.into_text(&mut run.meter)?;
        emit(run, Val::Str(text), out)?;
    }
    Ok(())
}
