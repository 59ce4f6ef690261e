//! The checker's access to the outside.

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
    /// Compiles a jq program, or returns its error.
    pub program: &'a dyn Fn(&str) -> Result<(), ProgramProblem>,
    /// Whether `http://` is allowed (`--insecure-upstreams`).
    pub allow_http: bool,
    /// Whether `https://` can be asked: there is an identity (`--identity`).
    pub allow_https: bool,
}

/// The error of a jq program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramProblem {
    /// Where, in bytes of the program's text.
    pub at: Range<usize>,
    /// The error, lower case, no full stop.
    pub message: String,
    /// The expectation at that place.
    pub expected: String,
    /// The next step.
    pub hint: String,
}
