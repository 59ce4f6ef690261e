//! The calls of the scripts and their replies, as plain data: what crosses the wire between a
//! process and Redis.
//!
//! [`super::ReferenceServer`] is the reference for what each script does; the Lua scripts are
//! tested against it.

use std::sync::Arc;
use std::time::Duration;

use super::protocol::{DatasetPlace, Epoch, Fence, InvalidationScope, LogEntry, MemberName, Seq};
use super::store_calls::{StoreId, StoreMark};

/// One script call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScriptRequest {
    /// The protocol that the caller speaks.
    pub protocol: u32,
    /// A random name for the epoch that this call may have to begin.
    pub fresh_epoch: Epoch,
    /// Which script, and its arguments.
    pub call: ScriptCall,
}

/// The scripts, each with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScriptCall {
    /// Registers, reports, asks for the log's end. Begins an epoch where the log is of another
    /// life.
    Heartbeat(Heartbeat),
    /// Leaves the registry. The caller gave up its lease for good before.
    Deregister(MemberName),
    /// Appends one entry to the log, stamps and publishes it. Begins an epoch where the log is of
    /// another life.
    Invalidate {
        /// The scopes that are out of date.
        scopes: Arc<[InvalidationScope]>,
        /// For a hint: does nothing if every scope is stamped above this already.
        unless_above: Option<Fence>,
    },
    /// Asks which members have not reported an invalidation yet.
    Progress {
        /// The invalidation.
        token: Fence,
        /// The whole lease has passed since the invalidation's reply: removes the members whose
        /// last reply had less than its `seq`.
        lease_has_passed: bool,
        /// Marks the token's epoch as settled: the caller has known it for a whole lease.
        marks_settled: bool,
        /// A member that had not reported it: while it still has not, Redis checks and names only
        /// this one.
        laggard: Option<MemberName>,
    },
    /// The log's entries after a place.
    ReadLog {
        /// The place of the last entry that the caller applied.
        after: Fence,
        /// The most entries of the reply.
        max: usize,
    },
    /// Stores a dataset, unless it was invalidated since its fence, or Redis has a valid one that
    /// was collected later.
    Store {
        /// The place.
        place: DatasetPlace,
        /// The dataset.
        dataset: TierDataset,
        /// How long ago its collection began. *Fresh* does not depend on it; the reference has no
        /// clock, and replaces the dataset that is there.
        age: Duration,
    },
    /// The dataset of a place, unless it was invalidated since its fence.
    Fetch {
        /// Which place.
        place: DatasetPlace,
        /// The most bytes to answer with; a larger dataset is answered with its size.
        bytes_max: u64,
    },
    /// Claims a place, so that one sidecar of the fleet collects it, or renews the claim. A caller
    /// without the claim gets the dataset instead, if Redis has it by now.
    Claim {
        /// Which place.
        place: DatasetPlace,
        /// The flight that claims it.
        holder: MemberName,
        /// The fence of that flight.
        fence: Fence,
        /// The most bytes of a dataset to answer with; `None`: claim the place even if there is a
        /// dataset, which the caller cannot use.
        bytes_max: Option<u64>,
    },
    /// Releases a claim.
    Release {
        /// Which place.
        place: DatasetPlace,
        /// The flight that holds it.
        holder: MemberName,
    },
}

/// The report of a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Heartbeat {
    /// Its name in the registry.
    pub name: MemberName,
    /// Its lease: how long it may serve after this was sent, before the margin for drift.
    pub lease: Duration,
    /// Up to where it has applied the log that it follows.
    pub applied: Option<Fence>,
    /// Marks the epoch of `applied` as settled: the sidecar has known it for a whole lease.
    pub marks_settled: bool,
    /// The sidecar's store, if it has one.
    pub store: Option<StoreReport>,
}

/// The report of a sidecar about its store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreReport {
    /// The store.
    pub id: StoreId,
    /// The highest mark that the sidecar saw there, of the epoch that it follows.
    pub mark: Option<Fence>,
}

/// A dataset as Redis keeps it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TierDataset {
    /// The fence of the flight that read it.
    pub fence: Fence,
    /// The tags by which an invalidation can name it.
    pub tags: Vec<Arc<str>>,
    /// Its bytes.
    pub body: Arc<[u8]>,
}

/// The reply of a script.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScriptReply {
    /// The log has a newer protocol: nothing was done.
    NewerProtocol(u32),
    /// The log is of another life, or of another epoch than the call named: nothing was done.
    OtherLife,
    /// The reply to a heartbeat.
    Heartbeat(HeartbeatReply),
    /// The reply to an invalidation.
    Issued(IssuedInvalidation),
    /// The members that have not reported an invalidation yet.
    Progress {
        /// The epoch is settled.
        settled: bool,
        /// The members that have not reported it, with those that this call removes. If the call
        /// named a laggard, it may be the only one here.
        laggards: Vec<MemberName>,
        /// The stores of the registry.
        stores: Vec<StoreMark>,
    },
    /// Entries in order, from the next after the requested place on. Empty: the place is the log's
    /// end.
    Log {
        /// The log.
        epoch: Epoch,
        /// The entries.
        entries: Vec<LogEntry>,
    },
    /// The stream no longer reaches back to the requested place; the log ends at this one.
    LogTruncated(Fence),
    /// A valid dataset.
    Hit(FetchedDataset),
    /// A valid dataset of so many bytes, more than the call allows.
    Large(u64),
    /// No valid dataset.
    Miss,
    /// Whether the call was carried out.
    Done(bool),
    /// Another flight holds the claim.
    HeldBy(MemberName),
}

/// The reply to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeartbeatReply {
    /// The log's end.
    pub log_end: Fence,
    /// The longest lease registered.
    pub longest_lease: Duration,
    /// The epoch is settled.
    pub settled: bool,
    /// The highest mark that Redis was told of the sender's store.
    pub store_mark: Option<Seq>,
}

/// The reply to an invalidation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuedInvalidation {
    /// Its place in the log: its token.
    pub token: Fence,
    /// The longest lease registered at that moment; zero if no member is registered.
    pub longest_lease: Duration,
    /// The epoch is settled.
    pub settled: bool,
    /// How many members were registered.
    pub registered_members: usize,
    /// The stores of the registry.
    pub stores: Vec<StoreMark>,
}

/// A dataset from Redis that was valid at one moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchedDataset {
    /// The log's end at that moment: no entry up to there outdates the dataset.
    pub valid_up_to: Fence,
    /// How much longer Redis keeps it, by Redis's clock. No promise depends on it; the reference
    /// has no clock and answers zero.
    pub ttl_left: Duration,
    /// The dataset.
    pub dataset: TierDataset,
}

impl ScriptCall {
    /// Whether this call may begin an epoch. The others answer [`ScriptReply::OtherLife`] where the
    /// log is of another life.
    pub(super) const fn may_begin_epoch(&self) -> bool {
        matches!(self, Self::Heartbeat(_) | Self::Invalidate { .. })
    }
}
