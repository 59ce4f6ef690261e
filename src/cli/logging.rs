//! Where the process's log goes: standard error, as text for people or JSON for machines.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use crate::log_filter;
use crate::settings::LogFormat;

/// Starts the log, or says what is wrong with `filter`. The handle changes the level later.
pub(super) fn start(
    filter: &str,
    format: LogFormat,
) -> Result<Handle<EnvFilter, Registry>, String> {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(parse(filter)?);
    let base = tracing_subscriber::registry().with(filter);
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr())
        && std::env::var_os("NO_COLOR").is_none();
    let started = match format {
        LogFormat::Text => {
            base.with(fmt::layer().with_writer(std::io::stderr).with_ansi(color)).try_init()
        }
        LogFormat::Json => base
            .with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr))
            .try_init(),
    };
    started.map(|()| handle).map_err(|error| error.to_string())
}

/// Whether `filter` is one.
pub(super) fn check(filter: &str) -> Result<(), String> {
    parse(filter).map(|_| ())
}

/// Sets the level of a started log.
pub(super) fn apply(handle: &Handle<EnvFilter, Registry>, filter: &str) {
    if let Ok(parsed) = parse(filter) {
        let _ = handle.reload(parsed);
        tracing::info!(filter, "the log level has changed");
    }
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    log_filter::parse(filter).map_err(|error| error.to_string())
}
