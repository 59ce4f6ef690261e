//! A command that this build was made without: it is still listed, so that whoever looks for it
//! learns where it is.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::{exit, out};

/// All arguments of the command in a build that has it.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct Absent {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _args: Vec<OsString>,
}

/// Refuses a command that has the name of the feature it needs.
pub(super) fn run(feature: &str) -> ExitCode {
    out::error(format!("`bfb {feature}` is not in this build"));
    out::note(format!(
        "hint: it is in one with the feature `{feature}`, which is on by default: \
         `cargo build --release`"
    ));
    exit::unavailable()
}
