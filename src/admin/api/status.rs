//! The answer of `GET /status`. It holds no personal data.

use serde::{Deserialize, Serialize};

use super::CurrentLogLevel;

/// The state of the sidecar.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The counters of the cache.
    pub cache: Option<CacheCounts>,
    /// The domains.
    pub domains: Vec<DomainStatus>,
    /// The sidecar's view of its fleet.
    pub fleet: FleetStatus,
    /// The sidecar's identity.
    pub identity: Option<IdentityStatus>,
    /// Requests of consumers in flight.
    pub in_flight: Option<usize>,
    /// The log level.
    pub log: Option<CurrentLogLevel>,
    /// The memory tier, and the account of all work.
    pub memory: Option<MemoryStatus>,
    /// The phase of the process: `starting`, `ready` or `draining`.
    pub phase: Option<String>,
    /// The process id.
    pub pid: Option<u32>,
    /// The reloads of the domain files.
    pub reloads: Option<ReloadStatus>,
    /// The troubles of the sidecar, each as a sentence for the operator.
    pub trouble: Vec<String>,
    /// The verification of samples of the hits (`--verify`).
    pub verify: Option<VerifyStatus>,
    /// The release of the sidecar.
    pub version: Option<String>,
}

/// The counters of the cache since the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheCounts {
    /// Misses that joined a flight.
    pub collapsed: Option<u64>,
    /// Entries that were evicted.
    pub evicted: Option<u64>,
    /// Collections that were not stored because of an invalidation during the flight.
    pub fenced: Option<u64>,
    /// The share of the reads that were hits; `None` if there were no reads.
    pub hit_percent: Option<f64>,
    /// Reads for which no tier had an entry.
    pub misses: Option<u64>,
    /// All reads.
    pub reads: Option<u64>,
    /// Reads that were answered with a stale dataset.
    pub stale_served: Option<u64>,
    /// The tiers, in the order in which a read looks them up.
    pub tiers: Vec<CacheTierStatus>,
}

/// The hits of a tier, and the entries of the memory tier.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheTierStatus {
    /// The size of its entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The bound of that size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// The number of its entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Reads that the tier answered.
    pub hits: Option<u64>,
    /// Their share of the reads; `None` if there were no reads.
    pub percent: Option<f64>,
    /// Its name.
    pub tier: Option<String>,
}

/// A domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DomainStatus {
    /// The path of its file.
    pub file: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Datasets that were served and not stored because of their tags.
    pub not_kept: Vec<NotKeptStatus>,
    /// The plan in force.
    pub plan: Option<String>,
    /// Its sources.
    pub sources: Vec<SourceStatus>,
    /// Its versions, in the file's order.
    pub versions: Vec<VersionStatus>,
}

/// Datasets that were served and not stored because of their tags, for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotKeptStatus {
    /// Their number.
    pub datasets: u64,
    /// How long ago the last was served.
    pub last_seconds_ago: u64,
    /// The reason's name.
    pub reason: String,
    /// How long ago the first was served.
    pub since_seconds_ago: u64,
}

/// A source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceStatus {
    /// How far its connection is proven: `proven`, `unproven` or `no`.
    pub mutual: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// The origin of its URL, or its database, without credentials.
    pub origin: Option<String>,
    /// The identity that its server must prove.
    pub server: Option<String>,
    /// Its breaker and its requests.
    pub state: SourceState,
}

/// The state of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceState {
    /// The circuit breaker: `closed`, `open` or `half-open`.
    pub breaker: Option<String>,
    /// Failures since the last success.
    pub failed_in_a_row: Option<u64>,
    /// Requests in flight.
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
    /// How long ago it was.
    pub seconds_ago: Option<u64>,
}

/// A version of a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VersionStatus {
    /// The date from which it is deprecated.
    pub deprecated: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its path, with `{key}`.
    pub path: Option<String>,
    /// The date on which it ends.
    pub sunset: Option<String>,
}

/// The sidecar's view of its fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FleetStatus {
    /// Whether the sidecar has no Redis.
    pub alone: bool,
    /// Whether Redis is connected.
    pub connected: bool,
    /// The domains.
    pub domains: Vec<FleetDomainStatus>,
    /// The last fault of Redis.
    pub trouble: Option<String>,
}

/// The log and the lease of a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FleetDomainStatus {
    /// The token of the last invalidation that was applied.
    pub applied: Option<String>,
    /// The domain.
    pub domain: Option<String>,
    /// The log's epoch.
    pub epoch: Option<String>,
    /// Entries of the log that are known and not applied yet.
    pub lag: Option<u64>,
    /// Whether the lease is held.
    pub lease_held: bool,
    /// For how much longer the lease is held.
    pub lease_left_ms: Option<u64>,
    /// This sidecar's name in the fleet.
    pub member: Option<String>,
    /// A protocol version in the log that is newer than this release.
    pub newer_protocol: Option<u32>,
    /// The `seq` of `applied`.
    pub seq: Option<u64>,
}

/// The sidecar's certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentityStatus {
    /// How often the certificate has changed.
    pub generation: Option<u64>,
    /// The names in the certificate.
    pub names: Option<String>,
    /// The end of its validity.
    pub not_after: Option<String>,
}

/// The memory tier, and the account of all work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStatus {
    /// The size of the entries in memory.
    pub bytes: u64,
    /// The bound of that size.
    pub capacity: u64,
    /// The number of entries in memory.
    pub entries: u64,
    /// The bound of the memory that all work may reserve.
    pub limit_bytes: u64,
    /// The memory that is reserved.
    pub reserved_bytes: u64,
}

/// The reloads of the domain files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadStatus {
    /// Reloads that took effect, the first load not counted.
    pub done: u64,
    /// Changes that were refused.
    pub failed: u64,
    /// The problems of the files as they are now; empty if all files are in force.
    pub problems: Vec<String>,
}

/// The verdicts on samples of the hits (`--verify`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifyStatus {
    /// Samples that were judged.
    pub checked: u64,
    /// The consistency that the samples show, in nines.
    pub nines: Option<f64>,
    /// The age of the oldest wrong answer.
    pub oldest_wrong_seconds: f64,
    /// The share of the hits that is sampled.
    pub rate: f64,
    /// Samples that could not be judged.
    pub unknown: u64,
    /// Samples that were wrong answers.
    pub wrong: u64,
}
