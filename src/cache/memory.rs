//! The memory tier: bounded in bytes, least recently and frequently used first to go (Clock-PRO,
//! Jiang, Chen and Zhang, 2005).
//!
//! The map is `quick_cache`'s: it takes about 90 bytes an entry, where `moka`'s takes 310 to 410
//! (measured with 10 000 to 97 000 entries), a fifth of a dataset of two kilobytes.
//!
//! It holds entries until they expire or are evicted. Whether an entry may be served is decided
//! elsewhere (`policy.rs`).

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use super::entry::CacheEntry;
use super::metrics::CacheMetrics;
use crate::resources::{MemoryAccount, MemoryShare, allocated_size};
use crate::settings::MemorySize;

/// How often expired entries are swept: that takes about 0.2 µs an entry.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// The key of an entry in memory: a domain file of another plan keeps datasets of its own.
#[derive(Debug, Clone)]
struct MemoryKey {
    plan: Arc<MemoryPlan>,
    key: Arc<str>,
}

/// The domain and the plan of a key: shared by all keys of the plan, for there are many.
#[derive(Debug, PartialEq, Eq)]
struct MemoryPlan {
    domain: Arc<str>,
    plan: Arc<str>,
    /// The hash of domain and plan together, so that a look-up hashes only the key. The seed is
    /// random.
    hash: u64,
}

impl MemoryPlan {
    fn new(domain: Arc<str>, plan: Arc<str>) -> Self {
        let mut hasher = DefaultHasher::new();
        (&domain, &plan).hash(&mut hasher);
        Self { hash: hasher.finish(), domain, plan }
    }
}

impl PartialEq for MemoryKey {
    fn eq(&self, other: &Self) -> bool {
        (Arc::ptr_eq(&self.plan, &other.plan) || self.plan == other.plan) && self.key == other.key
    }
}

impl Eq for MemoryKey {}

impl Hash for MemoryKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.plan.hash);
        self.key.hash(state);
    }
}

/// The memory tier of one plan. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct MemoryTier {
    memory: Memory,
    plan: Arc<MemoryPlan>,
}

impl MemoryTier {
    pub(super) fn new(memory: Memory, domain: Arc<str>, plan: Arc<str>) -> Self {
        Self { memory, plan: Arc::new(MemoryPlan::new(domain, plan)) }
    }

    pub(super) fn get(&self, key: &Arc<str>) -> Option<Arc<CacheEntry>> {
        self.memory.get(&self.key(key))
    }

    /// Keeps an entry, unless one that was collected later is there already and `is_valid`.
    pub(super) fn insert(
        &self,
        key: &Arc<str>,
        entry: &Arc<CacheEntry>,
        is_valid: impl Fn(&CacheEntry) -> bool,
    ) {
        self.memory.put(self.key(key), entry.clone(), is_valid);
    }

    /// Weighs an entry anew, if it is still there.
    pub(super) fn reweigh(&self, key: &Arc<str>, entry: &Arc<CacheEntry>) {
        self.memory.reweigh(self.key(key), entry);
    }

    /// The share of memory from which the entries' bytes are reserved.
    pub(super) fn share(&self) -> &MemoryShare {
        &self.memory.share
    }

    fn key(&self, key: &Arc<str>) -> MemoryKey {
        MemoryKey { plan: self.plan.clone(), key: key.clone() }
    }
}

/// The memory of one process, shared by all its domains. Cheap to clone.
#[derive(Clone)]
pub struct Memory {
    entries: Arc<Cache<MemoryKey, WeighedEntry, ByWeight, RandomState, CountEvictions>>,
    /// Held while the entry in place is compared with the one that replaces it.
    writes: Arc<Mutex<()>>,
    capacity: u64,
    /// The share of memory from which all entries are reserved.
    share: MemoryShare,
    expired: Counter,
}

/// An entry, with its weight when it was stored: the weight must not change while the map holds it.
#[derive(Debug, Clone)]
struct WeighedEntry {
    entry: Arc<CacheEntry>,
    weight: u32,
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<MemoryKey, WeighedEntry> for ByWeight {
    fn weight(&self, _: &MemoryKey, held: &WeighedEntry) -> u64 {
        held.weight.into()
    }
}

/// Counts the entries that are evicted.
#[derive(Clone)]
struct CountEvictions(Counter);

impl Lifecycle<MemoryKey, WeighedEntry> for CountEvictions {
    type RequestState = ();

    fn begin_request(&self) {}

    fn on_evict(&self, (): &mut (), _: MemoryKey, _: WeighedEntry) {
        self.0.inc();
    }
}

/// The most entries for which the map allocates in advance.
const ENTRIES_EXPECTED_MAX: usize = 1 << 16;
/// The least capacity of a part of the map with a lock of its own: the largest dataset fits into
/// it.
const SHARD_BYTES_MIN: u64 = 128 << 20;
/// The most parts: more locks than that are not contended.
const SHARDS_MAX: u64 = 16;
/// The weight that is assumed for an entry where the map sizes its own tables; they grow where
/// entries weigh less.
const USUAL_WEIGHT: u64 = 4096;

impl Memory {
    /// A memory of at most `capacity` bytes; 0 stores nothing. Its bytes are part of `account`.
    pub fn new(capacity: MemorySize, account: &MemoryAccount, metrics: &CacheMetrics) -> Self {
        let entries = usize::try_from(capacity.0 / USUAL_WEIGHT)
            .unwrap_or(usize::MAX)
            .clamp(16, ENTRIES_EXPECTED_MAX);
        let shards = (capacity.0 / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        let mut options = OptionsBuilder::new();
        options.weight_capacity(capacity.0).estimated_items_capacity(entries);
        options.shards(usize::try_from(shards).unwrap_or(1));
        // Every bound was given.
        let options = options.build().unwrap_or_else(|error| unreachable!("{error:?}"));
        let evictions = CountEvictions(metrics.evictions.clone());
        let entries = Cache::with_options(options, ByWeight, RandomState::default(), evictions);
        let share = account.full_share();
        let expired = metrics.expirations.clone();
        Self {
            entries: Arc::new(entries),
            writes: Arc::default(),
            capacity: capacity.0,
            share,
            expired,
        }
    }

    fn get(&self, key: &MemoryKey) -> Option<Arc<CacheEntry>> {
        self.entries.get(key).map(|held| held.entry)
    }

    /// Stores `entry`, unless the entry in place was collected later and is still `is_valid`.
    fn put(&self, key: MemoryKey, entry: Arc<CacheEntry>, is_valid: impl Fn(&CacheEntry) -> bool) {
        let _write_guard = self.writes.lock();
        let is_newer =
            |there: &Arc<CacheEntry>| there.collected() > entry.collected() && is_valid(there);
        if !self.get(&key).as_ref().is_some_and(is_newer) {
            self.insert(key, entry);
        }
    }

    /// Weighs `entry` anew, if it is still in place.
    fn reweigh(&self, key: MemoryKey, entry: &Arc<CacheEntry>) {
        let _write_guard = self.writes.lock();
        if self.get(&key).is_some_and(|there| Arc::ptr_eq(&there, entry)) {
            self.insert(key, entry.clone());
        }
    }

    fn insert(&self, key: MemoryKey, entry: Arc<CacheEntry>) {
        if self.is_off() {
            return;
        }
        let weight = entry.weight() + allocated_size(key.key.len() + 16);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        self.entries.insert(key, WeighedEntry { entry, weight });
    }

    /// Drops expired entries, again and again, for as long as it is polled. A timer for each entry
    /// would take as much memory as a small dataset.
    pub async fn sweep(self) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let memory = self.clone();
            let _ = tokio::task::spawn_blocking(move || memory.remove_expired()).await;
        }
    }

    fn remove_expired(&self) {
        let now = tokio::time::Instant::now();
        for (key, held) in self.entries.iter().filter(|(_, held)| !held.entry.is_retained(now)) {
            let same = |there: &WeighedEntry| Arc::ptr_eq(&there.entry, &held.entry);
            if self.entries.remove_if(&key, same).is_some() {
                self.expired.inc();
            }
        }
    }

    /// Datasets held.
    pub fn entries(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.entries.weight()
    }

    /// Whether the tier is off (`--memory 0`, `--no-cache`).
    pub(super) fn is_off(&self) -> bool {
        self.capacity == 0
    }

    /// The bound, in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("entries", &self.entries())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}
