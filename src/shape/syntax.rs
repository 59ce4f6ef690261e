//! From a program's text to its terms, with every bound that reading it needs.
//!
//! The grammar is jq 1.8's: `lexer` makes tokens, `parser`, `keywords` and `members` a tree of
//! `term`s, and `errors` words the problems. The parser recurses with the text, so its size, its
//! brackets and its calls are bounded, and reading happens on a thread of its own with a stack for
//! the worst case within those bounds.

use super::CompileError;
use super::program::Code;
use super::resolve;
use errors::error;
use parser::Parser;
use term::Term;

pub(super) mod errors;
mod keywords;
mod lexer;
mod members;
mod parser;
pub(super) mod term;

const MAX_TEXT_BYTES: usize = 64 * 1024;
const STACK_BYTES: usize = 128 << 20;

/// Reads and resolves a program.
pub(super) fn compile(text: &str) -> Result<Code, CompileError> {
    if text.len() > MAX_TEXT_BYTES {
        let message = format!("the program has {} bytes", text.len());
        let expected = format!("at most {MAX_TEXT_BYTES}");
        return Err(error(
            0..text.len(),
            message,
            expected,
            "name with `def` what it says more than once",
        ));
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let reader = thread.spawn_scoped(scope, || resolve::program(text, &parse(text, false)?));
        let at = || 0..text.len();
        let reader = reader.map_err(|_| {
            let expected = format!("a thread with a stack of {} MiB", STACK_BYTES >> 20);
            let hint = "raise the process's limits on memory and threads";
            error(at(), "no thread could be started to read the program", expected, hint)
        })?;
        reader.join().unwrap_or_else(|_| {
            let hint =
                "say it with less nesting; that it was not refused with a place is a fault of ours";
            Err(error(at(), "the program cannot be read", "a jq program", hint))
        })
    })
}

fn parse(text: &str, is_prelude: bool) -> Result<Term<'_>, CompileError> {
    let tokens = lexer::tokens(text)?;
    Parser::new(text, &tokens, is_prelude).program()
}

/// The definitions of the prelude, which is part of this crate and therefore parses.
pub(super) fn prelude() -> Term<'static> {
    parse(include_str!("prelude.jq"), true).unwrap_or(Term::Id)
}
