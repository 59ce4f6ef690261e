//! The evaluator: walks a program's tree and hands each result to a callback.
//!
//! One walk serves values and paths: a `PathedValue` carries a path where one is asked for, and an
//! expression without a path then fails. Expressions that yield exactly one value take a shorter
//! way (`eval_one`). Each call here is a step of the meter, and the stack's depth is checked as
//! well, so recursion is bounded by the meter rather than by the nesting of a program.

use std::rc::Rc;

use super::budget::{BudgetMeter, Flow, MAX_DEPTH, Stop, fault};
use super::buffer::ValueStack;
use super::env::{Bound, Env, unbound};
use super::number::Num;
use super::object::MEMBER_BYTES;
use super::pattern::Regexes;
use super::program::{Code, Constant, Expr, ExprKind};
use super::value::{Arr, Obj, SLOT_BYTES, Text, Val};
use super::{Budget, RunError, operators};

/// One run of a program.
pub(super) struct Evaluation<'p> {
    code: &'p Code,
    pub(super) meter: BudgetMeter<'p>,
    /// Labels given out so far.
    labels: u64,
    pub(super) regexes: Regexes,
    /// The program's strings and numbers that have been evaluated, by their places in its `texts`.
    constants: Vec<Option<Val>>,
    /// The items of the arrays that are being built, of the innermost one last.
    pub(super) items: ValueStack<Val>,
}

/// A value, with its path where paths are asked for.
#[derive(Clone, Debug)]
pub(super) struct PathedValue {
    pub(super) val: Val,
    pub(super) path: Option<Trail>,
}

/// A path as a list from its end; cheap to extend and to share.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail(Option<Rc<(Val, Trail, u32)>>);

/// Takes each result; an error from it ends the walk and passes through unchanged.
pub(super) type Out<'o, 'p> = &'o mut dyn FnMut(&mut Evaluation<'p>, PathedValue) -> Flow;

impl PathedValue {
    pub(super) fn of(val: Val) -> Self {
        Self { val, path: None }
    }

    pub(super) fn value(&self) -> Self {
        Self::of(self.val.clone())
    }
}

impl Trail {
    pub(super) fn push(&self, key: Val) -> Flow<Self> {
        let len = self.0.as_ref().map_or(0, |node| node.2) + 1;
        if len > MAX_DEPTH {
            return Err(Stop::Spent("follows a path of more than 256 steps"));
        }
        Ok(Self(Some(Rc::new((key, self.clone(), len)))))
    }

    /// The path's keys from its start.
    pub(super) fn keys(&self, meter: &mut BudgetMeter<'_>) -> Flow<Arr> {
        let len = self.0.as_ref().map_or(0, |node| node.2 as usize);
        meter.alloc(len * SLOT_BYTES)?;
        let mut keys = Vec::with_capacity(len);
        let mut at = self;
        while let Some(node) = &at.0 {
            keys.push(node.0.clone());
            at = &node.1;
        }
        keys.reverse();
        Ok(Arr::of(keys))
    }
}

fn no_path<T>(val: &Val) -> Flow<T> {
    fault(format!("invalid path expression with {}", val.type_name()))
}

impl<'p> Evaluation<'p> {
    pub(super) fn new(code: &'p Code, budget: &Budget<'p>) -> Self {
        let meter = BudgetMeter::new(budget);
        let constants = vec![None; code.texts.len()];
        Self {
            code,
            meter,
            labels: 0,
            regexes: Regexes::default(),
            constants,
            items: ValueStack::default(),
        }
    }

    /// A value of the program's text.
    pub(super) fn constant(&mut self, constant: Constant) -> Flow<Val> {
        let (Constant::Text(at) | Constant::Digits(at)) = constant else {
            return Ok(match constant {
                Constant::Null => Val::Null,
                Constant::Bool(b) => Val::Bool(b),
                Constant::Int(i) => Val::Num(Num::Int(i)),
                Constant::Float(f) => Val::Num(Num::Float(f)),
                Constant::NoItems => Val::Arr(Rc::default()),
                _ => Val::Obj(Rc::default()),
            });
        };
        if let Some(known) = &self.constants[at] {
            return Ok(known.clone());
        }
        let text = &self.code.texts[at];
        let val = match constant {
            Constant::Text(_) => Val::Str(Text::of(&mut self.meter, text)?),
            _ => Val::Num(Num::read_metered(text, &mut self.meter)?),
        };
        self.constants[at] = Some(val.clone());
        Ok(val)
    }

    /// The one result for `input`.
    pub(super) fn result(&mut self, input: Val) -> Result<Val, RunError> {
        let mut result = None;
        self.eval_each(
            &self.code.main,
            &Env::default(),
            PathedValue::of(input),
            &mut |_, item| {
                if result.is_some() {
                    return Err(Stop::Spent("yielded more than one value"));
                }
                result = Some(item.val);
                Ok(())
            },
        )?;
        result.ok_or_else(|| RunError::of_program("the program yielded no value"))
    }

    /// The array of the results of `expr`.
    pub(super) fn eval_array(&mut self, expr: &'p Expr, env: &Env<'p>, val: Val) -> Flow<Arr> {
        if !expr.yields_one {
            return self.collect(|run, out| run.eval_each(expr, env, PathedValue::of(val), out));
        }
        let one = self.eval_one(expr, env, val)?;
        self.meter.alloc(SLOT_BYTES)?;
        Ok(Arr::of(vec![one]))
    }

    /// The array of the values that `f` hands to its callback.
    pub(super) fn collect(&mut self, f: impl FnOnce(&mut Self, Out<'_, 'p>) -> Flow) -> Flow<Arr> {
        let start = self.items.len();
        let flow = f(self, &mut |run, x| run.items.push(&mut run.meter, x.val));
        let items = flow.and_then(|()| self.items.take_from(&mut self.meter, start));
        self.items.truncate(start);
        items.map(Arr::of)
    }

    /// Hands each result of `expr` to `out`.
    pub(super) fn eval_each(
        &mut self,
        expr: &'p Expr,
        env: &Env<'p>,
        item: PathedValue,
        out: Out<'_, 'p>,
    ) -> Flow {
        self.meter.enter()?;
        if expr.yields_one && item.path.is_none() {
            let val = self.eval_value(expr, env, item.val)?;
            return out(self, PathedValue::of(val));
        }
        self.eval_many(expr, env, item, out)
    }

    /// The one result of an expression that yields one.
    pub(super) fn eval_one(&mut self, expr: &'p Expr, env: &Env<'p>, val: Val) -> Flow<Val> {
        self.meter.enter()?;
        if expr.yields_one {
            self.eval_value(expr, env, val)
        } else {
            self.first(expr, env, val)?.map_or_else(unbound, Ok)
        }
    }

    /// The first result, if any.
    pub(super) fn first(&mut self, expr: &'p Expr, env: &Env<'p>, val: Val) -> Flow<Option<Val>> {
        let mut first = None;
        self.with_label(|run, label| {
            run.eval_each(expr, env, PathedValue::of(val), &mut |_, item| {
                first = Some(item.val);
                Err(Stop::Break(label))
            })
        })?;
        Ok(first)
    }

    /// Runs `f`, which may end itself by breaking to the label that it is given.
    pub(super) fn with_label(&mut self, f: impl FnOnce(&mut Self, u64) -> Flow) -> Flow {
        self.labels += 1;
        let label = self.labels;
        match f(self, label) {
            Err(Stop::Break(to)) if to == label => Ok(()),
            flow => flow,
        }
    }

    fn eval_value(&mut self, expr: &'p Expr, env: &Env<'p>, val: Val) -> Flow<Val> {
        match &expr.kind {
            ExprKind::Id => Ok(val),
            ExprKind::Const(constant) => self.constant(*constant),
            ExprKind::Var(n) => self.variable(env, *n),
            ExprKind::Pipe(stages) => {
                stages.iter().try_fold(val, |val, stage| self.eval_one(stage, env, val))
            }
            ExprKind::Path(of, parts) => {
                let mut at = self.eval_one(of, env, val.clone())?;
                for (part, _) in parts {
                    at = self.eval_step(part, env, &val, &at)?;
                }
                Ok(at)
            }
            ExprKind::Object(members, distinct) => {
                self.meter.alloc(members.len() * MEMBER_BYTES)?;
                let mut obj = Obj::with_capacity(members.len());
                for (key, value) in members {
                    if let (ExprKind::Const(key), true) = (&key.kind, *distinct)
                        && let Val::Str(key) = self.constant(*key)?
                    {
                        let value = self.eval_one(value, env, val.clone())?;
                        obj.add(&mut self.meter, key, value)?;
                        continue;
                    }
                    let key = self.eval_one(key, env, val.clone())?;
                    let value = self.eval_one(value, env, val.clone())?;
                    self.set_member(&mut obj, &key, value)?;
                }
                self.meter.admit(Val::Obj(obj.into()))
            }
            ExprKind::Math(..) => self.eval_math_chain(expr, env, val),
            ExprKind::Cmp(op, sides) => {
                let right = self.eval_one(&sides[1], env, val.clone())?;
                let left = self.eval_one(&sides[0], env, val)?;
                self.compare(*op, &left, &right)
            }
            ExprKind::If(cases, or) => {
                for (case, then) in cases {
                    if self.eval_one(case, env, val.clone())?.is_truthy() {
                        return self.eval_one(then, env, val);
                    }
                }
                or.as_ref().map_or(Ok(val.clone()), |or| self.eval_one(or, env, val))
            }
            _ => {
                let mut result = None;
                self.eval_many(expr, env, PathedValue::of(val), &mut |_, item| {
                    result = Some(item.val);
                    Ok(())
                })?;
                result.map_or_else(|| fault("the update yields no value"), Ok)
            }
        }
    }

    /// A chain of operators such as `a + b - c`, without recursion along it.
    fn eval_math_chain(&mut self, expr: &'p Expr, env: &Env<'p>, val: Val) -> Flow<Val> {
        let mut rights = Vec::new();
        let mut first = expr;
        while let ExprKind::Math(op, sides) = &first.kind {
            rights.push((*op, self.eval_one(&sides[1], env, val.clone())?));
            first = &sides[0];
        }
        // Evaluated last, so that `. + …` may change a value in place that has no other owner.
        let first = self.eval_one(first, env, val)?;
        rights
            .into_iter()
            .rev()
            .try_fold(first, |left, (op, right)| operators::apply_math(self, op, left, right))
    }

    fn eval_many(
        &mut self,
        expr: &'p Expr,
        env: &Env<'p>,
        item: PathedValue,
        out: Out<'_, 'p>,
    ) -> Flow {
        match &expr.kind {
            ExprKind::Id => out(self, item),
            ExprKind::Recurse => self.recurse(item, out),
            ExprKind::Pipe(stages) => self.pipe(stages, env, item, out),
            ExprKind::Comma(exprs) => {
                exprs.iter().try_for_each(|e| self.eval_each(e, env, item.clone(), out))
            }
            ExprKind::Bind(of, pattern, body) => {
                self.eval_each(of, env, item.value(), &mut |run, x| {
                    run.bind(pattern, env, x.val, &mut |run, env| {
                        run.eval_each(body, &env, item.clone(), out)
                    })
                })
            }
            ExprKind::Alt(left, right) => self.alternative(left, right, env, item, out),
            ExprKind::If(cases, or) => self.eval_if(cases, or.as_deref(), env, item, out),
            ExprKind::Try(body, handler) => self.eval_try(body, handler.as_deref(), env, item, out),
            ExprKind::Label(body) => self.with_label(|run, label| {
                let env = env.with(Bound::Label(label));
                run.eval_each(body, &env, item, out)
            }),
            ExprKind::Break(n) => match self.binding(env, *n)? {
                Some(Bound::Label(label)) => Err(Stop::Break(*label)),
                _ => unbound(),
            },
            ExprKind::Reduce(fold) => self.reduce(fold, env, item, out),
            ExprKind::Foreach(fold, extract) => {
                self.foreach(fold, extract.as_deref(), env, item, out)
            }
            ExprKind::Filter(n) => match self.binding(env, *n)? {
                Some(Bound::Filter(body, env)) => self.eval_each(body, env, item, out),
                _ => unbound(),
            },
            ExprKind::Call(def, hidden, args) => {
                let def = &self.code.defs[*def];
                let frame = self.up(env, *hidden)?;
                self.call(def, args, env, frame, item, out)
            }
            ExprKind::Builtin(builtin, args) => builtin.run(self, args, env, item, out),
            ExprKind::Path(of, parts) => self.eval_path(of, parts, env, item, out),
            _ if item.path.is_some() => no_path(&item.val),
            _ => self.eval_calculation(expr, env, item.val, out),
        }
    }

    fn pipe(
        &mut self,
        stages: &'p [Expr],
        env: &Env<'p>,
        mut item: PathedValue,
        out: Out<'_, 'p>,
    ) -> Flow {
        let mut rest = stages;
        while let [stage, after @ ..] = rest {
            rest = after;
            if stage.yields_one && item.path.is_none() {
                item.val = self.eval_one(stage, env, item.val)?;
            } else {
                return self
                    .eval_each(stage, env, item, &mut |run, x| run.pipe(after, env, x, out));
            }
        }
        out(self, item)
    }

    fn alternative(
        &mut self,
        left: &'p Expr,
        right: &'p Expr,
        env: &Env<'p>,
        item: PathedValue,
        out: Out<'_, 'p>,
    ) -> Flow {
        let mut any = false;
        self.catch_error(
            |run, out| run.eval_each(left, env, item.clone(), out),
            &mut |run, x| {
                if !x.val.is_truthy() {
                    return Ok(());
                }
                any = true;
                out(run, x)
            },
            |_, _| Ok(()),
        )?;
        if any { Ok(()) } else { self.eval_each(right, env, item, out) }
    }

    /// Runs `f`; an error in it goes to `handler`, an error in `out` passes by.
    pub(super) fn catch_error(
        &mut self,
        f: impl FnOnce(&mut Self, Out<'_, 'p>) -> Flow,
        out: Out<'_, 'p>,
        handler: impl FnOnce(&mut Self, Val) -> Flow,
    ) -> Flow {
        let mut outside = false;
        let flow = f(self, &mut |run, x| out(run, x).inspect_err(|_| outside = true));
        match flow {
            Err(Stop::Fault(fault)) if !outside => {
                let message =
                    |run: &mut Self| Text::of(&mut run.meter, &fault.message).map(Val::Str);
                let val = fault.raised.map_or_else(|| message(self), Ok)?;
                handler(self, val)
            }
            flow => flow,
        }
    }

    fn eval_try(
        &mut self,
        body: &'p Expr,
        handler: Option<&'p Expr>,
        env: &Env<'p>,
        item: PathedValue,
        out: Out<'_, 'p>,
    ) -> Flow {
        let mut caught = None;
        self.catch_error(
            |run, out| run.eval_each(body, env, item, out),
            out,
            |_, val| {
                caught = Some(val);
                Ok(())
            },
        )?;
        match (caught, handler) {
            (Some(val), Some(handler)) => self.eval_each(handler, env, PathedValue::of(val), out),
            _ => Ok(()),
        }
    }

    fn eval_if(
        &mut self,
        cases: &'p [(Expr, Expr)],
        or: Option<&'p Expr>,
        env: &Env<'p>,
        item: PathedValue,
        out: Out<'_, 'p>,
    ) -> Flow {
        let [(case, then), rest @ ..] = cases else {
            return match or {
                Some(or) => self.eval_each(or, env, item, out),
                None => out(self, item),
            };
        };
        self.eval_each(case, env, item.value(), &mut |run, x| {
            if x.val.is_truthy() {
                run.eval_each(then, env, item.clone(), out)
            } else {
                run.eval_if(rest, or, env, item.clone(), out)
            }
        })
    }
}
