//! Standard output: what a command says is its result, so failing to say it is a failure; a reader who left had enough.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use super::exit;

/// Says `text`, with colours only where they belong, and what that comes to.
pub(super) fn say(text: impl Display) -> ExitCode {
    let mut stdout = anstream::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => exit::OK,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit::OK,
        Err(error) => {
            eprintln!("error: cannot write: {error}");
            exit::FAILED
        }
    }
}
