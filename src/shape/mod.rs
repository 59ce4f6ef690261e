//! jq programs that can neither hold nor kill the process.
//!
//! Grammar and order of results are jq 1.8's. The evaluator is our own, because those of jq and jaq
//! cannot be bounded from outside: their recursion and their allocations know no budget. So is the
//! parser, because jaq's accepts another grammar (`7 * 8 % 3`, `.a // .b = 1`, no `?//`). Here a
//! program is resolved to a tree without recursion or unbounded loops, of allow-listed functions
//! only, and each step, allocation and level of the stack is taken from a `Budget`. Errors never
//! hold data. A run needs about 1 MiB of its caller's stack.
//!
//! `compile` reads the text with `syntax`; `resolve` turns it into `program`'s tree or refuses what
//! is `unsupported`. `eval` and its `env`, `bind`, `calculate` with the `operators`, `paths` with
//! `index`, and `update` run it over `value`s and their `object`s. `builtins` lists the functions,
//! which `filters` with `stream` and `substitute`, `functions`, `libm`, `calendar`, `text` and
//! `pattern` hold; `prelude.jq` defines those that can be written in jq. `budget` is charged by all
//! of them, `order` compares; `buffer` holds growing texts and lists, and `memory_count` counts the
//! memory of all.

mod bind;
mod budget;
mod buffer;
mod builtins;
mod calculate;
mod calendar;
mod compile;
mod env;
mod eval;
mod filters;
mod functions;
mod index;
mod json;
mod libm;
mod memory_count;
mod number;
mod object;
mod operators;
mod order;
mod paths;
mod pattern;
mod program;
mod resolve;
mod stream;
mod substitute;
mod syntax;
mod text;
mod unsupported;
mod update;
mod value;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// A compiled jq program: a pure function from one JSON text to one JSON text. `Send + Sync`;
/// compile once, run often.
#[derive(Debug)]
pub struct Program {
    code: program::Code,
}

/// Why a program was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    /// Where, in bytes of the program's text.
    pub at: Range<usize>,
    /// The error, lower case, no full stop.
    pub message: String,
    /// The expectation at that place.
    pub expected: String,
    /// The next step.
    pub hint: String,
}

/// The bounds of one run.
#[derive(Clone, Copy)]
pub struct Budget<'a> {
    /// Steps of evaluation, about 50 ns each in a release build: the default ends within about a
    /// second.
    pub steps: u64,
    /// Bytes of rendered output.
    pub output_bytes: usize,
    /// The most bytes that a run may hold at once: the tree of its input, its values, its output.
    /// Also the largest tree that one value may stand for.
    pub memory_bytes: u64,
    /// When the run must have ended; looked at inside loops.
    pub until: Option<Instant>,
    /// Set from outside once the result is no longer wanted; read together with the clock.
    pub cancelled: Option<&'a AtomicBool>,
    /// Called before the run takes so many bytes more, in steps of [`MEMORY_STEP_BYTES`]; `false`
    /// stops the run. Granted bytes are held until the run has ended; the caller then takes all of
    /// them back.
    pub memory: Option<&'a dyn Fn(u64) -> bool>,
}

/// A run asks for memory in multiples of this.
pub const MEMORY_STEP_BYTES: u64 = 256 * 1024;

impl Default for Budget<'_> {
    fn default() -> Self {
        Self {
            steps: 10_000_000,
            output_bytes: 16 << 20,
            memory_bytes: 128 << 20,
            until: None,
            cancelled: None,
            memory: None,
        }
    }
}

/// Why a run gave no value. Its text never holds data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RunError {
    /// The error, in jq's words less the data.
    pub message: String,
    /// The cause, for the caller's decision.
    pub kind: RunErrorKind,
}

/// The cause of a run without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunErrorKind {
    /// The program's or its input's: it failed, or took more steps or memory than one run may.
    Program,
    /// The program's or its input's: it yields more than [`Budget::output_bytes`].
    OutputTooLong,
    /// The process has no memory for it now: [`Budget::memory`] refused.
    MemoryRefused,
    /// [`Budget::until`] has passed.
    TimedOut,
    /// [`Budget::cancelled`] was set.
    Cancelled,
}

impl RunError {
    fn of_program(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: RunErrorKind::Program }
    }
}

impl Program {
    /// Compiles `text`, refusing any program that is not a pure, bounded function.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        compile::compile(text).map(|code| Self { code })
    }

    /// Runs the program over `input`, a valid JSON text, and renders its one result.
    pub fn run(&self, input: &[u8], budget: Budget<'_>) -> Result<Vec<u8>, RunError> {
        let mut run = eval::Evaluation::new(&self.code, &budget);
        let input = json::read(&mut run.meter, input)?;
        let output =
            run.result(input.ok_or_else(|| RunError::of_program("the input is not JSON"))?)?;
        Ok(json::write(&mut run.meter, &output, budget.output_bytes)?.into_bytes())
    }
}
