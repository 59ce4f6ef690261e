//! `GET /status`.

use serde::{Deserialize, Serialize};

use super::CurrentLogLevel;

/// The sidecar's state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// How reads were answered.
    pub cache: Option<CacheCounts>,
    /// The domains.
    pub domains: Vec<DomainStatus>,
    /// The fleet.
    pub fleet: FleetStatus,
    /// Who the sidecar is.
    pub identity: Option<IdentityStatus>,
    /// Requests of consumers that are under way.
    pub in_flight: Option<usize>,
    /// The log's level.
    pub log: Option<CurrentLogLevel>,
    /// The memory.
    pub memory: Option<MemoryStatus>,
    /// `starting`, `ready` or `draining`.
    pub phase: Option<String>,
    /// The process.
    pub pid: Option<u32>,
    /// How the reloads of the domain files went.
    pub reloads: Option<ReloadStatus>,
    /// What an operator should look at, in words.
    pub trouble: Vec<String>,
    /// What the cache has shown of itself (`--verify`).
    pub verify: Option<VerifyStatus>,
    /// The release.
    pub version: Option<String>,
}

/// How reads were answered since the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheCounts {
    /// Misses that joined a flight.
    pub collapsed: Option<u64>,
    /// Entries that were evicted.
    pub evicted: Option<u64>,
    /// Collections that were not kept because of an invalidation.
    pub fenced: Option<u64>,
    /// The share of the reads that were hits; `None` of no reads.
    pub hit_percent: Option<f64>,
    /// Reads that no tier had.
    pub misses: Option<u64>,
    /// All reads.
    pub reads: Option<u64>,
    /// Reads that were answered with a stale dataset.
    pub stale_served: Option<u64>,
    /// The tiers, in the order in which they are asked.
    pub tiers: Vec<CacheTierStatus>,
}

/// What a tier answered, and, of memory, what it holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheTierStatus {
    /// The size of what it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The most that it may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// How many datasets it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Reads that it answered.
    pub hits: Option<u64>,
    /// Their share of the reads; `None` of no reads.
    pub percent: Option<f64>,
    /// Its name.
    pub tier: Option<String>,
}

/// A domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DomainStatus {
    /// Its file.
    pub file: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Datasets that were served and not kept for want of their tags.
    pub not_kept: Vec<NotKeptStatus>,
    /// The plan that is in force.
    pub plan: Option<String>,
    /// Its sources.
    pub sources: Vec<SourceStatus>,
    /// Its versions, in the file's order.
    pub versions: Vec<VersionStatus>,
}

/// Datasets that were served and not kept for want of their tags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotKeptStatus {
    /// How many.
    pub datasets: u64,
    /// When it befell the last.
    pub last_seconds_ago: u64,
    /// The reason's name.
    pub reason: String,
    /// When it befell the first.
    pub since_seconds_ago: u64,
}

/// A source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceStatus {
    /// Its name.
    pub name: Option<String>,
    /// Where it is.
    pub origin: Option<String>,
    /// Who it has to be.
    pub server: Option<String>,
    /// How it does.
    pub state: SourceState,
}

/// How a source does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceState {
    /// The circuit breaker: `closed`, `open` or `half-open`.
    pub breaker: Option<String>,
    /// Failures since the last success.
    pub failed_in_a_row: Option<u64>,
    /// Requests that are under way.
    pub in_flight: Option<u64>,
    /// The last failure.
    pub last_failure: Option<LastFailure>,
}

/// The last failure of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastFailure {
    /// The reason's name.
    pub reason: Option<String>,
    /// When it was.
    pub seconds_ago: Option<u64>,
}

/// A version of a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VersionStatus {
    /// Since when it is deprecated.
    pub deprecated: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its path, with `{key}`.
    pub path: Option<String>,
    /// When it goes.
    pub sunset: Option<String>,
}

/// The fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FleetStatus {
    /// Whether it is a fleet of one.
    pub alone: bool,
    /// Whether Redis is heard.
    pub connected: bool,
    /// The domains.
    pub domains: Vec<FleetDomainStatus>,
    /// The last fault of Redis.
    pub trouble: Option<String>,
}

/// A domain in the fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FleetDomainStatus {
    /// The last invalidation that was applied.
    pub applied: Option<String>,
    /// The domain.
    pub domain: Option<String>,
    /// The log's epoch.
    pub epoch: Option<String>,
    /// Entries of the log that are not applied yet.
    pub lag: Option<u64>,
    /// Whether the lease is held.
    pub lease_held: bool,
    /// For how much longer.
    pub lease_left_ms: Option<u64>,
    /// This sidecar's name in the fleet.
    pub member: Option<String>,
    /// A protocol of the fleet that this release does not speak.
    pub newer_protocol: Option<u32>,
    /// The place of `applied` in the log.
    pub seq: Option<u64>,
}

/// Who the sidecar is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentityStatus {
    /// How often the certificate has changed.
    pub generation: Option<u64>,
    /// The names in the certificate.
    pub names: Option<String>,
    /// Until when it is valid.
    pub not_after: Option<String>,
}

/// The memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStatus {
    /// The size of the datasets.
    pub bytes: u64,
    /// The most that they may be.
    pub capacity: u64,
    /// How many datasets.
    pub entries: u64,
    /// What all work may take.
    pub limit_bytes: u64,
    /// What work has taken.
    pub reserved_bytes: u64,
}

/// How the reloads of the domain files went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadStatus {
    /// Reloads that took effect, the first load not counted.
    pub done: u64,
    /// Changes that were refused.
    pub failed: u64,
    /// The problems of the files as they are now; empty where all are in force.
    pub problems: Vec<String>,
}

/// The verdicts on samples of the hits (`--verify`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifyStatus {
    /// Samples that were judged.
    pub checked: u64,
    /// How many nines of consistency that shows.
    pub nines: Option<f64>,
    /// How old the oldest wrong answer was.
    pub oldest_wrong_seconds: f64,
    /// The share of the hits that is looked at.
    pub rate: f64,
    /// Samples that could not be judged.
    pub unknown: u64,
    /// Samples that were wrong answers.
    pub wrong: u64,
}
