//! The scripts' inputs and answers as plain data: what crosses the wire between a process and
//! Redis.
//!
//! [`super::ReferenceServer`] is the reference for what each does; the Lua scripts are held to it.

use std::sync::Arc;
use std::time::Duration;

use super::protocol::{DatasetPlace, Epoch, Fence, InvalidationScope, LogEntry, MemberName};

/// One script call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScriptRequest {
    /// The protocol that the caller speaks.
    pub protocol: u32,
    /// A random name, for the case that this call must begin an epoch.
    pub fresh_epoch: Epoch,
    /// Which script, and its arguments.
    pub call: ScriptCall,
}

/// The scripts, with what each is called with.
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
        /// What is out of date.
        scopes: Arc<[InvalidationScope]>,
        /// For a hint: does nothing if every scope is stamped above this already.
        unless_above: Option<Fence>,
    },
    /// Asks who has not reported an invalidation yet.
    Progress {
        /// The invalidation.
        token: Fence,
        /// The whole lease has passed since its answer: removes those who were last told less than
        /// its `seq`.
        lease_has_passed: bool,
        /// Marks the token's epoch as settled: the caller has known it for a whole lease.
        marks_settled: bool,
        /// One that had not reported it: while it has not, it alone is looked at and named.
        laggard: Option<MemberName>,
    },
    /// The log's entries after a place.
    ReadLog {
        /// The place: the last that the caller applied.
        after: Fence,
        /// At most so many.
        max: usize,
    },
    /// Keeps a dataset, unless it was invalidated since its fence, or one that is there and is to
    /// be believed was collected later.
    Store {
        /// Where.
        place: DatasetPlace,
        /// What.
        dataset: TierDataset,
        /// How long ago its collection began. Nothing that keeps *Fresh* looks at it; the reference
        /// has no clock, and replaces what is there.
        age: Duration,
    },
    /// The dataset of a place, unless it was invalidated since its fence.
    Fetch {
        /// Which place.
        place: DatasetPlace,
        /// The most bytes to answer with; a larger dataset is answered with its size.
        bytes_max: u64,
    },
    /// Asks to be the one in the fleet who collects a place, or to go on being it; who is not it
    /// yet is given the dataset instead, if it is there by now.
    Claim {
        /// Which place.
        place: DatasetPlace,
        /// Who asks.
        holder: MemberName,
        /// The fence of the flight that would collect.
        fence: Fence,
        /// The most bytes of a dataset to answer with; `None`: claim it even if there is one, which
        /// the caller cannot use.
        bytes_max: Option<u64>,
    },
    /// Ends one's claim.
    Release {
        /// Which place.
        place: DatasetPlace,
        /// Who held it.
        holder: MemberName,
    },
}

/// What a sidecar reports of itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Heartbeat {
    /// Who.
    pub name: MemberName,
    /// How long it may serve after this was sent, before the margin for drift.
    pub lease: Duration,
    /// Up to where it has applied the log that it follows.
    pub applied: Option<Fence>,
    /// It has known the epoch of `applied` for a whole lease: marks it as settled.
    pub marks_settled: bool,
}

/// A dataset as a shared tier keeps it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TierDataset {
    /// The fence of the flight that read it.
    pub fence: Fence,
    /// What an invalidation by tag can name.
    pub tags: Vec<Arc<str>>,
    /// Its bytes.
    pub body: Arc<[u8]>,
}

/// What a script answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScriptReply {
    /// The log speaks a newer protocol: nothing was done.
    NewerProtocol(u32),
    /// The log is of another life, or of another epoch than the call named: nothing was done,
    /// nothing is known.
    OtherLife,
    /// To a heartbeat.
    Heartbeat(HeartbeatReply),
    /// To an invalidation.
    Issued(IssuedInvalidation),
    /// Who has not reported it yet.
    Progress {
        /// The epoch is settled.
        settled: bool,
        /// Who is behind; those whom this call removes are among them. The one that was asked for
        /// may be the only one named.
        laggards: Vec<MemberName>,
    },
    /// Entries, in order, the first of them next after the asked place. Empty: the place is the
    /// end.
    Log {
        /// The log.
        epoch: Epoch,
        /// The entries.
        entries: Vec<LogEntry>,
    },
    /// The stream no longer reaches back to the asked place; here the log ends.
    LogTruncated(Fence),
    /// A dataset.
    Hit(FetchedDataset),
    /// A dataset that is to be believed, of so many bytes: more than the caller would take.
    Large(u64),
    /// No dataset that is to be believed.
    Miss,
    /// Whether what was asked was done, or is so.
    Done(bool),
    /// Another holds the claim.
    HeldBy(MemberName),
}

/// A heartbeat's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeartbeatReply {
    /// The log's end.
    pub log_end: Fence,
    /// The longest lease registered.
    pub longest_lease: Duration,
    /// The epoch is settled.
    pub settled: bool,
}

/// An invalidation's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuedInvalidation {
    /// Its place in the log: its token.
    pub token: Fence,
    /// The longest lease registered at that moment; zero if nobody is.
    pub longest_lease: Duration,
    /// The epoch is settled.
    pub settled: bool,
    /// How many were registered.
    pub registered_members: usize,
}

/// A dataset from Redis, as believed at one moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchedDataset {
    /// The log's end at that moment: nothing up to there has outdated it.
    pub valid_up_to: Fence,
    /// How much longer it would be kept, by Redis's clock. Nothing that keeps a promise looks at
    /// it; the reference has no clock and says zero.
    pub ttl_left: Duration,
    /// The dataset.
    pub dataset: TierDataset,
}

impl ScriptCall {
    /// Whether it may begin an epoch. The others answer [`ScriptReply::OtherLife`] where the log is
    /// of another life.
    pub const fn may_begin_epoch(&self) -> bool {
        matches!(self, Self::Heartbeat(_) | Self::Invalidate { .. })
    }
}
