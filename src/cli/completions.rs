//! `bfb completions SHELL`.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use super::exit;

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> ExitCode {
        clap_complete::generate(self.shell, &mut super::command(), "bfb", &mut std::io::stdout());
        exit::OK
    }
}
