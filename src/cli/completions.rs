//! `bfb completions SHELL`.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use super::out;

#[derive(Debug, Args)]
pub(super) struct CompletionsCommand {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsCommand {
    pub(super) fn run(self) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "bfb", &mut script);
        out::print(String::from_utf8_lossy(&script).trim_end())
    }
}
