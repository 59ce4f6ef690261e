//! Checks of a program's own literals: regular expressions, their flags, counts.
//!
//! A literal that fails at every run is refused before the first one.

use super::super::CompileError;
use super::super::pattern::{PatternProblem, check_pattern, unknown_flag};
use super::super::syntax::errors::{error, span};
use super::super::syntax::term::{Term, TextPart, TextTerm};
use super::{NameResolver, Resolved};

/// So many patterns of a program are compiled to judge them; a run compiles no more either.
const MAX_CHECKED_PATTERNS: usize = 64;

const FLAGS: &str = "of `g`, `i`, `x`, `n`, `l`, `s`, `p`";

impl<'s> NameResolver<'s> {
    /// Judges the arguments of a function of jq.
    pub(super) fn check_arguments(&mut self, name: &'s str, args: &[Term<'s>]) -> Resolved<()> {
        match (name, args) {
            ("test" | "match" | "capture", [pattern]) => self.check_array_pattern(name, pattern),
            ("scan" | "splits", [pattern]) | ("sub" | "gsub", [pattern, _]) => {
                self.check_search(name, pattern, None)
            }
            ("test" | "match" | "capture" | "scan" | "split" | "splits", [pattern, flags])
            | ("sub" | "gsub", [pattern, _, flags]) => {
                self.check_search(name, pattern, Some(flags))
            }
            ("limit" | "skip" | "nth", [count, _]) | ("flatten", [count]) => {
                self.check_count(name, count)
            }
            _ => Ok(()),
        }
    }

    fn check_count(&self, name: &'s str, count: &Term<'s>) -> Resolved<()> {
        let Term::Negation(number) = count else { return Ok(()) };
        let Term::Number(written) = **number else { return Ok(()) };
        if written.parse().is_ok_and(|n: f64| n == 0.0) {
            return Ok(());
        }
        let message = format!("`{name}` does not take a negative number");
        Err(error(
            span(self.text, written),
            message,
            "a number from 0 on",
            "count from the beginning",
        ))
    }

    /// `match(["foo", "ig"])` is `match("foo"; "ig")`.
    fn check_array_pattern(&mut self, name: &'s str, pattern: &Term<'s>) -> Resolved<()> {
        comma_terms(Some(pattern)).iter().try_for_each(|pattern| {
            let Term::Array(Some(items)) = pattern else {
                return self.check_search(name, pattern, None);
            };
            match comma_terms(Some(&**items)) {
                [pattern, flags, ..] => self.check_search(name, pattern, Some(flags)),
                [pattern] => self.check_search(name, pattern, None),
                [] => Ok(()),
            }
        })
    }

    fn check_search(
        &mut self,
        name: &'s str,
        pattern: &Term<'s>,
        flags: Option<&Term<'s>>,
    ) -> Resolved<()> {
        let all_flags = flags.map_or_else(|| vec![Some(String::new())], comma_texts);
        for flags in comma_terms(flags) {
            self.check_literal_type(name, flags, "the flags of a regular expression", true)?;
            if let (Some(letters), Term::Text(text)) = (literal_text(flags), flags)
                && let Some(flag) = unknown_flag(&letters)
            {
                return Err(self.bad_flag(flag, text));
            }
        }
        for pattern in comma_terms(Some(pattern)) {
            self.check_literal_type(name, pattern, "a regular expression", false)?;
            let (Some(letters), Term::Text(text)) = (literal_text(pattern), pattern) else {
                continue;
            };
            // Flags that are computed decide how the pattern is read: with `x`, a `#` begins a
            // comment.
            for flags in all_flags.iter().flatten() {
                self.check_pattern_literal(&letters, flags, text)?;
            }
        }
        Ok(())
    }

    fn check_pattern_literal(
        &mut self,
        pattern: &str,
        flags: &str,
        text: &TextTerm<'s>,
    ) -> Resolved<()> {
        let judged = (pattern.to_owned(), flags.to_owned());
        if self.checked_patterns.len() >= MAX_CHECKED_PATTERNS
            || self.checked_patterns.contains(&judged)
        {
            return Ok(());
        }
        self.checked_patterns.push(judged);
        check_pattern(pattern, flags).map_err(|problem| self.bad_pattern(&problem, text))
    }

    /// Refuses a literal of another type than a text.
    fn check_literal_type(
        &self,
        name: &str,
        term: &Term<'s>,
        what: &str,
        may_be_null: bool,
    ) -> Resolved<()> {
        let kind = match term {
            Term::Null if may_be_null => return Ok(()),
            Term::Null => "null",
            Term::Bool(_) => "a boolean",
            Term::Number(_) => "a number",
            Term::Array(_) => "an array",
            Term::Object(_) => "an object",
            _ => return Ok(()),
        };
        let at = match term {
            Term::Number(written) => span(self.text, written),
            _ => span(self.text, name),
        };
        let expected = if may_be_null { "a text such as `\"gi\"`, or null" } else { "a text" };
        Err(error(at, format!("{kind} cannot be {what}"), expected, "put it in double quotes"))
    }

    fn bad_flag(&self, flag: char, text: &TextTerm<'s>) -> CompileError {
        let message = format!("`{flag}` is not a flag of a regular expression");
        let hint = "`g` finds all matches, `i` ignores case; leave out the others";
        error(span(self.text, text.source_text), message, FLAGS, hint)
    }

    fn bad_pattern(&self, problem: &PatternProblem, text: &TextTerm<'s>) -> CompileError {
        let at = span(self.text, text.source_text);
        let expected = "a regular expression that is searched for in linear time";
        match problem {
            PatternProblem::Unsupported(why) => {
                let message = format!("this regular expression is not available in shapes: {why}");
                error(
                    at,
                    message,
                    expected,
                    "take the text apart with groups, `split` or several `test`s",
                )
            }
            PatternProblem::Invalid(why) => {
                let message = format!("the regular expression is not valid: {why}");
                let hint = "write `\\\\` before a character that stands for itself";
                error(at, message, "a regular expression", hint)
            }
            PatternProblem::TooLarge(why) => {
                let message = format!("the regular expression is too large: {why}");
                error(
                    at,
                    message,
                    "a smaller one",
                    "repeat less, or search for parts one after the other",
                )
            }
        }
    }
}

/// The terms of which each may be the argument.
fn comma_terms<'t, 's>(term: Option<&'t Term<'s>>) -> &'t [Term<'s>] {
    match term {
        Some(Term::Comma(terms)) => terms,
        Some(term) => std::slice::from_ref(term),
        None => &[],
    }
}

fn comma_texts(term: &Term<'_>) -> Vec<Option<String>> {
    comma_terms(Some(term))
        .iter()
        .map(
            |term| {
                if matches!(term, Term::Null) { Some(String::new()) } else { literal_text(term) }
            },
        )
        .collect()
}

/// The text of a string without interpolation.
fn literal_text(term: &Term<'_>) -> Option<String> {
    let Term::Text(text) = term else { return None };
    let mut plain = String::new();
    for part in &text.parts {
        match part {
            TextPart::Plain(part) => plain.push_str(part),
            TextPart::Char(c) => plain.push(*c),
            TextPart::Value(_) => return None,
        }
    }
    Some(plain)
}
