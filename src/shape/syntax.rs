//! From a program's text to jaq's terms, with every bound that reading it needs.
//!
//! jaq's lexer and parser recurse with the text, so its size, its brackets and all that nests without brackets are
//! bounded first, and reading happens on a thread of its own with a stack for the worst that is left.

use std::ops::Range;

use jaq_core::load::lex::{Lexer, StrPart, Tok, Token};
use jaq_core::load::parse::{Def, Parser};

use super::CompileError;
use super::program::Code;
use super::resolve;

const MAX_TEXT_BYTES: usize = 64 * 1024;
const MAX_BRACKETS: usize = 200;
/// Tokens that may nest without a bracket.
const MAX_NESTING_TOKENS: usize = 4096;
const STACK_BYTES: usize = 128 << 20;

/// Reads and resolves a program.
pub(super) fn compile(text: &str) -> Result<Code, CompileError> {
    if text.len() > MAX_TEXT_BYTES {
        let (message, expected) =
            (format!("the program has {} bytes", text.len()), format!("at most {MAX_TEXT_BYTES}"));
        return Err(error(0..text.len(), message, expected, "name with `def` what it says more than once"));
    }
    bound_brackets(text)?;
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || read(text));
        let at = || 0..text.len();
        let reader = reader.map_err(|_| {
            let expected = format!("a thread with a stack of {} MiB", STACK_BYTES >> 20);
            let hint = "raise the process's limits on memory and threads";
            error(at(), "no thread could be started to read the program", expected, hint)
        })?;
        reader.join().unwrap_or_else(|_| {
            let hint = "say it with less nesting; that it was not refused with a place is a fault of ours";
            Err(error(at(), "the program cannot be read", "a jq program", hint))
        })
    })
}

fn read(text: &str) -> Result<Code, CompileError> {
    let tokens = Lexer::new(text).lex().map_err(|errors| lex_error(text, &errors))?;
    let mut nesting = 0;
    for_each_token(&tokens, &mut |token| nesting += usize::from(nests(token)));
    if nesting > MAX_NESTING_TOKENS {
        let expected = format!("at most {MAX_NESTING_TOKENS} of `|`, `-`, `=` and words such as `if` and `def`");
        let hint = "name with `def` what it says more than once, or leave a part of the work to the consumer";
        return Err(error(0..text.len(), "the program is too long to be read safely", expected, hint));
    }
    if let Some(Token(word @ ("import" | "include" | "module"), Tok::Word)) = tokens.first() {
        return Err(modules(span(text, word)));
    }
    let term = Parser::new(&tokens).parse(Parser::term).map_err(|errors| {
        let (expected, found) = &errors[0];
        let found = Token::opt_as_str(*found, text);
        expected_error(text, expected.as_str(), found)
    })?;
    resolve::program(text, &term)
}

/// Definitions of the prelude, which is ours and therefore right.
pub(super) fn prelude() -> Vec<Def<&'static str>> {
    jaq_core::load::parse(include_str!("prelude.jq"), |p| p.defs()).unwrap_or_default()
}

/// What was met, what was expected there, and what to do.
pub(super) fn error(
    at: Range<usize>,
    message: impl Into<String>,
    expected: impl Into<String>,
    hint: impl Into<String>,
) -> CompileError {
    CompileError { at, message: message.into(), expected: expected.into(), hint: hint.into() }
}

/// What would read another file.
pub(super) fn modules(at: Range<usize>) -> CompileError {
    let hint = "define what it needs with `def` in the program itself";
    error(at, "a shape cannot load modules", "a program that stands by itself", hint)
}

/// The place of `part`, a slice of `text`.
pub(super) fn span(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
    if start <= text.len() && start + part.len() <= text.len() { start..start + part.len() } else { 0..text.len() }
}

/// Whether the parser may recurse at this token without a bracket.
fn nests(token: &Token<&str>) -> bool {
    match token {
        Token(word, Tok::Word) => {
            matches!(*word, "if" | "try" | "catch" | "def" | "reduce" | "foreach" | "label" | "elif" | "else" | "as")
        }
        Token(symbol, Tok::Sym) => *symbol == "-" || *symbol == "|" || symbol.ends_with('='),
        _ => false,
    }
}

fn for_each_token<'s>(tokens: &[Token<&'s str>], f: &mut impl FnMut(&Token<&'s str>)) {
    for token in tokens {
        f(token);
        match &token.1 {
            Tok::Block(inner) => for_each_token(inner, f),
            Tok::Str(parts) => {
                for part in parts {
                    if let StrPart::Term(Token(_, Tok::Block(inner))) = part {
                        for_each_token(inner, f);
                    }
                }
            }
            _ => (),
        }
    }
}

/// Counts brackets as the lexer will meet them.
fn bound_brackets(text: &str) -> Result<(), CompileError> {
    // What is open: a bracket, or a string (whose `\(` opens a bracket again).
    let mut open: Vec<u8> = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let in_string = open.last() == Some(&b'"');
        match byte {
            b'\\' if in_string => {
                at += 1;
                if bytes.get(at) == Some(&b'(') {
                    open.push(b'(');
                }
            }
            b'"' if in_string => drop(open.pop()),
            b'"' => open.push(b'"'),
            _ if in_string => (),
            b'#' => at += bytes[at..].iter().position(|b| *b == b'\n').unwrap_or(bytes.len()),
            b'(' | b'[' | b'{' => open.push(byte),
            b')' | b']' | b'}' => drop(open.pop()),
            _ => (),
        }
        if open.len() > MAX_BRACKETS {
            let message = format!("more than {MAX_BRACKETS} brackets are open here");
            let hint = "close some before this one, or name what is in them with `def`";
            return Err(error(at..at + 1, message, format!("at most {MAX_BRACKETS} open brackets"), hint));
        }
        at += 1;
    }
    Ok(())
}

fn lex_error(text: &str, errors: &[jaq_core::load::lex::Error<&str>]) -> CompileError {
    let (expected, rest) = &errors[0];
    let found = rest.chars().next().map_or(*rest, |c| &rest[..c.len_utf8()]);
    expected_error(text, expected.as_str(), found)
}

fn expected_error(text: &str, expected: &str, found: &str) -> CompileError {
    let found_words = match found {
        "" => "the program's end".to_owned(),
        long if long.len() > 40 => format!("`{}…`", long.chars().take(12).collect::<String>()),
        short => format!("`{short}`"),
    };
    let at = span(text, found);
    let hint = next_step(expected, found, &found_words);
    let expected = match expected {
        "nothing" => {
            let message = format!("{found_words} does not belong here");
            return error(at, message, "the program's end, or an operator", hint);
        }
        "" => "more".to_owned(),
        "else or end" => "`else` or `end`".to_owned(),
        word if word.contains(' ') || WORDS.contains(&word) => article(word),
        literal => format!("`{literal}`"),
    };
    error(at, format!("expected {expected}, found {found_words}"), expected, hint)
}

/// What to do where the grammar wants something else.
fn next_step(expected: &str, found: &str, found_words: &str) -> String {
    match expected {
        "nothing" => format!("put `|`, `,` or another operator before {found_words}, or remove it"),
        "token" if found.starts_with([')', ']', '}']) => {
            format!("nothing is open that `{found}` could close: remove it")
        }
        "token" => {
            format!("{found_words} means nothing in jq: put it in double quotes if it is meant as text, or remove it")
        }
        "closing quote" => "a text ends with `\"`; within it, write `\\\"` for the quote itself".to_owned(),
        closing if closing.starts_with("closing ") => "close every `(`, `[`, `{` and `\"` that is opened".to_owned(),
        "string escape sequence" => "write `\\\\` for a backslash itself".to_owned(),
        "4-digit hexadecimal UTF-8 code point" => "write four hexadecimal digits: `\\u00e4`".to_owned(),
        "then" | "else or end" | "end" => "an `if` is written `if … then … else … end`".to_owned(),
        "as" | "in" => "write `reduce .[] as $x (0; . + $x)`, or `. as $x | …`".to_owned(),
        "pattern" | "variable" => "a variable begins with `$`: `. as $x | …`".to_owned(),
        "key" => "a member's name is a word or a text: `.name`, `{name: .}`, `{\"a name\": .}`".to_owned(),
        "identifier" => "a name is made of letters, digits and `_`, and does not begin with a digit".to_owned(),
        "argument" => "an argument is a name, `f`, or a variable, `$x`, with `;` between two".to_owned(),
        "digit" => "a number goes on with a digit: `1.5`, `1e3`".to_owned(),
        "term" if found.is_empty() => {
            "go on with a filter, such as `.` (the input itself), or remove the operator before".to_owned()
        }
        "term" => format!("put a filter before {found_words}, such as `.` (the input itself), or remove it"),
        "string" => "put the text in double quotes".to_owned(),
        words if words.contains(" or ") => "close what is open, and put `,` (in calls `;`) between two".to_owned(),
        ":" => "give the member a value: `{(.name): .value}`".to_owned(),
        "|" => "go on after what is bound: `. as $x | …`, `label $out | …`".to_owned(),
        literal => format!("put `{literal}` before {found_words}"),
    }
}

/// What jaq names in words rather than as it is written.
const WORDS: [&str; 10] =
    ["variable", "pattern", "term", "key", "identifier", "argument", "string", "digit", "token", "number"];

fn article(words: &str) -> String {
    let an = words.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {words}", if an { "an" } else { "a" })
}
