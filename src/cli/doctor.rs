//! `bfb doctor PATH…`: asks every upstream, and the fleet's Redis, for real, and says what is wrong
//! or will be.
//!
//! Connections are looked at by handshakes alone; requests (with `--key`) go out only over those
//! proven mutual. The answers are judged, never printed. All findings are in the report; the exit
//! code says whether any of it is an error.
//!
//! `probe` sends the requests and returns the results; `findings` judges them; `report` holds both;
//! `render` writes the report as a table or as JSON. Each knows only those before it.

mod findings;
mod probe;
mod render;
mod report;
mod units;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use prometheus_client::registry::Registry;

use super::args::{FleetArgs, OutputFormat, UpstreamArgs};
use super::{check, exit, out, serve};
use crate::settings::parse_time;
use crate::sidecar::{self, DomainFileOptions};
use crate::sources::{Recording, SourcesConfig};
use probe::DoctorContext;
use report::DoctorReport;

#[derive(Debug, Args)]
pub(super) struct DoctorCommand {
    /// Domain files, or folders of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// A key to ask each source for; without it only connections are looked at
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// How the report is printed
    #[arg(long, value_enum, default_value = "text")]
    format: OutputFormat,
    /// How long a connection, and each answer, may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    timeout: Duration,
    #[command(flatten)]
    upstreams: UpstreamArgs,
    #[command(flatten)]
    fleet: FleetArgs,
}

impl DoctorCommand {
    pub(super) fn run(self) -> ExitCode {
        let identity = self.upstreams.identity();
        // A recording stands in for no identity here, since every source is asked for real.
        let reading = DomainFileOptions {
            no_identity: identity.paths.is_none(),
            ..self.upstreams.domain_file_options()
        };
        let loaded = sidecar::read_domains(&self.paths, reading);
        if !loaded.problems().is_empty() {
            check::report_problems(loaded.problems());
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
        if !matches!(self.upstreams.recording(), Recording::Off) {
            out::note(
                "warning: `--record` and `--replay` are ignored: \
                 every source is asked for real",
            );
        }
        let mut registry = Registry::default();
        let identity = match identity.build(&mut registry) {
            Ok(identity) => identity,
            Err(error) => return serve::report_start_error(&error.into()),
        };
        let shared_sources = match SourcesConfig::default().build(&identity, &mut registry) {
            Ok(sources) => sources,
            Err(error) => return serve::report_start_error(&error.into()),
        };
        let context = DoctorContext {
            identity: identity.subscribe().map(|identity| identity.borrow().clone()),
            tls: identity.tls,
            timeout: self.timeout,
            shared: shared_sources,
            redis: self.fleet.bus_config(),
        };
        super::block_on(async {
            let probe = probe::probe_all(domains, &context, self.key.as_deref()).await;
            let report = DoctorReport::of(&probe, &context, SystemTime::now());
            let exit_code = match self.format {
                OutputFormat::Json => out::print_json(render::json(&report)),
                OutputFormat::Text => out::print(render::text(&report, render::width()).trim_end()),
            };
            if report.ok { exit_code } else { exit::FAILED }
        })
    }
}
