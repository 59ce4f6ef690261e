//! What the checker may ask of the outside.

use std::io;
use std::ops::Range;
use std::path::Path;

/// The outside as the checker sees it.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// An environment variable's value, `None` where it is unset.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// A file's text (`NAME_FILE`, `schema:`).
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Compiles a jq program, or says what is wrong with it.
    pub program: &'a dyn Fn(&str) -> Result<(), ProgramProblem>,
    /// Whether `http://` is allowed (`--insecure-upstreams`).
    pub allow_http: bool,
    /// Whether `https://` can be asked: there is an identity (`--identity`).
    pub allow_https: bool,
}

/// What is wrong with a jq program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramProblem {
    /// Where, in bytes of the program's text.
    pub at: Range<usize>,
    /// What is wrong, lower case, no full stop.
    pub message: String,
    /// What was expected there.
    pub expected: String,
    /// What to do about it.
    pub hint: String,
}
