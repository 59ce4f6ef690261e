//! The errors of a program that is not jq: each with what was found, what was expected, and a hint.

use std::ops::Range;

use super::super::CompileError;

/// How deep terms may nest; a chain of `|` or of `,` counts once.
pub(in crate::shape) const MAX_NESTING: usize = 256;

/// An error with what was found, what was expected there, and a hint.
pub(in crate::shape) fn error(
    at: Range<usize>,
    message: impl Into<String>,
    expected: impl Into<String>,
    hint: impl Into<String>,
) -> CompileError {
    CompileError { at, message: message.into(), expected: expected.into(), hint: hint.into() }
}

/// The error for syntax that would read another file.
pub(in crate::shape) fn modules_error(at: Range<usize>) -> CompileError {
    let hint = "define what it needs with `def` in the program itself";
    error(at, "a shape cannot load modules", "a program that stands by itself", hint)
}

/// The place of `part`, a slice of `text`.
pub(in crate::shape) fn span(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
    if start <= text.len() && start + part.len() <= text.len() {
        start..start + part.len()
    } else {
        0..text.len()
    }
}

/// More levels than there may be.
pub(in crate::shape) fn too_deep(text: &str) -> CompileError {
    let hint = "name inner parts with `def`, or bind them with `as $x |`";
    let message = format!("the program nests more than {MAX_NESTING} deep");
    error(0..text.len(), message, format!("at most {MAX_NESTING} levels"), hint)
}

/// That the grammar wants `expected` where `found` stands; an empty `found` is the end.
pub(super) fn expected_error(text: &str, expected: &str, found: &str) -> CompileError {
    let found_words = match found {
        "" => "the program's end".to_owned(),
        long if long.len() > 40 => format!("`{}…`", long.chars().take(12).collect::<String>()),
        short => format!("`{short}`"),
    };
    let at = if found.is_empty() { text.len()..text.len() } else { span(text, found) };
    let hint = hint_for(expected, found, &found_words);
    let expected = match expected {
        "nothing" => {
            let message = format!("{found_words} does not belong here");
            return error(at, message, "the program's end, or an operator", hint);
        }
        "" => "more".to_owned(),
        "else or end" => "`else` or `end`".to_owned(),
        word if word.contains(' ') || WORDS.contains(&word) => with_article(word),
        literal => format!("`{literal}`"),
    };
    error(at, format!("expected {expected}, found {found_words}"), expected, hint)
}

/// The hint where the grammar expects something else.
fn hint_for(expected: &str, found: &str, found_words: &str) -> String {
    match expected {
        "nothing" => format!("put `|`, `,` or another operator before {found_words}, or remove it"),
        "token" if found.starts_with([')', ']', '}']) => {
            format!("nothing is open that `{found}` could close: remove it")
        }
        "token" => {
            format!(
                "{found_words} means nothing in jq: put it in double quotes if it is meant as \
                 text, or remove it"
            )
        }
        "closing quote" => {
            "a text ends with `\"`; within it, write `\\\"` for the quote itself".to_owned()
        }
        closing if closing.starts_with("closing ") => {
            "close every `(`, `[`, `{` and `\"` that is opened".to_owned()
        }
        "string escape sequence" => "write `\\\\` for a backslash itself".to_owned(),
        "4-digit hexadecimal UTF-8 code point" => {
            "write four hexadecimal digits: `\\u00e4`".to_owned()
        }
        "then" | "else or end" | "end" => "an `if` is written `if … then … else … end`".to_owned(),
        "as" | "in" => "write `reduce .[] as $x (0; . + $x)`, or `. as $x | …`".to_owned(),
        "pattern" | "variable" => "a variable begins with `$`: `. as $x | …`".to_owned(),
        "key" => "a member's name is a word or a text: `.name`, `{name: .}`, `{\"a name\": .}`"
            .to_owned(),
        "identifier" => {
            "a name is made of letters, digits and `_`, and does not begin with a digit".to_owned()
        }
        "argument" => {
            "an argument is a name, `f`, or a variable, `$x`, with `;` between two".to_owned()
        }
        "digit" => "a number goes on with a digit: `1.5`, `1e3`".to_owned(),
        "term" if found.is_empty() => {
            "go on with a filter, such as `.` (the input itself), or remove the operator before"
                .to_owned()
        }
        "term" => format!(
            "put a filter before {found_words}, such as `.` (the input itself), or remove it"
        ),
        "string" => "put the text in double quotes".to_owned(),
        words if words.contains(" or ") => {
            "close what is open, and put `,` (in calls `;`) between two".to_owned()
        }
        ":" => "give the member a value: `{(.name): .value}`".to_owned(),
        "|" => "go on after what is bound: `. as $x | …`, `label $out | …`".to_owned(),
        literal => format!("put `{literal}` before {found_words}"),
    }
}

/// The tokens that are named in words rather than quoted.
const WORDS: [&str; 10] = [
    "variable",
    "pattern",
    "term",
    "key",
    "identifier",
    "argument",
    "string",
    "digit",
    "token",
    "number",
];

fn with_article(words: &str) -> String {
    let an = words.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {words}", if an { "an" } else { "a" })
}
