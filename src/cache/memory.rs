//! The memory tier: bounded in bytes, least recently and frequently used first to go.
//!
//! It holds what it is given until its time or its room is over. Whether something in it may be served is not its business.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use prometheus_client::metrics::counter::Counter;

use super::kept::Kept;
use super::metrics::Metrics;
use crate::resources::{MemoryAccount, MemoryShare, allocated};

/// How often what is of no more use is looked for: that takes about 0.2 µs an entry.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

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
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) plan: Arc<SlotPlan>,
    pub(super) key: Arc<str>,
}

/// The domain and the plan that a slot is of: shared by all its slots, for there are many.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SlotPlan {
    pub(super) domain: Arc<str>,
    pub(super) plan: Arc<str>,
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && (Arc::ptr_eq(&self.plan, &other.plan) || self.plan == other.plan)
    }
}

impl Eq for Slot {}

impl Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.plan.hash(state);
        self.key.hash(state);
    }
}

/// The memory of one process, shared by all its domains. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Memory {
    kept: Cache<Slot, Arc<Kept>>,
    capacity: u64,
    /// What holds the reservations of all that is kept here.
    share: MemoryShare,
    expired: Counter,
}

impl Memory {
    /// A memory of at most `capacity` bytes; none at all with 0. What it holds is part of `account`.
    pub fn new(capacity: Size, account: &MemoryAccount, metrics: &Metrics) -> Self {
        let evicted = metrics.evictions.clone();
        let kept = Cache::builder()
            .max_capacity(capacity.0)
            .weigher(|slot: &Slot, kept: &Arc<Kept>| {
                let key = allocated(slot.key.len() + 16);
                u32::try_from(kept.weight() + key).unwrap_or(u32::MAX)
            })
            .eviction_listener(move |_, _, cause| {
                if cause == moka::notification::RemovalCause::Size {
                    evicted.inc();
                }
            })
            .build();
        Self { kept, capacity: capacity.0, share: account.whole(), expired: metrics.expirations.clone() }
    }

    pub(super) fn get(&self, slot: &Slot) -> Option<Arc<Kept>> {
        self.kept.get(slot)
    }

    /// Keeps it; with what was kept before, this replaces it (and is weighed anew).
    pub(super) fn put(&self, slot: Slot, kept: Arc<Kept>) {
        self.kept.insert(slot, kept);
    }

    /// What holds the reservations of all that is kept here.
    pub(super) fn share(&self) -> &MemoryShare {
        &self.share
    }

    /// Drops what is of no more use, now and then, for as long as it is polled. An entry needs no timer of its own for that,
    /// which would take as much memory as a small dataset.
    pub async fn sweep(self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let memory = self.clone();
            let _ = tokio::task::spawn_blocking(move || memory.drop_useless()).await;
        }
    }

    fn drop_useless(&self) {
        let now = tokio::time::Instant::now();
        for (slot, kept) in &self.kept {
            if !kept.is_retained(now) {
                self.kept.invalidate(&*slot);
                self.expired.inc();
            }
        }
        self.kept.run_pending_tasks();
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
