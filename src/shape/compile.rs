//! Compiles a program: reads its text and resolves its names, within a bound on its size, and on a
//! thread of its own, since both recurse with the text.

use super::program::Code;
use super::syntax::errors::error;
use super::{CompileError, resolve, syntax};

/// The largest text of a program, in bytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;
/// The stack of the thread: enough for the deepest program that the parser accepts.
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
        let reader = thread.spawn_scoped(scope, || resolve::program(text, &syntax::parse(text)?));
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
