//! The request and the answer of `POST /invalidate`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The request. It has exactly one of `keys`, `tags` and `all`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvalidateRequest {
    /// The domain.
    pub domain: String,
    /// The keys to invalidate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Arc<str>>,
    /// Invalidate every dataset that carries one of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Arc<str>>,
    /// Invalidate every dataset of the domain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Whether the caller waits for the fleet.
    #[serde(default)]
    pub wait: WaitMode,
    /// How long to wait for the fleet: `"2s"`, or seconds as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<WaitLimit>,
}

/// A time, as a text or as a number of seconds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WaitLimit {
    /// `"2s"`.
    Text(String),
    /// `2.5`.
    Seconds(f64),
}

/// Which acknowledgement the caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitMode {
    /// Until the fleet has acknowledged the invalidation.
    Fleet,
    /// The caller does not wait.
    #[default]
    None,
}

/// The answer: the invalidation in the log, and its acknowledgement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InvalidateResponse {
    /// The invalidation's token.
    pub token: String,
    /// Its `seq` in the log.
    pub seq: u64,
    /// Whether the fleet has acknowledged it.
    pub acknowledged: bool,
    /// How many sidecars were registered; 0 if the caller did not wait.
    pub sidecars: u64,
    /// The sidecars that did not report, and whose leases have passed.
    pub silent: Vec<String>,
    /// The time from the request to its answer, with the wait for the fleet.
    pub took_ms: Option<u64>,
}
