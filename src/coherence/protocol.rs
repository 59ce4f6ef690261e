//! The values of the protocol as plain data: moments, epochs, fences, scopes, entries, names.
//!
//! They have no behaviour. The owner of the state machines reads the clock and draws the random
//! names.

use std::sync::Arc;
use std::time::Duration;

/// The number of this release's protocol. Scripts are called with it; the log's meta hash holds the
/// number in use.
pub const PROTOCOL: u32 = 1;

/// The most tags of a dataset: Redis looks up the stamp of each whenever the dataset is read,
/// stored or claimed.
pub const TAGS_MAX: usize = 64;
/// The most bytes of a tag.
pub const TAG_BYTES_MAX: usize = 512;
/// The most keys and tags of one entry of the log: each costs Redis a stamp.
pub const SCOPES_MAX: usize = 1_000;
/// The most bytes of their kinds and names together.
pub const SCOPES_BYTES_MAX: usize = 64 * 1024;

/// The longest lease that a sidecar may have; a longer one that is registered is ignored.
pub const LEASE_MAX: Duration = Duration::from_mins(5);

/// Whether a dataset may have these tags.
pub fn are_valid_tags(tags: &[Arc<str>]) -> bool {
    tags.len() <= TAGS_MAX && tags.iter().all(|tag| tag.len() <= TAG_BYTES_MAX)
}

/// A point on the owner's own monotonic clock, which must also run while the machine sleeps.
///
/// Moments of two owners are never compared: nothing in the protocol sends one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(Duration);

impl Moment {
    /// Later than every moment a clock will show.
    pub const NEVER: Self = Self(Duration::MAX);

    /// The moment that is `elapsed` after the origin that the owner chose.
    pub const fn from_origin(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The moment `span` later.
    #[must_use]
    pub const fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The name of a log: 128 random bits, drawn by the caller whose script begins the log, never used
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u128);

/// One life of one Redis server: stands for its run id and replication id. It is compared only for
/// equality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerLife(pub u128);

/// A place in a log; the first invalidation is 1.
pub type Seq = u64;

/// The highest `seq` that had been applied before a read of the sources began; also names one
/// invalidation (a token).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// The log.
    pub epoch: Epoch,
    /// The place in it.
    pub seq: Seq,
}

/// One thing that an invalidation names. A kind that the decoder does not know is
/// [`InvalidationScope::All`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InvalidationScope {
    /// Every dataset of the domain.
    All,
    /// The datasets of one key.
    Key(Arc<str>),
    /// The datasets that carry this tag.
    Tag(Arc<str>),
}

impl InvalidationScope {
    /// The bytes that it counts towards [`SCOPES_BYTES_MAX`].
    pub fn bytes(&self) -> usize {
        let kind = "key".len();
        match self {
            Self::All => kind,
            Self::Key(name) | Self::Tag(name) => kind + name.len(),
        }
    }
}

/// Whether one entry of the log may name all of these scopes.
pub fn are_valid_scopes(scopes: &[InvalidationScope]) -> bool {
    scopes.len() <= SCOPES_MAX
        && scopes.iter().map(InvalidationScope::bytes).sum::<usize>() <= SCOPES_BYTES_MAX
}

/// One invalidation in the log: one `seq`, however many scopes its caller named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogEntry {
    /// Its place.
    pub seq: Seq,
    /// The scopes that it names.
    pub scopes: Arc<[InvalidationScope]>,
}

/// The message of pub/sub: entries of one log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishedEntries {
    /// The log.
    pub epoch: Epoch,
    /// Its newest entries, in order.
    pub entries: Vec<LogEntry>,
}

/// A process in the registry: random for each process, so that a restarted one is another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberName(pub Arc<str>);

/// The place of a dataset in Redis: its key, and the fingerprint of the domain file that it was
/// collected with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatasetPlace {
    /// The key.
    pub key: Arc<str>,
    /// The fingerprint of the plan.
    pub plan: Arc<str>,
}
