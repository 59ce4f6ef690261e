//! Functions that run the filters they are given: generators, order, paths.

use std::cmp::Ordering;
use std::rc::Rc;

use super::budget::{EvalError, Flow, Stop, fault};
use super::env::Env;
use super::eval::{Evaluation, Out, PathedValue, Trail};
use super::functions::{array, count, for_each_child, number};
use super::memory_count::HeldMemory;
use super::number::Num;
use super::program::Expr;
use super::stream::{binary_search, to_stream};
use super::substitute::substitute;
use super::value::{Arr, Obj, SLOT_BYTES, Val};
use super::{pattern, update};

/// A function that takes filters, or yields other than one value.
#[derive(Debug, Clone, Copy)]
pub(super) enum FilterFn {
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
    Tostream,
    Bsearch,
    Sub,
}

impl FilterFn {
    /// Hands each result to `out`.
    pub(super) fn run<'p>(
        self,
        run: &mut Evaluation<'p>,
        args: &'p [Expr],
        env: &Env<'p>,
        item: PathedValue,
        out: Out<'_, 'p>,
    ) -> Flow {
        let input = || PathedValue::of(item.val.clone());
        match self {
            Self::Empty => Ok(()),
            Self::Error => raise(item.val),
            Self::ErrorOf => run.eval_each(&args[0], env, input(), &mut |_, x| raise(x.val)),
            Self::First => run.with_label(|run, label| {
                run.eval_each(&args[0], env, item, &mut |run, x| {
                    out(run, x)?;
                    Err(Stop::Break(label))
                })
            }),
            Self::Last => {
                let mut last = None;
                run.eval_each(&args[0], env, item, &mut |_, x| {
                    last = Some(x);
                    Ok(())
                })?;
                last.map_or(Ok(()), |last| out(run, last))
            }
            Self::Limit => run.eval_each(&args[0], env, input(), &mut |run, n| {
                limit(run, &n.val, &args[1], env, item.clone(), out)
            }),
            Self::Skip => run.eval_each(&args[0], env, input(), &mut |run, n| {
                if number(&n.val)?.f64() < 0.0 {
                    return fault("skip does not take a negative count");
                }
                let mut left = count(&n.val)?;
                run.eval_each(&args[1], env, item.clone(), &mut |run, x| {
                    if left <= 0 {
                        return out(run, x);
                    }
                    left -= 1;
                    Ok(())
                })
            }),
            Self::Getpath => run.eval_each(&args[0], env, input(), &mut |run, path| {
                let mut at = item.clone();
                for key in update::path_keys(&path.val)? {
                    at = run.child(&at, key.clone())?;
                }
                out(run, at)
            }),
            _ if item.path.is_some() => {
                fault(format!("invalid path expression with {}", item.val.type_name()))
            }
            _ => self.run_values(run, args, env, item, out),
        }
    }

    /// Those that yield no paths.
    fn run_values<'p>(
        self,
        run: &mut Evaluation<'p>,
        args: &'p [Expr],
        env: &Env<'p>,
        item: PathedValue,
        out: Out<'_, 'p>,
    ) -> Flow {
        let input = || PathedValue::of(item.val.clone());
        match self {
            Self::Path => {
                let start = PathedValue { val: item.val, path: Some(Trail::default()) };
                run.eval_each(&args[0], env, start, &mut |run, x| {
                    let keys = x.path.unwrap_or_default().keys(&mut run.meter)?;
                    emit(run, Val::Arr(Rc::new(keys)), out)
                })
            }
            Self::Range => run.eval_each(&args[0], env, input(), &mut |run, from| {
                run.eval_each(&args[1], env, input(), &mut |run, to| {
                    run.eval_each(&args[2], env, input(), &mut |run, by| {
                        range(run, &from.val, &to.val, &by.val, out)
                    })
                })
            }),
            Self::SortBy => {
                let sorted = sort_by_key(run, &args[0], env, &item.val)?;
                run.meter.alloc(sorted.len() * (SLOT_BYTES + size_of::<KeyedItem>()))?;
                let sorted = sorted.into_iter().map(|(_, v)| v).collect();
                emit(run, Val::Arr(Rc::new(Arr::of(sorted))), out)
            }
            Self::GroupBy => {
                let groups = sort_by_key(run, &args[0], env, &item.val)?;
                let grouped = group_sorted(run, &groups)?;
                emit(run, grouped, out)
            }
            Self::MinBy | Self::MaxBy => {
                let best = extreme(run, &args[0], env, &item.val, matches!(self, Self::MaxBy))?;
                emit(run, best, out)
            }
            Self::Walk => walk(run, &args[0], env, item.val, out),
            Self::Combinations => match &item.val {
                Val::Null => combinations(run, &[], &Arr::default(), out),
                choices => combinations(run, array(choices)?, &Arr::default(), out),
            },
            Self::Sub => run.eval_each(&args[0], env, input(), &mut |run, pattern| {
                run.eval_each(&args[2], env, input(), &mut |run, flags| {
                    let parts =
                        pattern::split_with_groups(run, &item.val, &pattern.val, &flags.val)?;
                    substitute(run, &item.val, array(&parts)?, &args[1], env, out)
                })
            }),
            Self::Tostream => to_stream(run, &item.val, &Trail::default(), out),
            Self::Bsearch => run.eval_each(&args[0], env, input(), &mut |run, wanted| {
                let place = binary_search(run, array(&item.val)?, &wanted.val)?;
                out(run, PathedValue::of(Val::Num(Num::Int(place))))
            }),
            _ => fault("internal: a function without a way to run"),
        }
    }
}

/// Hands a value just built to `out`.
pub(super) fn emit<'p>(run: &mut Evaluation<'p>, val: Val, out: Out<'_, 'p>) -> Flow {
    let val = run.meter.admit(val)?;
    out(run, PathedValue::of(val))
}

fn raise<T>(val: Val) -> Flow<T> {
    let fault = EvalError { message: "the program raised an error".into(), raised: Some(val) };
    Err(Stop::Fault(Box::new(fault)))
}

fn limit<'p>(
    run: &mut Evaluation<'p>,
    n: &Val,
    f: &'p Expr,
    env: &Env<'p>,
    item: PathedValue,
    out: Out<'_, 'p>,
) -> Flow {
    // As in jq, a part of one is one.
    let n = number(n)?.f64().ceil();
    if n < 0.0 {
        return fault("limit does not take a negative count");
    }
    let mut left = Num::of(n).floor().unwrap_or(0);
    if left == 0 {
        return Ok(());
    }
    run.with_label(|run, label| {
        run.eval_each(f, env, item, &mut |run, x| {
            left -= 1;
            out(run, x)?;
            if left == 0 { Err(Stop::Break(label)) } else { Ok(()) }
        })
    })
}

fn range<'p>(run: &mut Evaluation<'p>, from: &Val, to: &Val, by: &Val, out: Out<'_, 'p>) -> Flow {
    let to = number(to)?.clone();
    let by = number(by)?.clone();
    let mut at = number(from)?.clone();
    let goes_on = match by.order(&Num::Int(0), &mut run.meter)? {
        Ordering::Greater => Ordering::Less,
        Ordering::Less => Ordering::Greater,
        // As in jq: a step of nothing leads nowhere.
        Ordering::Equal => return Ok(()),
    };
    while at.order(&to, &mut run.meter)? == goes_on {
        run.meter.spend(1)?;
        out(run, PathedValue::of(Val::Num(at.clone())))?;
        at = at.add(&by);
    }
    Ok(())
}

/// An item, after the results of a filter for it.
type KeyedItem = (Arr, Val);

/// Items with the results of `f` for them, in the order of those.
fn sort_by_key<'p>(
    run: &mut Evaluation<'p>,
    f: &'p Expr,
    env: &Env<'p>,
    val: &Val,
) -> Flow<Vec<KeyedItem>> {
    let items = array(val)?;
    let bytes = items.len().saturating_mul(size_of::<KeyedItem>());
    run.meter.alloc(bytes)?;
    let _held = HeldMemory::of(bytes);
    let mut keyed = Vec::with_capacity(items.len());
    for item in items {
        let key = run.eval_array(f, env, item.clone())?;
        keyed.push((key, item.clone()));
    }
    run.meter.sort(keyed, &mut |meter, x, y| meter.order_items(x.0.items(), y.0.items()))
}

fn group_sorted(run: &mut Evaluation<'_>, keyed: &[KeyedItem]) -> Flow<Val> {
    let _held = HeldMemory::of(size_of_val(keyed));
    let mut groups = Arr::default();
    let mut rest = keyed;
    while let [(key, _), ..] = rest {
        let mut len = 1;
        while let Some((next, _)) = rest.get(len)
            && run.meter.order_items(key.items(), next.items())? == Ordering::Equal
        {
            len += 1;
        }
        let (group, after) = rest.split_at(len);
        run.meter.alloc(len * SLOT_BYTES)?;
        let group = Arr::of(group.iter().map(|(_, val)| val.clone()).collect());
        groups.push(&mut run.meter, Val::Arr(Rc::new(group)))?;
        rest = after;
    }
    Ok(Val::Arr(Rc::new(groups)))
}

/// As in jq: the first of the smallest, the last of the largest.
fn extreme<'p>(
    run: &mut Evaluation<'p>,
    f: &'p Expr,
    env: &Env<'p>,
    val: &Val,
    largest: bool,
) -> Flow<Val> {
    let mut best: Option<KeyedItem> = None;
    for item in array(val)? {
        let key = run.eval_array(f, env, item.clone())?;
        let better = match &best {
            None => true,
            Some((than, _)) => {
                (run.meter.order_items(key.items(), than.items())? == Ordering::Less) != largest
            }
        };
        if better {
            best = Some((key, item.clone()));
        }
    }
    Ok(best.map_or(Val::Null, |(_, val)| val))
}

/// Children first; as deep as values are.
fn walk<'p>(
    run: &mut Evaluation<'p>,
    f: &'p Expr,
    env: &Env<'p>,
    val: Val,
    out: Out<'_, 'p>,
) -> Flow {
    run.meter.enter()?;
    let walked = match val {
        Val::Arr(arr) => {
            let mut items = arr.items().iter();
            let new = run.collect(|run, out| {
                items.try_for_each(|item| walk(run, f, env, item.clone(), out))
            })?;
            Val::Arr(Rc::new(new))
        }
        Val::Obj(obj) => {
            let mut new = Obj::default();
            for (key, item) in obj.iter() {
                let mut first = None;
                run.with_label(|run, label| {
                    walk(run, f, env, item.clone(), &mut |_, x| {
                        first = Some(x.val);
                        Err(Stop::Break(label))
                    })
                })?;
                if let Some(val) = first {
                    run.set_member(&mut new, &Val::Str(key.clone()), val)?;
                }
            }
            Val::Obj(Rc::new(new))
        }
        scalar => scalar,
    };
    let walked = run.meter.admit(walked)?;
    run.eval_each(f, env, PathedValue::of(walked), out)
}

fn combinations<'p>(
    run: &mut Evaluation<'p>,
    rest: &[Val],
    so_far: &Arr,
    out: Out<'_, 'p>,
) -> Flow {
    run.meter.enter()?;
    let [choices, rest @ ..] = rest else {
        let copy = Arr::copied(&mut run.meter, so_far.items())?;
        let val = run.meter.admit(Val::Arr(Rc::new(copy)))?;
        return out(run, PathedValue::of(val));
    };
    let mut each = |choice: &Val| {
        let mut next = Arr::copied(&mut run.meter, so_far.items())?;
        next.push(&mut run.meter, choice.clone())?;
        combinations(run, rest, &next, out)
    };
    for_each_child(choices, &mut each)
}
