//! `GET /datasets/{domain}/{key}`. No command reads it: these types are only written.

use serde::Serialize;
use serde_json::value::RawValue;

/// Where a dataset lives.
#[derive(Debug, Serialize)]
pub struct DatasetStatus {
    /// The domain.
    pub domain: String,
    /// The plan that is in force.
    pub plan: String,
    /// What the memory holds.
    pub memory: Option<TierStatus>,
    /// What Redis holds.
    #[serde(skip_serializing_if = "RedisTierStatus::is_absent")]
    pub redis: RedisTierStatus,
    /// There is no store in this release.
    pub store: Option<TierStatus>,
    /// The last invalidation that this sidecar has applied.
    pub applied: Option<String>,
    /// Whether this sidecar holds its lease.
    pub lease_held: bool,
}

/// What Redis holds, where there is one.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum RedisTierStatus {
    /// A fleet of one.
    Absent,
    /// What it holds, if anything.
    Present(Option<TierStatus>),
}

impl RedisTierStatus {
    const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// What one tier holds.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum TierStatus {
    /// A dataset, or that there is none.
    Entry(Box<EntryStatus>),
    /// Something that this sidecar cannot read.
    Unreadable(UnreadableStatus),
    /// The tier could not be asked.
    Trouble {
        /// Why.
        trouble: String,
    },
}

/// What is known of something in Redis that this sidecar cannot read.
#[derive(Debug, Serialize)]
pub struct UnreadableStatus {
    /// Its size in Redis.
    pub bytes: usize,
    /// The invalidation that it was read after.
    pub fence: String,
    /// False.
    pub readable: bool,
    /// The place of that invalidation in the log.
    pub seq: u64,
    /// For how much longer Redis holds it.
    pub ttl_seconds: u64,
}

/// A dataset in a tier, or that there is none.
#[derive(Debug, Serialize)]
pub struct EntryStatus {
    /// How old it is.
    pub age_seconds: u64,
    /// Whether it would be served.
    pub believed: bool,
    /// Its size.
    pub bytes: usize,
    /// The dataset's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The invalidation that it was read after.
    pub fence: Option<String>,
    /// True where the sources said that there is no such dataset.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub not_found: bool,
    /// What it consists of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<DatasetPart>>,
    /// True in Redis; absent in memory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub readable: bool,
    /// Rounds of questions that it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u32>,
    /// The place of the fence in the log.
    pub seq: Option<u64>,
    /// How many tags it carries, or which.
    pub tags: DatasetTags,
    /// For how much longer it is fresh; negative where it is no more.
    pub ttl_seconds: i64,
    /// The data, as it came: numbers stay as they are written. Only on demand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

/// The tags of a dataset are personal data.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum DatasetTags {
    /// How many there are.
    Count(usize),
    /// Which, if personal data is asked for.
    Names(Vec<String>),
}

/// A source's part of a dataset.
#[derive(Debug, Serialize)]
pub struct DatasetPart {
    /// Its size.
    pub bytes: usize,
    /// Its `ETag`, which names a state, not the data.
    pub etag: Option<String>,
    /// The source.
    pub source: String,
    /// `strong`, `weak` or `none`.
    pub validator: &'static str,
}
