//! The answer of `GET /datasets/{domain}/{key}`. No command reads it, so these types are only
//! written. The data and the names of the tags are personal data: both are absent unless the query
//! asks for them.

use serde::Serialize;
use serde_json::value::RawValue;

/// A dataset in each tier.
#[derive(Debug, Serialize)]
pub struct DatasetStatus {
    /// The domain.
    pub domain: String,
    /// The plan in force.
    pub plan: String,
    /// The entry in memory.
    pub memory: Option<TierStatus>,
    /// The entry in Redis.
    #[serde(skip_serializing_if = "RedisTierStatus::is_absent")]
    pub redis: RedisTierStatus,
    /// Always `None`: this release has no store.
    pub store: Option<TierStatus>,
    /// The token of the last invalidation that this sidecar has applied.
    pub applied: Option<String>,
    /// Whether this sidecar holds the domain's lease.
    pub lease_held: bool,
}

/// The tier in Redis; the member is absent if there is no Redis.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum RedisTierStatus {
    /// The sidecar has no Redis.
    Absent,
    /// The entry in Redis, if there is one.
    Present(Option<TierStatus>),
}

impl RedisTierStatus {
    const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// The state of one tier for the key.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum TierStatus {
    /// An entry that this sidecar can read.
    Entry(Box<EntryStatus>),
    /// An entry that this sidecar cannot read.
    Unreadable(UnreadableStatus),
    /// The tier could not be read.
    Trouble {
        /// The fault.
        trouble: String,
    },
}

/// An entry in Redis that this sidecar cannot read, such as one that is sealed with another key.
#[derive(Debug, Serialize)]
pub struct UnreadableStatus {
    /// The size of the entry in Redis.
    pub bytes: usize,
    /// The entry's fence, as a token.
    pub fence: String,
    /// Always false.
    pub readable: bool,
    /// The `seq` of the fence.
    pub seq: u64,
    /// For how much longer Redis stores the entry.
    pub ttl_seconds: u64,
}

/// An entry in a tier: a dataset, or the result that there is no such dataset.
#[derive(Debug, Serialize)]
pub struct EntryStatus {
    /// The age of the entry.
    pub age_seconds: u64,
    /// Whether the entry is valid: only then it is served.
    pub believed: bool,
    /// The size of the entry.
    pub bytes: usize,
    /// The dataset's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The entry's fence, as a token.
    pub fence: Option<String>,
    /// Whether the sources answered that there is no such dataset.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub not_found: bool,
    /// The parts of the dataset, in the order of the domain's sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<DatasetPart>>,
    /// True for an entry in Redis; absent for one in memory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub readable: bool,
    /// The rounds of the collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u32>,
    /// The `seq` of the fence.
    pub seq: Option<u64>,
    /// The tags of the dataset.
    pub tags: DatasetTags,
    /// For how much longer the entry is fresh; negative once it is stale.
    pub ttl_seconds: i64,
    /// The data, only if personal data is asked for. Its JSON is not parsed, so that numbers keep
    /// their notation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

/// The tags of a dataset, which are personal data.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum DatasetTags {
    /// Their number.
    Count(usize),
    /// Their names, if personal data is asked for.
    Names(Vec<String>),
}

/// A source's part of a dataset.
#[derive(Debug, Serialize)]
pub struct DatasetPart {
    /// The size of the part.
    pub bytes: usize,
    /// The `ETag`, which identifies a state of the part and is no personal data.
    pub etag: Option<String>,
    /// The source.
    pub source: String,
    /// The kind of the validator: `strong`, `weak` or `none`.
    pub validator: &'static str,
}
