//! Regular expressions that a program's text holds, judged before it runs.

use super::engine::{MAX_CLASSES, compile_regex, count_classes, syntax_config};
use super::{MAX_PATTERN_BYTES, engine};

/// `(?>…)` and `(?#…)`, for people.
const ATOMIC: &str = "groups that are atomic, and comments in groups, are not supported";

/// An error in a pattern.
pub(in super::super) enum PatternProblem {
    /// Syntax of other dialects that this one lacks.
    Unsupported(String),
    Invalid(String),
    /// Past one of the bounds.
    TooLarge(String),
}

/// The first flag that means nothing.
pub(in super::super) fn unknown_flag(flags: &str) -> Option<char> {
    syntax_config(flags).err()
}

/// Judges a pattern with flags that are right.
pub(in super::super) fn check_pattern(pattern: &str, flags: &str) -> Result<(), PatternProblem> {
    if pattern.len() > MAX_PATTERN_BYTES {
        let message = format!("it has {} bytes, of at most {MAX_PATTERN_BYTES}", pattern.len());
        return Err(PatternProblem::TooLarge(message));
    }
    if count_classes(pattern) > MAX_CLASSES {
        let message = format!("it names more than {MAX_CLASSES} classes of characters");
        return Err(PatternProblem::TooLarge(message));
    }
    let Ok(syntax) = syntax_config(flags) else { return Ok(()) };
    let regex = compile_regex(pattern, syntax).map_err(|why| match why {
        why if why.contains("not supported") => PatternProblem::Unsupported(why),
        why if why.contains("unrecognized flag") => PatternProblem::Unsupported(ATOMIC.to_owned()),
        why if why.contains("bytes") => PatternProblem::TooLarge(why),
        why => PatternProblem::Invalid(why),
    })?;
    if regex.captures_len() > engine::MAX_GROUPS {
        let message = format!("it has more than {} groups", engine::MAX_GROUPS - 1);
        return Err(PatternProblem::TooLarge(message));
    }
    Ok(())
}
