//! The commands: from the arguments to an exit code. One file a command.
//!
//! Nothing below this module prints, and here only `out` does; nothing in it decides what a sidecar
//! does.

#[cfg(not(feature = "webhook"))]
mod absent;
mod args;
mod check;
mod client;
mod completions;
mod demo;
mod doctor;
mod environment;
mod get;
mod inject;
mod invalidate;
mod local_collect;
mod log;
mod logging;
mod out;
mod pretty;
mod schema;
mod serve;
mod status;
mod table_flags;
mod tail;
mod terminal;
mod waterfall;
#[cfg(feature = "webhook")]
mod webhook;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches as _, Parser, Subcommand};

/// Exit codes, as `sysexits.h` has them.
pub(crate) mod exit {
    use std::process::ExitCode;

    /// All is well.
    pub(crate) const OK: ExitCode = ExitCode::SUCCESS;
    /// What was asked for failed.
    pub(crate) const FAILED: ExitCode = ExitCode::FAILURE;

    /// The input is wrong: a file, or the usage (`EX_USAGE`).
    pub(crate) fn wrong_input() -> ExitCode {
        ExitCode::from(64)
    }

    /// Something needed is not there (`EX_UNAVAILABLE`).
    pub(crate) fn unavailable() -> ExitCode {
        ExitCode::from(69)
    }

    /// The exit code for a file that a flag names: it is missing, or its content is wrong.
    pub(crate) fn of_file(is_missing: bool) -> ExitCode {
        if is_missing { unavailable() } else { wrong_input() }
    }
}

/// Backend for Backend: one complete dataset on localhost, over mutual TLS.
#[derive(Debug, Parser)]
#[command(
    name = "bfb",
    version,
    max_term_width = 100,
    after_help = "Every flag of `serve` and `webhook` can be set by an environment variable of the \
    same name: `--drain 5s` is `BFB_DRAIN=5s`; an empty one counts as unset.\nExit codes: 0 well, \
    1 failed, 64 the input is wrong, 69 something needed is not there."
)]
struct Bfb {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar: read domain files, answer on localhost
    Serve(Box<serve::ServeCommand>),
    /// Check domain files: everything that can be known without the network
    Check(check::CheckCommand),
    /// Print the JSON Schema of a domain file
    Schema,
    /// Run four demo upstreams over mutual TLS and a sidecar, print a first answer
    Demo(demo::DemoCommand),
    /// Get one dataset: from the sidecar beside you, or collected here and now
    Get(get::GetCommand),
    /// Say that datasets are out of date: by key, by tag, or all
    Invalidate(invalidate::InvalidateCommand),
    /// Put sidecars into Kubernetes manifests
    Inject(inject::InjectCommand),
    /// Answer a cluster's admission reviews: pods that ask for a sidecar get one when they are
    /// created
    #[cfg(feature = "webhook")]
    Webhook(Box<webhook::WebhookCommand>),
    /// Answer a cluster's admission reviews (not in this build)
    #[cfg(not(feature = "webhook"))]
    Webhook(absent::Absent),
    /// Ask every upstream, and the fleet's Redis, for real: identity, expiry, client certificates,
    /// validators, latency
    Doctor(Box<doctor::DoctorCommand>),
    /// Show the state of the sidecar beside you
    Status(status::StatusCommand),
    /// Show what happens in the sidecar beside you, as it happens
    Tail(tail::TailCommand),
    /// Show or change the log level of the sidecar beside you
    Log(log::LogCommand),
    /// Print the completions of a shell
    Completions(completions::CompletionsCommand),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    crate::identity::install_provider();
    let arguments: Vec<_> = std::env::args_os().collect();
    let parsed = environment::parse(&arguments).and_then(|matches| {
        let variables = environment::Variables::from_matches(&matches);
        Ok((Bfb::from_arg_matches(&matches)?, variables))
    });
    match parsed {
        Ok((bfb, variables)) => run(bfb.command, &variables),
        Err(error) if error.use_stderr() => {
            out::note(error.render().ansi().to_string().trim_end());
            exit::wrong_input()
        }
        Err(help) => out::print(help.render().ansi().to_string().trim_end()),
    }
}

/// Runs a command; `variables` are those that its flags came from.
fn run(command: Command, variables: &environment::Variables) -> ExitCode {
    match command {
        Command::Serve(serve) => serve.run(variables),
        Command::Check(check) => check.run(),
        Command::Schema => schema::run(),
        Command::Demo(demo) => demo.run(),
        Command::Get(get) => get.run(),
        Command::Invalidate(invalidate) => invalidate.run(),
        Command::Inject(inject) => inject.run(),
        #[cfg(feature = "webhook")]
        Command::Webhook(webhook) => webhook.run(variables),
        #[cfg(not(feature = "webhook"))]
        Command::Webhook(_) => absent::run("webhook"),
        Command::Doctor(doctor) => doctor.run(),
        Command::Status(status) => status.run(),
        Command::Tail(tail) => tail.run(),
        Command::Log(log) => log.run(),
        Command::Completions(completions) => completions.run(),
    }
}

/// The parser itself, for completions and for the names of the variables.
fn command() -> clap::Command {
    table_flags::complete(Bfb::command())
}

/// How long a process that is done waits for threads that are blocked.
const BLOCKED_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// A runtime for a command that does one thing.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Runs `command` on a runtime, or says why there is none.
fn block_on(command: impl Future<Output = ExitCode>) -> ExitCode {
    match runtime() {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            // A thread may still be blocked (by a DNS look-up, say); its result is of no use.
            runtime.shutdown_timeout(BLOCKED_MAX);
            code
        }
        Err(error) => {
            out::error(format!("no runtime: {error}"));
            exit::unavailable()
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_arguments_are_consistent() {
        super::command().debug_assert();
    }
}
