//! Where the process's log goes: standard error, as text for people or JSON for machines.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts the log, or says what is wrong with `filter`. The handle changes the level later.
pub(super) fn start(filter: &str, format: LogFormat) -> Result<Handle<EnvFilter, Registry>, String> {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(parse(filter)?);
    let base = tracing_subscriber::registry().with(filter);
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let started = match format {
        LogFormat::Text => base.with(fmt::layer().with_writer(std::io::stderr).with_ansi(color)).try_init(),
        LogFormat::Json => base.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init(),
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
    let expected = "expected a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or a filter such as \
        `info,bfb::sources=debug`";
    // A bare word that is no level would be taken for a module, and silence everything else.
    let is_level = |word: &str| !word.is_empty() && word.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let bare = filter.split(',').find(|word| !word.contains(['=', '[']) && !is_level(word));
    if let Some(word) = bare {
        return Err(format!("`{word}` is no level; {expected}"));
    }
    EnvFilter::builder().parse(filter).map_err(|error| format!("`{filter}` is no log filter: {error}; {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for fine in ["info", "DEBUG", "off", "info,bfb::sources=debug", "warn,bfb=trace"] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for wrong in ["loud", "inof", "info,bfb::sources", "", "bfb=loud"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
