//! Functions of jq that a shape may not have, each with what to say instead.

/// Why a function is refused, and what to do.
pub(super) fn function(name: &str, arity: usize) -> Option<(&'static str, Option<&'static str>)> {
    const PURE: &str = "a shape sees its input and nothing else";
    const FILE: Option<&str> = Some("`${NAME}` in the domain file is replaced before the program is read");
    const ENDS: &str = "it may not end";
    Some(match (name, arity) {
        ("env" | "input_filename" | "get_search_list" | "$ENV" | "$__prog_args", _) => (PURE, FILE),
        ("input" | "inputs" | "input_line_number" | "modulemeta" | "$__loc__", _) => (PURE, None),
        (
            "now" | "localtime" | "strflocaltime" | "mktime" | "gmtime" | "strftime" | "strptime" | "date" | "dateadd"
            | "datesub" | "date_adjust",
            _,
        ) => ("times of day depend on more than the input", Some("`todate` and `fromdate` are available, in UTC")),
        ("halt" | "halt_error" | "debug" | "debug_empty" | "stderr" | "stderr_empty", _) => {
            ("it acts on the process", Some("use `error` to end with an error"))
        }
        ("repeat" | "while" | "until", _) => (ENDS, Some("use `reduce` or `foreach` over `range` or the input")),
        ("recurse", 1 | 2) => (ENDS, Some("use `..`, which visits every value of its input")),
        ("combinations", 1) => (ENDS, Some("use `combinations` without an argument")),
        _ => return None,
    })
}

/// Functions of jq or jaq that are pure but not available.
pub(super) const ABSENT: [&str; 43] = [
    "@base32",
    "@base32d",
    "acosh",
    "ascii",
    "asinh",
    "atanh",
    "bsearch",
    "builtins",
    "copysign",
    "cosh",
    "drem",
    "expm1",
    "fdim",
    "finites",
    "fma",
    "fmod",
    "frexp",
    "fromstream",
    "gamma",
    "have_decnum",
    "have_literal_numbers",
    "isvalid",
    "j0",
    "j1",
    "ldexp",
    "lgamma",
    "log1p",
    "logb",
    "modf",
    "nearbyint",
    "nextafter",
    "nexttoward",
    "normals",
    "remainder",
    "rint",
    "scalb",
    "scalbln",
    "significand",
    "sinh",
    "tanh",
    "tgamma",
    "tobytes",
    "tostream",
];
