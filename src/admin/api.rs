//! The types of the admin port's API: the admin port writes them, the commands read them.
//!
//! An answer's members go out in the order in which its type declares them. Whoever reads an
//! answer may meet a sidecar of another release: members that it does not know are passed over,
//! and one that is absent reads as `None` or as its type's default. What is sent to a sidecar is
//! read strictly: an unknown member is refused.

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
