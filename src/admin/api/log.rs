//! `GET /log` and `PUT /log`.

use serde::{Deserialize, Serialize};

/// What `PUT /log` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogChange {
    /// A level (`debug`) or a filter as `--log` takes it (`info,bfb::sources=trace`).
    pub level: String,
    /// How long it holds (`1m`); without it, until the next change.
    #[serde(default)]
    pub r#for: Option<String>,
}

/// The level that holds, as `GET /log` tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CurrentLogLevel {
    /// The level or the filter.
    pub level: String,
    /// For how much longer it holds; absent if until the next change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}
