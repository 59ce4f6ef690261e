//! The functions that a shape may call, beside those that `prelude.jq` defines in jq.
//!
//! No other function can be reached. Each charges the meter before it computes or allocates, so
//! none can go past the budget in one call.

use super::budget::{Flow, fault};
use super::buffer::ValueStack;
use super::env::Env;
use super::eval::{Evaluation, Out, PathedValue};
use super::filters::FilterFn;
use super::functions::{
    abs, add, array, contains, explode, flatten, float, floats, fromjson, has, implode, indices,
    keys, length, number, reverse, rounded, tonumber, transpose,
};
use super::program::Expr;
use super::value::{Arr, SLOT_BYTES, Val};
use super::{calendar, libm, pattern, text, update};

/// One function.
#[derive(Debug)]
pub(super) struct Builtin {
    name: &'static str,
    arity: usize,
    kind: BuiltinKind,
}

/// No function that takes values takes more.
const MAX_ARGUMENTS: usize = 3;

#[derive(Debug)]
enum BuiltinKind {
    /// From the input and values to one value.
    Values(fn(&mut Evaluation<'_>, &Val, &[Val]) -> Flow<Val>),
    /// Takes filters, or yields other than one value.
    Filters(FilterFn),
}

const fn values(
    name: &'static str,
    arity: usize,
    f: fn(&mut Evaluation<'_>, &Val, &[Val]) -> Flow<Val>,
) -> Builtin {
    Builtin { name, arity, kind: BuiltinKind::Values(f) }
}

const fn filters(name: &'static str, arity: usize, special: FilterFn) -> Builtin {
    Builtin { name, arity, kind: BuiltinKind::Filters(special) }
}

static BUILTINS: &[Builtin] = &[
    filters("empty", 0, FilterFn::Empty),
    filters("error", 0, FilterFn::Error),
    filters("error", 1, FilterFn::ErrorOf),
    filters("path", 1, FilterFn::Path),
    filters("first", 1, FilterFn::First),
    filters("last", 1, FilterFn::Last),
    filters("limit", 2, FilterFn::Limit),
    filters("skip", 2, FilterFn::Skip),
    filters("range", 3, FilterFn::Range),
    filters("sort_by", 1, FilterFn::SortBy),
    filters("group_by", 1, FilterFn::GroupBy),
    filters("min_by", 1, FilterFn::MinBy),
    filters("max_by", 1, FilterFn::MaxBy),
    filters("getpath", 1, FilterFn::Getpath),
    filters("walk", 1, FilterFn::Walk),
    filters("combinations", 0, FilterFn::Combinations),
    filters("sub", 3, FilterFn::Sub),
    filters("tostream", 0, FilterFn::Tostream),
    filters("bsearch", 1, FilterFn::Bsearch),
    values("type", 0, |_, v, _| Ok(Val::static_text(v.type_name()))),
    values("length", 0, length),
    values("utf8bytelength", 0, |_, v, _| Ok(Val::int(text::string(v)?.len()))),
    values("keys", 0, |run, v, _| keys(run, v, true)),
    values("keys_unsorted", 0, |run, v, _| keys(run, v, false)),
    values("has", 1, |run, v, args| has(run, v, &args[0])),
    values("contains", 1, |run, v, args| contains(run, v, &args[0]).map(Val::Bool)),
    values("indices", 1, |run, v, args| indices(run, v, &args[0])),
    values("add", 0, add),
    values("reverse", 0, reverse),
    values("flatten", 1, |run, v, args| flatten(run, v, &args[0])),
    values("transpose", 0, transpose),
    values("setpath", 2, |run, v, args| {
        let path = update::path_keys(&args[0])?;
        update::change_at(run, v.clone(), path, &mut |_, _| Ok(Some(args[1].clone())))
    }),
    values("delpaths", 1, |run, v, args| {
        let mut paths = ValueStack::default();
        for path in array(&args[0])? {
            let path = Arr::copied(&mut run.meter, update::path_keys(path)?)?;
            paths.push(&mut run.meter, path)?;
        }
        update::delete(run, v.clone(), paths)
    }),
    values("tojson", 0, |run, v, _| text::format_value(run, text::Format::Json, v)),
    values("fromjson", 0, fromjson),
    values("tostring", 0, |run, v, _| match v {
        Val::Str(_) => Ok(v.clone()),
        v => text::format_value(run, text::Format::Json, v),
    }),
    values("tonumber", 0, tonumber),
    values("toboolean", 0, |_, v, _| match v {
        Val::Bool(_) => Ok(v.clone()),
        Val::Str(s) if matches!(&**s, "true" | "false") => Ok(Val::Bool(&**s == "true")),
        other => fault(format!("cannot parse {} as a boolean", other.type_name())),
    }),
    values("explode", 0, explode),
    values("implode", 0, implode),
    values("split", 1, |run, v, args| text::split(run, text::string(v)?, text::string(&args[0])?)),
    values("join", 1, |run, v, args| text::join(run, v, &args[0])),
    values("startswith", 1, |run, v, args| text::starts_with(run, v, &args[0])),
    values("endswith", 1, |run, v, args| text::ends_with(run, v, &args[0])),
    values("ltrimstr", 1, |run, v, args| text::trim_affix(run, v, &args[0], true, false)),
    values("rtrimstr", 1, |run, v, args| text::trim_affix(run, v, &args[0], false, true)),
    values("trimstr", 1, |run, v, args| text::trim_affix(run, v, &args[0], true, true)),
    values("trim", 0, |run, v, _| text::map_text(run, v, str::trim)),
    values("ltrim", 0, |run, v, _| text::map_text(run, v, str::trim_start)),
    values("rtrim", 0, |run, v, _| text::map_text(run, v, str::trim_end)),
    values("ascii_downcase", 0, |run, v, _| text::map_chars(run, v, char::to_ascii_lowercase)),
    values("ascii_upcase", 0, |run, v, _| text::map_chars(run, v, char::to_ascii_uppercase)),
    values("test", 2, |run, v, args| pattern::test(run, v, &args[0], &args[1])),
    values("__split", 2, |run, v, args| pattern::split_at_matches(run, v, &args[0], &args[1])),
    values("__matches", 2, |run, v, args| pattern::matches(run, v, &args[0], &args[1])),
    values("__captures", 2, |run, v, args| pattern::named_groups(run, v, &args[0], &args[1])),
    values("format", 1, |run, v, args| {
        run.meter.touch(text::string(&args[0])?.len())?;
        match text::Format::named(&format!("@{}", text::string(&args[0])?)) {
            Some(format) => text::format_value(run, format, v),
            None => fault("this is not a format"),
        }
    }),
    values("__text", 0, |run, v, _| text::format_value(run, text::Format::Text, v)),
    values("__csv", 0, |run, v, _| text::format_value(run, text::Format::Csv, v)),
    values("__tsv", 0, |run, v, _| text::format_value(run, text::Format::Tsv, v)),
    values("__html", 0, |run, v, _| text::format_value(run, text::Format::Html, v)),
    values("__uri", 0, |run, v, _| text::format_value(run, text::Format::Uri, v)),
    values("__urid", 0, |run, v, _| text::format_value(run, text::Format::Urid, v)),
    values("__sh", 0, |run, v, _| text::format_value(run, text::Format::Sh, v)),
    values("__base32", 0, |run, v, _| text::format_value(run, text::Format::Base32, v)),
    values("__base32d", 0, |run, v, _| text::format_value(run, text::Format::Base32d, v)),
    values("__base64", 0, |run, v, _| text::format_value(run, text::Format::Base64, v)),
    values("__base64d", 0, |run, v, _| text::format_value(run, text::Format::Base64d, v)),
    values("todateiso8601", 0, |run, v, _| text::to_date(run, number(v)?)),
    values("fromdateiso8601", 0, |run, v, _| text::from_date(run, v)),
    values("gmtime", 0, |run, v, _| calendar::gmtime(run, v)),
    values("mktime", 0, |run, v, _| calendar::mktime(run, v)),
    values("strftime", 1, |run, v, args| calendar::strftime(run, v, &args[0])),
    values("strptime", 1, |run, v, args| calendar::strptime(run, v, &args[0])),
    values("infinite", 0, |_, _, _| Ok(Val::float(f64::INFINITY))),
    values("nan", 0, |_, _, _| Ok(Val::float(f64::NAN))),
    values("isnan", 0, |_, v, _| number(v).map(|n| Val::Bool(n.f64().is_nan()))),
    values("isinfinite", 0, |_, v, _| number(v).map(|n| Val::Bool(n.f64().is_infinite()))),
    values("isnormal", 0, |_, v, _| number(v).map(|n| Val::Bool(n.f64().is_normal()))),
    values("abs", 0, abs),
    values("floor", 0, |_, v, _| rounded(v, f64::floor)),
    values("ceil", 0, |_, v, _| rounded(v, f64::ceil)),
    values("round", 0, |_, v, _| rounded(v, f64::round)),
    values("trunc", 0, |_, v, _| rounded(v, f64::trunc)),
    values("fabs", 0, |_, v, _| float(v, f64::abs)),
    values("sqrt", 0, |_, v, _| float(v, f64::sqrt)),
    values("cbrt", 0, |_, v, _| float(v, f64::cbrt)),
    values("exp", 0, |_, v, _| float(v, f64::exp)),
    values("exp2", 0, |_, v, _| float(v, f64::exp2)),
    values("exp10", 0, |_, v, _| float(v, |f| 10_f64.powf(f))),
    values("log", 0, |_, v, _| float(v, f64::ln)),
    values("log2", 0, |_, v, _| float(v, f64::log2)),
    values("log10", 0, |_, v, _| float(v, f64::log10)),
    values("sin", 0, |_, v, _| float(v, f64::sin)),
    values("cos", 0, |_, v, _| float(v, f64::cos)),
    values("tan", 0, |_, v, _| float(v, f64::tan)),
    values("asin", 0, |_, v, _| float(v, f64::asin)),
    values("acos", 0, |_, v, _| float(v, f64::acos)),
    values("atan", 0, |_, v, _| float(v, f64::atan)),
    values("atan2", 2, |_, _, args| floats(&args[0], &args[1], f64::atan2)),
    values("pow", 2, |_, _, args| floats(&args[0], &args[1], f64::powf)),
    values("fmin", 2, |_, _, args| floats(&args[0], &args[1], f64::min)),
    values("fmax", 2, |_, _, args| floats(&args[0], &args[1], f64::max)),
    values("hypot", 2, |_, _, args| floats(&args[0], &args[1], f64::hypot)),
    values("sinh", 0, |_, v, _| float(v, f64::sinh)),
    values("cosh", 0, |_, v, _| float(v, f64::cosh)),
    values("tanh", 0, |_, v, _| float(v, f64::tanh)),
    values("asinh", 0, |_, v, _| float(v, f64::asinh)),
    values("acosh", 0, |_, v, _| float(v, f64::acosh)),
    values("atanh", 0, |_, v, _| float(v, f64::atanh)),
    values("expm1", 0, |_, v, _| float(v, f64::exp_m1)),
    values("log1p", 0, |_, v, _| float(v, f64::ln_1p)),
    values("rint", 0, |_, v, _| rounded(v, f64::round_ties_even)),
    values("nearbyint", 0, |_, v, _| rounded(v, f64::round_ties_even)),
    values("copysign", 2, |_, _, args| floats(&args[0], &args[1], f64::copysign)),
    values("fmod", 2, |_, _, args| floats(&args[0], &args[1], |x, y| x % y)),
    values("fdim", 2, |_, _, args| {
        floats(&args[0], &args[1], |x, y| if x > y { x - y } else { 0.0 })
    }),
    values("fma", 3, |_, _, args| {
        let [x, y, z] = [number(&args[0])?.f64(), number(&args[1])?.f64(), number(&args[2])?.f64()];
        Ok(Val::float(x.mul_add(y, z)))
    }),
    values("modf", 0, |run, v, _| {
        let f = number(v)?.f64();
        let fraction = if f.is_infinite() { 0.0 } else { f.fract() };
        pair(run, fraction, f.trunc())
    }),
    values("frexp", 0, |run, v, _| {
        let (mantissa, exponent) = libm::frexp(number(v)?.f64());
        pair(run, mantissa, f64::from(exponent))
    }),
    values("ldexp", 2, |_, _, args| floats(&args[0], &args[1], libm::ldexp)),
    values("scalb", 2, |_, _, args| floats(&args[0], &args[1], libm::ldexp)),
    values("scalbln", 2, |_, _, args| floats(&args[0], &args[1], libm::ldexp)),
    values("logb", 0, |_, v, _| float(v, libm::logb)),
    values("significand", 0, |_, v, _| float(v, libm::significand)),
    values("drem", 2, |_, _, args| floats(&args[0], &args[1], libm::remainder)),
    values("nextafter", 2, |_, _, args| floats(&args[0], &args[1], libm::nextafter)),
    values("nexttoward", 2, |_, _, args| floats(&args[0], &args[1], libm::nextafter)),
];

fn pair(run: &mut Evaluation<'_>, first: f64, second: f64) -> Flow<Val> {
    run.meter.alloc(2 * SLOT_BYTES)?;
    Ok(Val::Arr(Arr::of(vec![Val::float(first), Val::float(second)]).into()))
}

/// The function of that name and number of arguments.
pub(super) fn find(name: &str, arity: usize) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|b| b.name == name && b.arity == arity)
}

/// The names of all.
pub(super) fn names<'a>() -> impl Iterator<Item = &'a str> {
    BUILTINS.iter().map(|b| b.name)
}

/// The arities under which a name is defined.
pub(super) fn arities(name: &str) -> impl Iterator<Item = usize> {
    BUILTINS.iter().filter(move |b| b.name == name).map(|b| b.arity)
}

impl Builtin {
    /// Whether it yields exactly one value where it does not fail.
    pub(super) fn yields_one(&self, args: &[Expr]) -> bool {
        match self.kind {
            BuiltinKind::Values(_) => args.iter().all(|arg| arg.yields_one),
            BuiltinKind::Filters(special) => {
                matches!(
                    special,
                    FilterFn::SortBy | FilterFn::GroupBy | FilterFn::MinBy | FilterFn::MaxBy
                )
            }
        }
    }

    /// Hands each result to `out`.
    pub(super) fn run<'p>(
        &self,
        run: &mut Evaluation<'p>,
        args: &'p [Expr],
        env: &Env<'p>,
        item: PathedValue,
        out: Out<'_, 'p>,
    ) -> Flow {
        match self.kind {
            BuiltinKind::Filters(special) => special.run(run, args, env, item, out),
            BuiltinKind::Values(_) if item.path.is_some() => {
                fault(format!("invalid path expression with {}", item.val.type_name()))
            }
            BuiltinKind::Values(f) => {
                apply(run, f, args, env, &item.val, &mut [const { Val::Null }; MAX_ARGUMENTS], out)
            }
        }
    }
}

/// Calls `f` for every combination of its arguments; as in jq the first one varies fastest.
fn apply<'p>(
    run: &mut Evaluation<'p>,
    f: fn(&mut Evaluation<'_>, &Val, &[Val]) -> Flow<Val>,
    args: &'p [Expr],
    env: &Env<'p>,
    val: &Val,
    given: &mut [Val; MAX_ARGUMENTS],
    out: Out<'_, 'p>,
) -> Flow {
    let [before @ .., arg] = args else {
        let result = f(run, val, given)?;
        let result = run.meter.admit(result)?;
        return out(run, PathedValue::of(result));
    };
    run.eval_each(arg, env, PathedValue::of(val.clone()), &mut |run, x| {
        given[before.len()] = x.val;
        let flow = apply(run, f, before, env, val, given, out);
        given[before.len()] = Val::Null;
        flow
    })
}
