//! `POST /invalidate`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What is asked: exactly one of `keys`, `tags` and `all`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvalidateRequest {
    /// The domain.
    pub domain: String,
    /// The keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Arc<str>>,
    /// Every dataset that carries one of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Arc<str>>,
    /// Every dataset of the domain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Whether the caller waits for the fleet.
    #[serde(default)]
    pub wait: WaitMode,
    /// How long to wait for the fleet: `"2s"`, or seconds as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<WaitLimit>,
}

/// A time, as text or as a number of seconds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WaitLimit {
    /// `"2s"`.
    Text(String),
    /// `2.5`.
    Seconds(f64),
}

/// What a caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitMode {
    /// Until the fleet has acknowledged the invalidation.
    Fleet,
    /// Not at all.
    #[default]
    None,
}

/// What an invalidation came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InvalidateResponse {
    /// The invalidation's token.
    pub token: String,
    /// Its place in the log.
    pub seq: u64,
    /// Whether the fleet has acknowledged it.
    pub acknowledged: bool,
    /// How many sidecars the fleet has.
    pub sidecars: u64,
    /// Those that a lease was waited for.
    pub silent: Vec<String>,
    /// From the request to its answer: all that the caller waited, for the log and for the fleet.
    pub took_ms: Option<u64>,
}
