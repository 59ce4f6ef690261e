//! `GET /events`: one line of JSON an event.

use serde::{Deserialize, Serialize};

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdminEvent {
    /// When it happened (RFC 3339).
    #[serde(default)]
    pub at: Option<String>,
    /// The domain that it befell; absent where it befell the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// What happened; `None` where the reader's release does not know it.
    #[serde(flatten)]
    pub kind: Option<EventKind>,
}

impl AdminEvent {
    /// Reads an event. One that this release does not know, or whose members have other types, has
    /// no `kind`.
    pub fn from_data(data: &str) -> Self {
        let unknown = Self { at: None, domain: None, kind: None };
        serde_json::from_str(data).unwrap_or(unknown)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// The first event of a stream.
    Listening(ListeningReport),
    /// An invalidation was applied.
    Invalidated(AppliedInvalidation),
    /// A hint is in the log now.
    Hinted,
    /// The memory was emptied.
    Emptied {
        /// `epoch`, `stream-end` or `owner`.
        #[serde(default)]
        because: String,
    },
    /// The lease is held.
    LeaseHeld,
    /// The lease is not held any more.
    LeaseLost,
    /// Redis is heard.
    RedisConnected,
    /// Redis is not heard any more.
    RedisDisconnected {
        /// The fault.
        #[serde(default)]
        because: String,
    },
    /// The sources gave a dataset, and it was kept.
    Filled(CollectionReport),
    /// The sources gave a dataset, and it was not kept.
    NotKept(CollectionReport),
    /// Redis had a dataset.
    Found(CollectionReport),
    /// A collection failed.
    Failed(FailedCollection),
    /// The changed domain files are in force.
    Reloaded,
    /// The changed domain files are not in force.
    ReloadRefused {
        /// What is wrong with them.
        #[serde(default)]
        problems: Vec<String>,
    },
    /// The listener was too slow.
    Missed {
        /// How many events it missed.
        #[serde(default)]
        count: Option<u64>,
    },
    /// The last event of a stream.
    Ends {
        /// Why.
        #[serde(default)]
        because: String,
    },
}

/// Who speaks, and how things stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListeningReport {
    /// The domains.
    pub domains: Vec<ListeningDomain>,
    /// Whether the stream names keys and tags.
    pub keys: bool,
    /// The sidecar's process.
    pub pid: Option<u32>,
    /// Whether Redis is heard; `None` in a fleet of one.
    pub redis_connected: Option<bool>,
    /// The sidecar's release.
    pub version: Option<String>,
}

/// How things stand with a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListeningDomain {
    /// The domain.
    pub domain: Option<String>,
    /// Whether the lease is held.
    pub lease_held: bool,
    /// The last invalidation that was applied.
    pub seq: Option<u64>,
}

/// An invalidation that was applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppliedInvalidation {
    /// Whether it is of the whole domain.
    pub all: bool,
    /// How many keys.
    pub keys: usize,
    /// Which; only if keys are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named: Option<NamedScopes>,
    /// Its place in the log.
    pub seq: Option<u64>,
    /// How many tags.
    pub tags: usize,
}

/// Keys and tags by name, the first hundred of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamedScopes {
    /// The keys.
    pub keys: Vec<String>,
    /// The tags.
    pub tags: Vec<String>,
}

/// What a collection brought.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CollectionReport {
    /// Why it was not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The dataset's size.
    pub bytes: u64,
    /// The dataset's id; `None` where there is no such dataset.
    pub dataset: Option<String>,
    /// The tier that had it.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub found_in: Option<String>,
    /// The key; only if keys are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Rounds of questions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u32>,
    /// How long it took, with one digit after the point.
    pub took_ms: Option<f64>,
}

/// Why a collection brought nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailedCollection {
    /// Whether the deadline passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_passed: Option<bool>,
    /// The sources that failed.
    pub failed: Vec<SourceFailure>,
    /// The key; only if keys are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What the sidecar had no room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overloaded: Option<String>,
    /// How long it took, with one digit after the point.
    pub took_ms: Option<f64>,
}

/// A source that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceFailure {
    /// More about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The reason's name.
    pub reason: String,
    /// The source.
    pub source: String,
}
