//! `bfb doctor PATH…`: asks every upstream, and the fleet's Redis, for real, and says what is wrong
//! or will be.
//!
//! Connections are looked at by handshakes alone; requests (with `--key`) go out only over those
//! proven mutual. What was answered is weighed, never printed. Whatever is found is in the report;
//! the exit code says whether any of it is an error.

mod answer;
mod connection;
mod examine;
mod finding;
mod judge;
mod own;
mod redis;
mod report;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::args::{self, Fleet, Format, Upstreams};
use super::{check, exit, out, serve};
use crate::identity;
use crate::sidecar::{self, Reading};
use crate::sources::Tape;
use examine::Asker;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Domain files, or folders of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// A key to ask each source for; without it only connections are looked at
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// How the report is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// How long a connection, and each answer, may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = args::time)]
    timeout: Duration,
    #[command(flatten)]
    upstreams: Upstreams,
    #[command(flatten)]
    fleet: Fleet,
}

impl Doctor {
    pub(super) fn run(self) -> ExitCode {
        let paths = self.upstreams.identity();
        // A recording stands in for no identity here, since every source is asked for real.
        let reading = Reading { no_identity: paths.is_none(), ..self.upstreams.reading() };
        let loaded = sidecar::read_domains(&self.paths, reading);
        if !loaded.problems().is_empty() {
            check::report(loaded.problems());
            return exit::wrong_input();
        }
        let domains = loaded.domains();
        if self
            .key
            .as_ref()
            .is_some_and(|key| !domains.values().any(|domain| domain.key.matches(key)))
        {
            out::error(
                "`--key` is no key of any of the domains; \
                 expected one that matches a domain's `key`",
            );
            return exit::wrong_input();
        }
        if !matches!(self.upstreams.tape(), Tape::Off) {
            out::note(
                "warning: `--record` and `--replay` are ignored: \
                 every source is asked for real",
            );
        }
        let identity = match sidecar::load_identity(paths.as_ref()) {
            Ok(identity) => identity,
            Err(error) => return serve::refuse(&error),
        };
        let watched = identity.clone().map(watch::Sender::new);
        let tls = self.upstreams.tls();
        let mut registry = Registry::default();
        let metrics = identity::Metrics::default();
        let shared = sidecar::shared(tls, &Tape::Off, watched.as_ref(), metrics, &mut registry);
        let asker =
            Asker { identity, tls, timeout: self.timeout, shared, redis: self.fleet.settings() };
        super::block_on(async {
            let report = examine::all(domains, &asker, self.key.as_deref()).await;
            let said = match self.format {
                Format::Json => {
                    out::say_json(serde_json::to_string_pretty(&report).unwrap_or_default())
                }
                Format::Text => out::say(table::draw(&report, table::width()).trim_end()),
            };
            if report.ok { said } else { exit::FAILED }
        })
    }
}
