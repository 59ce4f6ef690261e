//! The memory tier: bounded in bytes, least recently and frequently used first to go.
//!
//! It holds what it is given until its time or its room is over. Whether something in it may be served is not its business.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::sync::Cache;

use super::kept::Kept;
use super::metrics::Metrics;

/// A size in bytes, as people write it: `64MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.parse::<bytesize::ByteSize>();
        parsed.map(|size| Self(size.as_u64())).map_err(|_| "expected a size such as `64MiB`".to_owned())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bytesize::ByteSize::b(self.0).fmt(f)
    }
}

/// Where in memory: a domain file of another plan keeps datasets of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) domain: Arc<str>,
    pub(super) plan: Arc<str>,
    pub(super) key: Arc<str>,
}

/// The memory of one process, shared by all its domains. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Memory {
    kept: Cache<Slot, Held>,
    capacity: u64,
}

#[derive(Debug, Clone)]
struct Held {
    kept: Arc<Kept>,
    /// How long it is of any use.
    lasts: Duration,
}

/// Each is dropped when it is of no more use.
#[derive(Debug)]
struct Lasting;

impl moka::Expiry<Slot, Held> for Lasting {
    fn expire_after_create(&self, _: &Slot, held: &Held, _: Instant) -> Option<Duration> {
        Some(held.lasts)
    }

    fn expire_after_update(&self, _: &Slot, held: &Held, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(held.lasts)
    }
}

impl Memory {
    /// A memory of at most `capacity` bytes; none at all with 0.
    pub fn new(capacity: Size, metrics: &Metrics) -> Self {
        let evicted = metrics.evictions.clone();
        let kept = Cache::builder()
            .max_capacity(capacity.0)
            .weigher(|slot: &Slot, held: &Held| u32::try_from(held.kept.weight() + slot.key.len()).unwrap_or(u32::MAX))
            .expire_after(Lasting)
            .eviction_listener(move |_, _, cause| {
                if cause == moka::notification::RemovalCause::Size {
                    evicted.inc();
                }
            })
            .build();
        Self { kept, capacity: capacity.0 }
    }

    pub(super) fn get(&self, slot: &Slot) -> Option<Arc<Kept>> {
        self.kept.get(slot).map(|held| held.kept)
    }

    /// Keeps it for as long as it `lasts`; with what was kept before, this replaces it (and is weighed anew).
    pub(super) fn put(&self, slot: Slot, kept: Arc<Kept>, lasts: Duration) {
        self.kept.insert(slot, Held { kept, lasts });
    }

    /// Datasets held, about.
    pub fn entries(&self) -> u64 {
        // What was put or left last is counted in passing, with later reads.
        self.kept.run_pending_tasks();
        self.kept.entry_count()
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> u64 {
        self.kept.weighted_size()
    }

    /// Whether there is none.
    pub fn is_off(&self) -> bool {
        self.capacity == 0
    }

    /// The bound, in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }
}
