//! The events of `GET /events`, each one line of JSON. Keys and tags are personal data: they are
//! absent unless the query asks for them.

use serde::{Deserialize, Serialize};

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdminEvent {
    /// The time of the event (RFC 3339).
    #[serde(default)]
    pub at: Option<String>,
    /// The domain of the event; absent if the event is not of one domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The kind of the event; `None` if this release does not know it.
    #[serde(flatten)]
    pub kind: Option<EventKind>,
}

impl AdminEvent {
    /// Reads the JSON of an event. An event that this release does not know, or whose members have
    /// other types, has no `kind`.
    pub fn from_data(data: &str) -> Self {
        let unknown = Self { at: None, domain: None, kind: None };
        serde_json::from_str(data).unwrap_or(unknown)
    }
}

/// The kinds of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// The first event of a stream.
    Listening(ListeningReport),
    /// An invalidation was applied.
    Invalidated(AppliedInvalidation),
    /// A hint was written to the log as an invalidation.
    Hinted,
    /// The memory was emptied.
    Emptied {
        /// `epoch`, `stream-end`, or of older releases `owner`.
        #[serde(default)]
        because: String,
    },
    /// The sidecar acquired the lease.
    LeaseHeld,
    /// The sidecar lost the lease.
    LeaseLost,
    /// The connection to Redis is up.
    RedisConnected,
    /// The connection to Redis is lost.
    RedisDisconnected {
        /// The fault.
        #[serde(default)]
        because: String,
    },
    /// A dataset was collected and stored.
    Filled(CollectionReport),
    /// A dataset was collected and not stored.
    NotKept(CollectionReport),
    /// A dataset was found in Redis.
    Found(CollectionReport),
    /// A collection failed.
    Failed(FailedCollection),
    /// The changed domain files took effect.
    Reloaded,
    /// The changed domain files were refused.
    ReloadRefused {
        /// The problems of the files.
        #[serde(default)]
        problems: Vec<String>,
    },
    /// The listener was too slow and lost events.
    Missed {
        /// How many events it lost.
        #[serde(default)]
        count: Option<u64>,
    },
    /// The last event of a stream.
    Ends {
        /// The reason.
        #[serde(default)]
        because: String,
    },
}

/// The sidecar, and the state of its domains when the stream begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListeningReport {
    /// The domains.
    pub domains: Vec<ListeningDomain>,
    /// Whether the events of the stream hold keys and tags.
    pub keys: bool,
    /// The process id of the sidecar.
    pub pid: Option<u32>,
    /// Whether Redis is connected; `None` if the sidecar has no Redis.
    pub redis_connected: Option<bool>,
    /// The release of the sidecar.
    pub version: Option<String>,
}

/// The state of a domain when the stream begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListeningDomain {
    /// The domain.
    pub domain: Option<String>,
    /// Whether the lease is held.
    pub lease_held: bool,
    /// The `seq` of the last invalidation that was applied.
    pub seq: Option<u64>,
}

/// An invalidation that was applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppliedInvalidation {
    /// Whether it invalidates the whole domain.
    pub all: bool,
    /// The number of its keys.
    pub keys: usize,
    /// The names of its keys and tags; only if keys are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named: Option<NamedScopes>,
    /// Its `seq` in the log.
    pub seq: Option<u64>,
    /// The number of its tags.
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

/// The result of a collection, or of a lookup in Redis.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CollectionReport {
    /// Why the dataset was not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The dataset's size.
    pub bytes: u64,
    /// The dataset's id; `None` if there is no such dataset.
    pub dataset: Option<String>,
    /// The tier that held the dataset.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub found_in: Option<String>,
    /// The key; only if keys are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The rounds of the collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u32>,
    /// How long it took, rounded to a tenth of a millisecond.
    pub took_ms: Option<f64>,
}

/// The failure of a collection.
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
    /// The bound of the sidecar that was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overloaded: Option<String>,
    /// How long it took, rounded to a tenth of a millisecond.
    pub took_ms: Option<f64>,
}

/// A source that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceFailure {
    /// The failure in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The reason's name.
    pub reason: String,
    /// The source.
    pub source: String,
}
