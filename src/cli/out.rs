//! Standard output and standard error: the only place that writes there, but for the log. The
//! output of a command is its result, so a write that fails is a failure; a pipe that was closed is
//! none.
//!
//! Text for people passes [`terminal`], so that control sequences in data do not reach a terminal.
//! Data goes out as it is, byte for byte, unless standard output is a terminal.
#![allow(clippy::print_stderr, reason = "everybody else prints by this module")]

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::process::ExitCode;

use super::{exit, terminal};

/// Writes `text` to standard output, with colours only on a terminal; returns the exit code.
pub(super) fn print(text: impl Display) -> ExitCode {
    exit_code(write_line(text))
}

/// Writes a line for people.
pub(super) fn write_line(text: impl Display) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    writeln!(stdout, "{}", terminal::pass_colours(&text.to_string()))?;
    stdout.flush()
}

/// Writes JSON to standard output; returns the exit code.
pub(super) fn print_json(json: impl AsRef<[u8]>) -> ExitCode {
    exit_code(write_json(json))
}

/// Writes a line of JSON: as it is, but for escapes of its own where it goes to a terminal.
pub(super) fn write_json(json: impl AsRef<[u8]>) -> io::Result<()> {
    let json = json.as_ref();
    let mut stdout = io::stdout().lock();
    if stdout.is_terminal() {
        stdout.write_all(terminal::escape_json(&String::from_utf8_lossy(json)).as_bytes())?;
    } else {
        stdout.write_all(json)?;
    }
    stdout.write_all(b"\n")?;
    stdout.flush()
}

/// Writes data that is no JSON to standard output; returns the exit code. It is written as it is,
/// but with the escapes of [`terminal`] where it goes to a terminal.
pub(super) fn print_data(data: impl AsRef<[u8]>) -> ExitCode {
    exit_code(write_data(data.as_ref()))
}

fn write_data(data: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if stdout.is_terminal() {
        stdout.write_all(terminal::pass_colours(&String::from_utf8_lossy(data)).as_bytes())?;
    } else {
        stdout.write_all(data)?;
    }
    stdout.flush()
}

fn exit_code(written: io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => exit::OK,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit::OK,
        Err(error) => {
            self::error(format!("cannot write: {error}"));
            exit::FAILED
        }
    }
}

/// Writes an error to standard error.
pub(super) fn error(text: impl Display) {
    note(format!("error: {text}"));
}

/// Writes a note beside the result to standard error.
pub(super) fn note(text: impl Display) {
    anstream::eprintln!("{}", terminal::pass_colours(&text.to_string()));
}

/// Draws problems, on standard error; they are in colour where it is a terminal.
pub(super) fn print_problems(render: impl FnOnce(bool) -> String) {
    let rendered = render(anstream::stderr().is_terminal());
    anstream::eprint!("{}", terminal::replace_unprintable(&rendered));
}
