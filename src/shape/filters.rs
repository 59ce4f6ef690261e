//! Functions that run the filters they are given: generators, order, paths.

use std::cmp::Ordering;
use std::sync::Arc;

use super::eval::{Env, Item, Out, Run, Trail};
use super::functions::{array, count, number};
use super::meter::{Fault, Flow, Stop, fault};
use super::number::Num;
use super::program::Expr;
use super::update;
use super::value::{Arr, HEAD_BYTES, Obj, SLOT_BYTES, Val};

/// A function that takes filters, or yields other than one value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Special {
    Empty,
    Error,
    ErrorOf,
    Path,
    First,
    Last,
    Limit,
    Skip,
    Range,
    SortBy,
    GroupBy,
    MinBy,
    MaxBy,
    Getpath,
    Walk,
    Combinations,
}

impl Special {
    /// Hands each result to `out`.
    pub(super) fn run<'p>(
        self,
        run: &mut Run<'p>,
        args: &'p [Expr],
        env: &Env<'p>,
        item: Item,
        out: Out<'_, 'p>,
    ) -> Flow {
        let input = || Item::of(item.val.clone());
        match self {
            Self::Empty => Ok(()),
            Self::Error => raise(item.val),
            Self::ErrorOf => run.each(&args[0], env, input(), &mut |_, x| raise(x.val)),
            Self::First => run.until(|run, label| {
                run.each(&args[0], env, item, &mut |run, x| {
                    out(run, x)?;
                    Err(Stop::Break(label))
                })
            }),
            Self::Last => {
                let mut last = None;
                run.each(&args[0], env, item, &mut |_, x| {
                    last = Some(x);
                    Ok(())
                })?;
                last.map_or(Ok(()), |last| out(run, last))
            }
            Self::Limit => run.each(&args[0], env, input(), &mut |run, n| {
                limit(run, count(&n.val)?, &args[1], env, item.clone(), out)
            }),
            Self::Skip => run.each(&args[0], env, input(), &mut |run, n| {
                let mut left = count(&n.val)?;
                run.each(&args[1], env, item.clone(), &mut |run, x| {
                    if left <= 0 {
                        return out(run, x);
                    }
                    left -= 1;
                    Ok(())
                })
            }),
            Self::Getpath => run.each(&args[0], env, input(), &mut |run, path| {
                let mut at = item.clone();
                for key in update::keys_of(&path.val)? {
                    at = run.child(&at, key)?;
                }
                out(run, at)
            }),
            _ if item.path.is_some() => fault(format!("invalid path expression with {}", item.val.type_name())),
            Self::Path => {
                let start = Item { val: item.val, path: Some(Trail::default()) };
                run.each(&args[0], env, start, &mut |run, x| {
                    let keys = x.path.map(|path| path.keys()).unwrap_or_default();
                    run.meter.alloc(keys.len() as u64 * SLOT_BYTES)?;
                    give(run, Val::Arr(Arc::new(keys.into_iter().collect())), out)
                })
            }
            Self::Range => run.each(&args[2], env, input(), &mut |run, by| {
                run.each(&args[1], env, input(), &mut |run, to| {
                    run.each(&args[0], env, input(), &mut |run, from| range(run, &from.val, &to.val, &by.val, out))
                })
            }),
            Self::SortBy => {
                let sorted = keyed(run, &args[0], env, &item.val)?.into_iter().map(|(_, v)| v).collect();
                give(run, Val::Arr(Arc::new(sorted)), out)
            }
            Self::GroupBy => {
                let groups = keyed(run, &args[0], env, &item.val)?;
                let grouped = group(run, groups)?;
                give(run, grouped, out)
            }
            Self::MinBy | Self::MaxBy => {
                let best = extreme(run, &args[0], env, &item.val, matches!(self, Self::MaxBy))?;
                give(run, best, out)
            }
            Self::Walk => walk(run, &args[0], env, item.val, out),
            Self::Combinations => combinations(run, array(&item.val)?, &Arr::default(), out),
        }
    }
}

/// Hands a value just built to `out`.
fn give<'p>(run: &mut Run<'p>, val: Val, out: Out<'_, 'p>) -> Flow {
    let val = run.meter.admit(val)?;
    out(run, Item::of(val))
}

fn raise<T>(val: Val) -> Flow<T> {
    let fault = Fault { message: "the program raised an error".into(), raised: Some(val) };
    Err(Stop::Fault(Box::new(fault)))
}

fn limit<'p>(run: &mut Run<'p>, n: i64, f: &'p Expr, env: &Env<'p>, item: Item, out: Out<'_, 'p>) -> Flow {
    if n <= 0 {
        return Ok(());
    }
    let mut left = n;
    run.until(|run, label| {
        run.each(f, env, item, &mut |run, x| {
            left -= 1;
            out(run, x)?;
            if left == 0 { Err(Stop::Break(label)) } else { Ok(()) }
        })
    })
}

fn range<'p>(run: &mut Run<'p>, from: &Val, to: &Val, by: &Val, out: Out<'_, 'p>) -> Flow {
    let (to, by, mut at) = (number(to)?.clone(), number(by)?.clone(), number(from)?.clone());
    let goes_on = match by.cmp(&Num::Int(0)) {
        Ordering::Greater => Ordering::Less,
        Ordering::Less => Ordering::Greater,
        Ordering::Equal => return fault("the step of a range must not be zero"),
    };
    while at.cmp(&to) == goes_on {
        run.meter.spend(1)?;
        out(run, Item::of(Val::Num(at.clone())))?;
        at = at.add(&by);
    }
    Ok(())
}

/// Items with what `f` yields for them, in its order.
fn keyed<'p>(run: &mut Run<'p>, f: &'p Expr, env: &Env<'p>, val: &Val) -> Flow<Vec<(Arr, Val)>> {
    let mut keyed = Vec::new();
    let mut size = 0;
    for item in array(val)? {
        let key = keys_by(run, f, env, item)?;
        size += key.items().iter().map(Val::size).sum::<u64>();
        keyed.push((key, item.clone()));
    }
    // Each is compared about as often as the list can be halved, for at most its own size.
    let halves = u64::from((keyed.len() as u64 + 1).ilog2()) + 1;
    run.meter.spend((size / 16 + keyed.len() as u64).saturating_mul(halves) / 4)?;
    keyed.sort_by(|x, y| x.0.items().cmp(y.0.items()));
    Ok(keyed)
}

fn keys_by<'p>(run: &mut Run<'p>, f: &'p Expr, env: &Env<'p>, item: &Val) -> Flow<Arr> {
    let mut key = Arr::default();
    run.meter.alloc(HEAD_BYTES + SLOT_BYTES)?;
    run.each(f, env, Item::of(item.clone()), &mut |run, x| {
        run.meter.alloc(SLOT_BYTES)?;
        key.push(x.val);
        Ok(())
    })?;
    Ok(key)
}

fn group(run: &mut Run<'_>, keyed: Vec<(Arr, Val)>) -> Flow<Val> {
    let mut groups: Vec<(Arr, Arr)> = Vec::new();
    for (key, val) in keyed {
        run.meter.alloc(SLOT_BYTES)?;
        match groups.last_mut() {
            Some((last, group)) if last.items() == key.items() => group.push(val),
            _ => {
                run.meter.alloc(HEAD_BYTES)?;
                groups.push((key, std::iter::once(val).collect()));
            }
        }
    }
    Ok(Val::Arr(Arc::new(groups.into_iter().map(|(_, group)| Val::Arr(Arc::new(group))).collect())))
}

/// As in jq: the first of the smallest, the last of the largest.
fn extreme<'p>(run: &mut Run<'p>, f: &'p Expr, env: &Env<'p>, val: &Val, largest: bool) -> Flow<Val> {
    let mut best: Option<(Arr, Val)> = None;
    for item in array(val)? {
        let key = keys_by(run, f, env, item)?;
        run.meter.spend(key.items().iter().map(Val::size).sum::<u64>() / 16)?;
        let better = best.as_ref().is_none_or(|(than, _)| {
            let order = key.items().cmp(than.items());
            order == Ordering::Less && !largest || order != Ordering::Less && largest
        });
        if better {
            best = Some((key, item.clone()));
        }
    }
    Ok(best.map_or(Val::Null, |(_, val)| val))
}

/// Children first; as deep as values are.
fn walk<'p>(run: &mut Run<'p>, f: &'p Expr, env: &Env<'p>, val: Val, out: Out<'_, 'p>) -> Flow {
    run.meter.enter()?;
    let walked = match val {
        Val::Arr(arr) => {
            let mut new = Arr::default();
            for item in arr.items() {
                walk(run, f, env, item.clone(), &mut |run, x| {
                    run.meter.alloc(SLOT_BYTES)?;
                    new.push(x.val);
                    Ok(())
                })?;
            }
            Val::Arr(Arc::new(new))
        }
        Val::Obj(obj) => {
            let mut new = Obj::default();
            for (key, item) in obj.iter() {
                let mut first = None;
                run.until(|run, label| {
                    walk(run, f, env, item.clone(), &mut |_, x| {
                        first = Some(x.val);
                        Err(Stop::Break(label))
                    })
                })?;
                if let Some(val) = first {
                    run.set_member(&mut new, &Val::Str(key.clone()), val)?;
                }
            }
            Val::Obj(Arc::new(new))
        }
        scalar => scalar,
    };
    let walked = run.meter.admit(walked)?;
    run.each(f, env, Item::of(walked), out)
}

fn combinations<'p>(run: &mut Run<'p>, rest: &[Val], so_far: &Arr, out: Out<'_, 'p>) -> Flow {
    run.meter.enter()?;
    let [choices, rest @ ..] = rest else {
        let val = run.meter.admit(Val::Arr(Arc::new(so_far.clone())))?;
        return out(run, Item::of(val));
    };
    for choice in array(choices)? {
        run.meter.alloc((so_far.items().len() as u64 + 1) * SLOT_BYTES)?;
        let mut next = so_far.clone();
        next.push(choice.clone());
        combinations(run, rest, &next, out)?;
    }
    Ok(())
}
