//! `bfb check`: everything that can be known of domain files without the network.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::args::Format;
use super::{exit, out};
use crate::domain;
use crate::sidecar::{self, Reading};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Domain files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Allow `http://` sources (development)
    #[arg(long, env = "BFB_INSECURE_UPSTREAMS", value_parser = clap::builder::BoolishValueParser::new())]
    insecure_upstreams: bool,
    /// How the problems are printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl Check {
    pub(super) fn run(self) -> ExitCode {
        let reading = Reading { allow_http: self.insecure_upstreams, ..Reading::default() };
        let loaded = sidecar::read_domains(&self.paths, reading);
        let problems = loaded.problems();
        let said = match self.format {
            Format::Json => {
                out::say_json(serde_json::to_string_pretty(problems).unwrap_or_default())
            }
            Format::Text if problems.is_empty() => out::say("ok"),
            Format::Text => {
                report(problems);
                exit::OK
            }
        };
        if problems.is_empty() { said } else { exit::wrong_input() }
    }
}

/// Every problem on standard error, in colour where it is a terminal, and how many there are.
pub(super) fn report(problems: &[domain::Problem]) {
    out::draw(|color| domain::render(problems, color));
    let plural = if problems.len() == 1 { "problem" } else { "problems" };
    out::note(format!("{} {plural}", problems.len()));
}
