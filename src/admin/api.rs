//! The types of the admin port's API: the admin port writes them, the commands read them.
//!
//! The members of an answer are written in the order in which its type declares them. The command
//! line and the sidecar can be of different releases: in an answer, unknown members are ignored and
//! an absent member reads as `None` or as its type's default; a member of another JSON type is an
//! error. In a request, an unknown member is an error.

mod dataset;
mod event;
mod invalidation;
mod log;
mod status;

pub use dataset::{
    DatasetPart, DatasetStatus, DatasetTags, EntryStatus, RedisTierStatus, TierStatus,
    UnreadableStatus,
};
pub use event::{
    AdminEvent, AppliedInvalidation, CollectionReport, EventKind, FailedCollection,
    ListeningDomain, ListeningReport, NamedScopes, SourceFailure,
};
pub use invalidation::{InvalidateRequest, InvalidateResponse, WaitLimit, WaitMode};
pub use log::{CurrentLogLevel, LogChange};
pub use status::{
    CacheCounts, CacheTierStatus, DomainStatus, FleetDomainStatus, FleetStatus, IdentityStatus,
    LastFailure, MemoryStatus, NotKeptStatus, ReloadStatus, SourceState, SourceStatus, Status,
    VerifyStatus, VersionStatus,
};

#[cfg(test)]
mod tests;
