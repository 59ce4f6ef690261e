//! From a program's text to its terms.
//!
//! The grammar is jq 1.8's: `lexer` makes tokens, `parser`, `keywords` and `members` a tree of
//! `term`s, and `errors` words the problems. The parser recurses with the text, so its brackets and
//! its calls are bounded; the caller gives it a stack for the worst case within those bounds
//! (`compile`).

use super::CompileError;
use parser::Parser;
use term::Term;

pub(super) mod errors;
mod keywords;
mod lexer;
mod members;
mod parser;
pub(super) mod term;

/// Reads a program; the slices in the result are of `text`.
pub(super) fn parse(text: &str) -> Result<Term<'_>, CompileError> {
    parse_as(text, false)
}

/// The definitions of the prelude, which is part of this crate and therefore parses.
pub(super) fn prelude() -> Term<'static> {
    parse_as(include_str!("prelude.jq"), true).unwrap_or(Term::Id)
}

fn parse_as(text: &str, is_prelude: bool) -> Result<Term<'_>, CompileError> {
    let tokens = lexer::tokens(text)?;
    Parser::new(text, &tokens, is_prelude).program()
}
