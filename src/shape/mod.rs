//! jq programs that can neither hold nor kill the process.
//!
//! The grammar is jaq's (`jaq-core` lexes and parses); the evaluation is ours, because what jaq evaluates cannot be
//! bounded from outside: its recursion, its allocations and its big integers know no budget. Here a program is resolved
//! to a tree without recursion or unbounded loops, of allow-listed functions only, and each step, allocation and level
//! of the stack is taken from a `Budget`. Errors never hold data. A run needs about 1 MiB of its caller's stack.
//!
//! `syntax` reads the text; `resolve` turns it into `program`'s tree or says what is `refused`. `eval`, `bind`,
//! `calculate`, `follow` and `update` run it over `value`s. `builtins` lists the functions, which `filters`, `functions`,
//! `text` and `pattern` hold; `prelude.jq` says those that jq itself can say. `meter` is what all of them pay.

mod bind;
mod builtins;
mod calculate;
mod eval;
mod filters;
mod follow;
mod functions;
mod json;
mod meter;
mod number;
mod pattern;
mod program;
mod refused;
mod resolve;
mod syntax;
mod text;
mod update;
mod value;

#[cfg(test)]
mod tests;

use std::ops::Range;

/// A compiled jq program: a pure function from one JSON text to one JSON text. `Send + Sync`; compile once, run often.
#[derive(Debug)]
pub struct Program {
    code: program::Code,
}

/// Why a program was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    /// Where, in bytes of the program's text.
    pub at: Range<usize>,
    /// What is wrong, lower case, no full stop.
    pub message: String,
    /// What was expected there.
    pub expected: String,
    /// What to do about it.
    pub hint: String,
}

/// What one run may cost.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Steps of evaluation, about 50 ns each in a release build: the default ends within about a second.
    pub steps: u64,
    /// Bytes of rendered output.
    pub output_bytes: usize,
    /// Bytes that a run may allocate in all, and the largest tree that one value may stand for. A run was seen to hold at
    /// most the double. The input itself is not counted: it takes up to about 12 times its text.
    pub memory_bytes: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: 10_000_000, output_bytes: 16 << 20, memory_bytes: 128 << 20 }
    }
}

/// Why a run gave no value. Its text never holds data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RunError {
    /// What went wrong, in jq's words less the data.
    pub message: String,
}

impl Program {
    /// Compiles `text`, refusing what is not a pure, bounded function.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        syntax::compile(text).map(|code| Self { code })
    }

    /// Runs the program over `input`, a valid JSON text, and renders its one result.
    pub fn run(&self, input: &[u8], budget: Budget) -> Result<Vec<u8>, RunError> {
        let input = json::read(input).ok_or_else(|| RunError { message: "the input is not JSON".into() })?;
        let output = eval::run(&self.code, input, &budget)?;
        Ok(json::write(&output, budget.output_bytes)?.into_bytes())
    }
}
