//! jq programs that can neither hold nor kill the process.

use std::ops::Range;

/// A compiled jq program: a pure function from one JSON text to one JSON text. `Send + Sync`; compile once, run often.
#[derive(Debug)]
pub struct Program {}

/// Why a program was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    /// Where, in bytes of the program's text.
    pub at: Range<usize>,
    /// What is wrong, lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What one run may cost.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Steps of evaluation.
    pub steps: u64,
    /// Bytes of rendered output.
    pub output_bytes: usize,
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
        let _ = text;
        unimplemented!()
    }

    /// Runs the program over `input`, a valid JSON text, and renders its one result.
    pub fn run(&self, input: &[u8], budget: Budget) -> Result<Vec<u8>, RunError> {
        let _ = (input, budget);
        unimplemented!()
    }
}
