//! `bfb serve`: flags in, a running sidecar, an exit code.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::args::{self, AdminArgs, FleetArgs, ListenArgs, UpstreamArgs};
use super::environment::{self, Variables};
use super::logging;
use super::{check, exit, out};
use crate::admin::LogLevel;
use crate::http::{AllowedHosts, PortLimits};
use crate::serve::{ConsumersConfig, KeyLogPolicy, Spans, TelemetryConfig};
use crate::settings::{CacheControlPolicy, DrainTime, LogFilter, LogFormat, SocketMode};
use crate::sidecar::{DomainsConfig, HttpConfig, Sidecar, SidecarConfig, SidecarStartError};
use crate::sources::{RecordingError, SourcesConfig};
use crate::supervisor::Control;

#[derive(Debug, Args)]
pub(super) struct ServeCommand {
    /// Domain files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    admin: AdminArgs,
    #[arg(long)]
    socket_mode: SocketMode,
    #[arg(long)]
    probes: Option<SocketAddr>,
    #[arg(long)]
    allow_remote: bool,
    #[arg(long, value_delimiter = ',')]
    allow_host: Vec<String>,

    #[command(flatten)]
    upstreams: UpstreamArgs,

    #[command(flatten)]
    caching: args::CachingArgs,
    #[command(flatten)]
    fleet: FleetArgs,
    #[arg(long, value_enum)]
    request_cache_control: CacheControlPolicy,

    #[arg(long)]
    drain: DrainTime,
    #[arg(long)]
    log: LogFilter,
    #[arg(long, value_enum)]
    log_format: LogFormat,
    #[arg(long)]
    log_keys: bool,
    #[arg(long)]
    trace_key: Option<String>,
    #[arg(long)]
    explain: bool,
}

/// The most requests under way at once.
const REQUESTS_MAX: usize = 4096;

/// The usual bounds of each of so many ports; fewer connections where the process may not open
/// enough files for those of all ports, and as many again for the upstreams.
pub(super) fn port_limits(ports: usize) -> PortLimits {
    let defaults = PortLimits::default();
    let files = std::fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|limits| soft_files_limit(&limits));
    let of_files = files.map_or(defaults.connections_max, |files| files / 2 / ports);
    PortLimits { connections_max: defaults.connections_max.min(of_files).max(16), ..defaults }
}

/// The soft limit in the table of proc(5): `Max open files  1024  524288  files`.
fn soft_files_limit(limits: &str) -> Option<usize> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

impl ServeCommand {
    pub(super) fn run(self, variables: &Variables) -> ExitCode {
        let handle = match logging::start(self.log.as_str(), self.log_format) {
            Ok(handle) => handle,
            Err(error) => {
                out::error(error);
                return exit::wrong_input();
            }
        };
        environment::warn_of_unknown_variables();
        let level = LogLevel::new(self.log.as_str(), logging::check);
        let config = match self.config() {
            Ok(config) => config,
            Err(error) => {
                out::error(variables.name_in(&error));
                return exit::wrong_input();
            }
        };
        let apply = move |filter: &str| logging::apply(&handle, filter);
        super::block_on(async move {
            // Before the ports are open, so that no signal is lost.
            let control = match Control::by_signals_with_reload() {
                Ok(control) => control,
                Err(error) => {
                    out::error(format!("signals cannot be caught: {error}"));
                    return exit::unavailable();
                }
            };
            match Sidecar::start(config, level).await {
                Ok(sidecar) => run_sidecar(sidecar, control, apply).await,
                Err(error) => report_start_error_naming(&error, variables),
            }
        })
    }

    fn config(self) -> Result<SidecarConfig, String> {
        let (listen, ipv6_optional) = self.listen.addresses();
        // The admin port is one more, and so are the probes.
        let ports = listen.len() + 1 + usize::from(self.probes.is_some());
        let domain_files = self.upstreams.domain_file_options();
        let cache = self.caching.to_config(self.fleet.bus_loss);
        Ok(SidecarConfig {
            domains: DomainsConfig { paths: self.paths, options: domain_files },
            identity: self.upstreams.identity(),
            sources: SourcesConfig { recording: self.upstreams.recording() },
            cache: cache.map_err(|error| error.to_string())?,
            bus: self.fleet.bus_config(),
            http: HttpConfig {
                listen,
                ipv6_optional,
                socket_mode: self.socket_mode,
                admin: self.admin.admin,
                probes: self.probes,
                allow_remote: self.allow_remote,
                limits: port_limits(ports),
            },
            consumers: ConsumersConfig {
                hosts: AllowedHosts::new(&self.allow_host),
                explain: self.explain,
                honour_cache_control: self.request_cache_control == CacheControlPolicy::Honour,
                requests_max: REQUESTS_MAX,
            },
            telemetry: TelemetryConfig {
                key_log: KeyLogPolicy { all: self.log_keys, traced_key: self.trace_key },
                spans: Spans::from_environment().map_err(|error| error.to_string())?,
            },
            drain: self.drain.duration(),
        })
    }
}

async fn run_sidecar(
    sidecar: Sidecar,
    control: Control,
    apply: impl Fn(&str) + Send + 'static,
) -> ExitCode {
    if let (Ok(pod), Ok(namespace)) = (std::env::var("POD_NAME"), std::env::var("POD_NAMESPACE")) {
        tracing::info!(pod, namespace, "in a pod of Kubernetes");
    }
    for address in sidecar.addresses() {
        tracing::info!(%address, "answering consumers");
    }
    tracing::info!(address = %sidecar.admin_address(), "admin port");
    if let Some(address) = sidecar.probes_address() {
        tracing::info!(%address, "probes and metrics");
    }
    match sidecar.run(control, apply).await {
        Ok(()) => exit::OK,
        Err(error) => {
            tracing::error!(%error, "stopped");
            exit::FAILED
        }
    }
}

/// Writes why a sidecar did not start; returns the exit code.
pub(super) fn report_start_error(error: &SidecarStartError) -> ExitCode {
    report_start_error_naming(error, &Variables::default())
}

/// The same, where flags came from variables.
fn report_start_error_naming(error: &SidecarStartError, variables: &Variables) -> ExitCode {
    match error {
        SidecarStartError::Domain(loaded) => check::report_problems(loaded.problems()),
        other => out::error(variables.name_in(other)),
    }
    match error {
        SidecarStartError::Domain(_)
        | SidecarStartError::Recording(RecordingError::ReadableByOthers { .. })
        | SidecarStartError::RemoteAddress { .. } => exit::wrong_input(),
        SidecarStartError::Identity(wrong) => exit::of_file(wrong.error.is_missing),
        SidecarStartError::Seal(wrong) => exit::of_file(wrong.error.is_missing),
        // It is there, and is no folder.
        SidecarStartError::Recording(RecordingError::Folder { source, .. }) => exit::of_file(
            !matches!(source.kind(), ErrorKind::NotADirectory | ErrorKind::AlreadyExists),
        ),
        SidecarStartError::RedisFile(_) | SidecarStartError::Bind(_) => exit::unavailable(),
        SidecarStartError::Shape(_) => exit::FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_open_files_is_read_from_its_line() {
        let table = "Max processes  95  95  processes\nMax open files            \
                     1024                 524288        files\n";
        assert_eq!(soft_files_limit(table), Some(1024));
        assert_eq!(soft_files_limit("Max open files  unlimited unlimited files"), None);
        assert!(port_limits(4).connections_max >= 16);
    }
}
