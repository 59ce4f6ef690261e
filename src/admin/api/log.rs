//! The request of `PUT /log`, and the answer of `GET /log` and `PUT /log`.

use serde::{Deserialize, Serialize};

/// A change of the log level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogChange {
    /// A level (`debug`) or a filter as `--log` takes it (`info,bfb::sources=trace`).
    pub level: String,
    /// How long the change holds (`1m`); if absent, until the next change.
    #[serde(default)]
    pub r#for: Option<String>,
}

/// The current log level.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CurrentLogLevel {
    /// The level or the filter.
    pub level: String,
    /// After how many seconds the default level is restored; absent if the level does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}
