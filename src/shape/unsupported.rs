//! The functions of jq that a shape may not have, each with a replacement.

use strsim::osa_distance;

/// The kind of program that is allowed.
pub(super) const PURE: &str = "a pure, bounded function of the input";

/// The reason why a function is refused, and a hint. `docs/jq.md` lists the reasons.
pub(super) fn refusal_reason(name: &str, arity: usize) -> Option<(&'static str, &'static str)> {
    const SEES: &str = "a shape sees its input and nothing else";
    const FILE: &str = "`${NAME}` in the domain file is replaced before the program is read";
    const ENDS: &str = "it may not end";
    const CONSUMER: &str = "say it with the functions that there are, or leave it to the consumer";
    const DATES: &str = "`todate`, `fromdate`, `gmtime` and `strftime` are available, in UTC";
    Some(match (name, arity) {
        (
            "env" | "input_filename" | "get_search_list" | "get_jq_origin" | "get_prog_origin"
            | "$ENV" | "$__prog_args" | "$__prog_name",
            _,
        ) => (SEES, FILE),
        ("input" | "inputs" | "input_line_number" | "modulemeta", _) => {
            (SEES, "`.` is the whole input: an object with a member for each source")
        }
        ("now" | "localtime" | "strflocaltime", _) => {
            ("times of day depend on more than the input", DATES)
        }
        ("halt" | "halt_error" | "debug" | "debug_empty" | "stderr" | "stderr_empty", _) => {
            ("it acts on the process", "use `error` to end with an error")
        }
        ("repeat" | "while" | "until", _) => {
            (ENDS, "use `reduce` or `foreach` over `range` or the input")
        }
        ("recurse", 1 | 2) => (ENDS, "use `..`, which visits every value of its input"),
        ("builtins", 0) => {
            ("it lists what jq itself has", "write the names that it is to be compared with")
        }
        ("have_decnum", 0) => (
            "a number keeps its text until it is calculated with, and is exact to 2^63 then",
            "leave the question out",
        ),
        ("_strindices" | "_flatten" | "_modify" | "_assign" | "_match_impl", _) => (
            "it is a part of another function of jq",
            "use `indices`, `flatten`, `|=`, `=` or `match`",
        ),
        (
            "gamma" | "lgamma" | "tgamma" | "lgamma_r" | "erf" | "erfc" | "j0" | "j1" | "jn" | "y0"
            | "y1" | "yn",
            _,
        ) => ("its result differs between machines", CONSUMER),
        ("isvalid" | "tobytes" | "remainder" | "recurse_down", _) => {
            ("jq 1.8 has no such function", CONSUMER)
        }
        _ => return None,
    })
}

/// The candidate that `name` was probably meant to be: a letter too many, too few, another or
/// swapped, in three at most.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    const LONGEST: usize = 24;
    let allowed = (name.len() / 3).max(1);
    let near = candidates
        .filter(|known| name.len() <= LONGEST && known.len().abs_diff(name.len()) <= allowed);
    let by_distance = near.map(|known| {
        let without_case = osa_distance(&name.to_lowercase(), &known.to_lowercase());
        (without_case, osa_distance(name, known), known)
    });
    by_distance
        .filter(|(distance, ..)| *distance <= allowed)
        .min_by_key(|(distance, with_case, _)| (*distance, *with_case))
        .map(|(.., known)| known)
}
