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
        return Err(CompileError {
            at: 0..text.len(),
            message: format!("the program has {} bytes", text.len()),
            hint: Some(format!("a program may have {MAX_TEXT_BYTES}")),
        });
    }
    bound_brackets(text)?;
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || read(text));
        let at = || 0..text.len();
        let reader = reader.map_err(|_| error(at(), "no thread could be started to read the program"))?;
        reader.join().unwrap_or_else(|_| Err(error(at(), "the program cannot be read")))
    })
}

fn read(text: &str) -> Result<Code, CompileError> {
    let tokens = Lexer::new(text).lex().map_err(|errors| lex_error(text, &errors))?;
    let mut nesting = 0;
    for_each_token(&tokens, &mut |token| nesting += usize::from(nests(token)));
    if nesting > MAX_NESTING_TOKENS {
        return Err(error(0..text.len(), "the program is too long to be read safely"));
    }
    if let Some(Token(word @ ("import" | "include" | "module"), Tok::Word)) = tokens.first() {
        let hint = Some("define what it needs with `def` in the program itself".into());
        return Err(CompileError { at: span(text, word), message: "a shape cannot load modules".into(), hint });
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

pub(super) fn error(at: Range<usize>, message: impl Into<String>) -> CompileError {
    CompileError { at, message: message.into(), hint: None }
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
            return Err(error(at..at + 1, format!("more than {MAX_BRACKETS} brackets are open here")));
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
    let expected = match expected {
        "nothing" => return error(span(text, found), format!("{found_words} does not belong here")),
        "" => "more".to_owned(),
        "else or end" => "`else` or `end`".to_owned(),
        word if word.contains(' ') || WORDS.contains(&word) => article(word),
        literal => format!("`{literal}`"),
    };
    error(span(text, found), format!("expected {expected}, found {found_words}"))
}

/// What jaq names in words rather than as it is written.
const WORDS: [&str; 10] =
    ["variable", "pattern", "term", "key", "identifier", "argument", "string", "digit", "token", "number"];

fn article(words: &str) -> String {
    let an = words.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {words}", if an { "an" } else { "a" })
}
