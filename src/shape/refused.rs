//! Functions of jq that a shape may not have, each with what to say instead.

/// What a program is to be made of.
pub(super) const PURE: &str = "a pure, bounded function of the input";

/// Why a function is refused, and what to do.
pub(super) fn function(name: &str, arity: usize) -> Option<(&'static str, &'static str)> {
    const SEES: &str = "a shape sees its input and nothing else";
    const FILE: &str = "`${NAME}` in the domain file is replaced before the program is read";
    const ENDS: &str = "it may not end";
    Some(match (name, arity) {
        ("env" | "input_filename" | "get_search_list" | "$ENV" | "$__prog_args", _) => (SEES, FILE),
        ("input" | "inputs" | "input_line_number" | "modulemeta", _) => {
            (SEES, "`.` is the whole input: an object with a member for each source")
        }
        (
            "now" | "localtime" | "strflocaltime" | "mktime" | "gmtime" | "strftime" | "strptime" | "date" | "dateadd"
            | "datesub" | "date_adjust",
            _,
        ) => ("times of day depend on more than the input", "`todate` and `fromdate` are available, in UTC"),
        ("halt" | "halt_error" | "debug" | "debug_empty" | "stderr" | "stderr_empty", _) => {
            ("it acts on the process", "use `error` to end with an error")
        }
        ("repeat" | "while" | "until", _) => (ENDS, "use `reduce` or `foreach` over `range` or the input"),
        ("recurse", 1 | 2) => (ENDS, "use `..`, which visits every value of its input"),
        ("combinations", 1) => (ENDS, "use `combinations` without an argument"),
        _ => return None,
    })
}

/// The candidate that `name` was probably meant to be: a letter too many, too few, another or swapped, in three at most.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 24;
    let allowed = (name.len() / 3).max(1);
    let near = candidates.filter(|known| name.len() <= LONGEST && known.len().abs_diff(name.len()) <= allowed);
    let by_distance = near.map(|known| (distance(name.as_bytes(), known.as_bytes()), known));
    by_distance
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

fn distance(left: &[u8], right: &[u8]) -> usize {
    let mut before = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (last[j] + usize::from(!a.eq_ignore_ascii_case(b))).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[right.len()]
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
