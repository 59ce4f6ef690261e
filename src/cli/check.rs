//! `bfb check`: everything that can be known of domain files without the network.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::args::OutputFormat;
use super::{exit, out};
use crate::diagnostics::{self, Problem};
use crate::sidecar::{self, DomainFileOptions};

#[derive(Debug, Args)]
pub(super) struct CheckCommand {
    /// Domain files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[arg(long)]
    insecure_upstreams: bool,
    /// How the problems are printed
    #[arg(long, value_enum, default_value = "text")]
    format: OutputFormat,
}

impl CheckCommand {
    pub(super) fn run(self) -> ExitCode {
        let reading = DomainFileOptions {
            allow_http: self.insecure_upstreams,
            ..DomainFileOptions::default()
        };
        let loaded = sidecar::read_domains(&self.paths, reading);
        let problems = loaded.problems();
        let exit_code = match self.format {
            OutputFormat::Json => {
                out::print_json(serde_json::to_string_pretty(problems).unwrap_or_default())
            }
            OutputFormat::Text if problems.is_empty() => out::print("ok"),
            OutputFormat::Text => {
                report_problems(problems);
                exit::OK
            }
        };
        if problems.is_empty() { exit_code } else { exit::wrong_input() }
    }
}

/// Every problem on standard error, in colour where it is a terminal, and how many there are.
pub(super) fn report_problems(problems: &[Problem]) {
    out::print_problems(|color| diagnostics::render(problems, color));
    let plural = if problems.len() == 1 { "problem" } else { "problems" };
    out::note(format!("{} {plural}", problems.len()));
}
