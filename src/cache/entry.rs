//! One cache entry: the result of a collection for a key (the dataset, or that there is none), with
//! the times and the fence by which it is judged.
//!
//! There are as many of these as fit into memory, so they are small: times are offsets, bytes at
//! rest are [`StoredBytes`], and each holds the reservation of all that it keeps alive until its
//! last reader is done.

use std::num::NonZeroU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::coherence::EntryFence;
use crate::collect::{Dataset, DatasetId, StoredDataset};
use crate::domain::{CacheRules, Domain};
use crate::resources::{MemoryShare, Reservation, StoredBytes, allocated_size};

/// The sources' answer for a key.
#[derive(Debug, Clone)]
pub enum EntryContent {
    /// All parts.
    Dataset(StoredDataset),
    /// There is no such dataset.
    NotFound,
}

impl EntryContent {
    /// How long it may be kept.
    pub(super) fn ttl(&self, rules: &CacheRules) -> Duration {
        match self {
            Self::Dataset(_) => rules.ttl,
            Self::NotFound => rules.missing_ttl,
        }
    }

    /// The bytes of memory that the data takes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Dataset(dataset) => dataset.weight(),
            Self::NotFound => 0,
        }
    }
}

/// Half of the SHA-256 of a version's bytes: its strong `ETag` less the quotes.
pub type EtagDigest = [u8; 16];

/// When an entry was collected, and for how long it is of use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetime {
    /// When the flight that collected it began: its parts are at least as new as that.
    pub(super) collected: Instant,
    /// For how long from then on it is served without a question.
    pub(super) fresh: Duration,
    /// For how long after that it may be of use: for failing sources, for its validators.
    pub(super) retained: Duration,
}

/// One cache entry. It never changes but for its renderings.
#[derive(Debug)]
pub struct CacheEntry {
    /// The sources' answer.
    pub content: EntryContent,
    /// The tags that an invalidation can name.
    tags: Option<Box<Box<[Arc<str>]>>>,
    /// Nanoseconds since [`base`].
    collected: i64,
    fresh_ms: u32,
    retained_ms: u32,
    /// The protocol's fence of the entry, as bytes, or [`NO_FENCE`].
    fence: [u8; 32],
    /// Locked to copy a handle in or out; never across a rendering.
    rendered: Mutex<Renderings>,
}

/// The renderings of an entry, and the reservation of all memory that the entry takes.
#[derive(Debug)]
struct Renderings {
    reservation: Reservation,
    /// Most domains publish one version: it needs no list.
    first: Option<Rendering>,
    /// Boxed, since few have any.
    #[allow(clippy::box_collection, reason = "eight bytes in each entry instead of twenty-four")]
    others: Option<Box<Vec<Rendering>>>,
}

/// The dataset as one version renders it.
#[derive(Debug, Clone)]
struct Rendering {
    /// The identity of the published version.
    version: NonZeroU64,
    etag: EtagDigest,
    /// `None`: the dataset as it is.
    body: Option<Box<StoredBytes>>,
}

/// A version's bytes, and the dataset that they are part of: it stays alive, and so does its
/// reservation.
#[derive(Debug, Clone)]
pub struct RenderedAnswer {
    /// Of which.
    pub entry: Arc<CacheEntry>,
    /// Their digest.
    pub etag: EtagDigest,
    body: Option<Box<StoredBytes>>,
}

/// No memory is ever emptied so often that an entry has this fence.
const NO_FENCE: [u8; 32] = [u8::MAX; 32];

/// The most renderings kept of one dataset: versions of the table in force, and of the one before
/// while it is swapped.
const RENDERED_MAX: usize = 32;

/// The bytes that the memory tier's map takes for an entry: measured with `quick_cache` 0.6 and 100
/// 000 entries.
const MAP_ENTRY_BYTES: usize = 96;

impl CacheEntry {
    /// A new entry without renderings. `reservation` covers at least the bytes that it will be
    /// settled to.
    pub(super) fn new(
        content: EntryContent,
        tags: Vec<Arc<str>>,
        lifetime: Lifetime,
        fence: Option<EntryFence>,
        reservation: Reservation,
    ) -> Arc<Self> {
        let entry = Arc::new(Self {
            content,
            tags: (!tags.is_empty()).then(|| Box::new(tags.into())),
            collected: nanos_since_base(lifetime.collected),
            fresh_ms: millis(lifetime.fresh),
            retained_ms: millis(lifetime.retained),
            fence: fence.map_or(NO_FENCE, EntryFence::to_bytes),
            rendered: Mutex::new(Renderings { reservation, first: None, others: None }),
        });
        entry.settle(&mut entry.rendered.lock());
        entry
    }

    /// The protocol's fence; `None`: the entry was not stored, and is served to the callers of its
    /// flight only.
    pub fn fence(&self) -> Option<EntryFence> {
        (self.fence != NO_FENCE).then(|| EntryFence::from_bytes(self.fence))
    }

    /// The tags that an invalidation can name.
    pub fn tags(&self) -> &[Arc<str>] {
        self.tags.as_ref().map_or(&[], |tags| tags)
    }

    /// The dataset at rest, where there is one.
    pub fn stored(&self) -> Option<&StoredDataset> {
        match &self.content {
            EntryContent::Dataset(dataset) => Some(dataset),
            EntryContent::NotFound => None,
        }
    }

    /// The dataset as it was collected, where there is one; `domain` is of the plan that collected
    /// it.
    pub fn dataset(&self, domain: &Domain) -> Option<Dataset> {
        self.stored().map(|stored| stored.load(domain))
    }

    /// The value of `Bfb-Dataset`, where there is a dataset.
    pub fn dataset_id(&self) -> Option<DatasetId> {
        self.stored().map(StoredDataset::id)
    }

    /// The size of the dataset's body.
    pub fn body_bytes(&self) -> usize {
        self.stored().map_or(0, StoredDataset::body_bytes)
    }

    /// When the flight that collected it began.
    pub fn collected(&self) -> Instant {
        since_base(self.collected)
    }

    /// Until when it is fresh by the rules in force: they may differ from those under which it was
    /// stored.
    pub(super) fn fresh_until(&self, rules: &CacheRules) -> Instant {
        self.collected() + self.fresh().min(self.content.ttl(rules))
    }

    fn fresh(&self) -> Duration {
        Duration::from_millis(self.fresh_ms.into())
    }

    /// Whether it can still be of any use.
    pub(super) fn is_retained(&self, now: Instant) -> bool {
        self.collected() + self.fresh() + Duration::from_millis(self.retained_ms.into()) > now
    }

    /// Seconds for which it is still fresh by the rules in force; below zero: since when it is not.
    pub fn ttl_seconds(&self, rules: &CacheRules, now: Instant) -> i64 {
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        let fresh_until = self.fresh_until(rules);
        match fresh_until.checked_duration_since(now) {
            Some(left) => seconds(left),
            None => -seconds(now.duration_since(fresh_until)) - 1,
        }
    }

    /// How old it is.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.collected())
    }

    /// The rendering for a version, if there is one.
    pub fn rendered(self: &Arc<Self>, version: NonZeroU64) -> Option<RenderedAnswer> {
        let renderings = self.rendered.lock();
        let found = renderings.iter().find(|rendering| rendering.version == version)?;
        Some(RenderedAnswer { entry: self.clone(), etag: found.etag, body: found.body.clone() })
    }

    /// Keeps the rendering for a version; `body` is `None` where the rendering is the dataset
    /// itself.
    pub fn keep_rendered(
        self: &Arc<Self>,
        version: NonZeroU64,
        etag: EtagDigest,
        body: Option<Bytes>,
    ) -> RenderedAnswer {
        let body = body.map(|body| Box::new(StoredBytes::new(body)));
        let rendered = RenderedAnswer { entry: self.clone(), etag, body: body.clone() };
        let mut renderings = self.rendered.lock();
        if renderings.iter().any(|rendering| rendering.version == version) {
            return rendered;
        }
        let rendering = Rendering { version, etag, body };
        if renderings.first.is_none() {
            renderings.first = Some(rendering);
        } else {
            let others = renderings.others.get_or_insert_default();
            if others.len() + 1 == RENDERED_MAX {
                others.remove(0);
            }
            others.push(rendering);
        }
        self.settle(&mut renderings);
        rendered
    }

    /// The bytes that the entry keeps alive, its place in the memory tier's map among them.
    pub fn weight(&self) -> usize {
        self.weight_with(&self.rendered.lock())
    }

    fn weight_with(&self, renderings: &Renderings) -> usize {
        let tags: usize = self
            .tags()
            .iter()
            .map(|tag| allocated_size(tag.len() + 16) + 2 * size_of::<Arc<str>>())
            .sum();
        let body = |body: &StoredBytes| allocated_size(size_of::<StoredBytes>()) + body.weight();
        let bodies: usize =
            renderings.iter().filter_map(|rendering| rendering.body.as_deref()).map(body).sum();
        let list = renderings.others.as_ref().map_or(0, |others| {
            allocated_size(size_of::<Vec<Rendering>>())
                + allocated_size(others.capacity() * size_of::<Rendering>())
        });
        let own = allocated_size(size_of::<Self>() + 16) + MAP_ENTRY_BYTES;
        own + self.content.weight() + tags + bodies + list
    }

    /// Shrinks the reservation to the bytes that are held: the entry exists.
    fn settle(&self, renderings: &mut Renderings) {
        let weight = self.weight_with(renderings) as u64;
        renderings.reservation.settle(weight);
    }
}

impl Renderings {
    fn iter(&self) -> impl Iterator<Item = &Rendering> {
        self.first.iter().chain(self.others.iter().flat_map(|others| others.iter()))
    }
}

impl RenderedAnswer {
    /// How many bytes they are.
    pub fn body_bytes(&self) -> usize {
        self.body.as_ref().map_or_else(|| self.entry.body_bytes(), |body| body.len())
    }

    /// The answer's body. Its bytes stay reserved until the last reader is done, a slow one
    /// included: those of a copy (`None` where `share` has no room for one), or those of the
    /// dataset that it is part of.
    pub fn body(&self, share: &MemoryShare) -> Option<Bytes> {
        let stored = self.entry.stored();
        let copies = self.body.as_ref().map_or_else(
            || stored.is_some_and(StoredDataset::body_copies),
            |b| b.is_copied_by_slice(),
        );
        let bytes = || match &self.body {
            Some(body) => body.slice(0, body.len()),
            None => stored.map(StoredDataset::body).unwrap_or_default(),
        };
        if copies && self.body_bytes() <= SMALL_COPY_BYTES {
            return Some(bytes());
        }
        let held = if copies {
            HeldBy::Copy { _reservation: share.try_reserve(self.body_bytes() as u64)? }
        } else {
            HeldBy::Entry { _entry: self.entry.clone() }
        };
        Some(Bytes::from_owner(HeldBytes { bytes: bytes(), _held: held }))
    }
}

/// A copy of an answer that is no larger is not reserved for each request: all that may be under
/// way hold 16 MiB of them, no more than their heads.
const SMALL_COPY_BYTES: usize = 4 * 1024;

/// Bytes that keep a reservation alive.
struct HeldBytes {
    bytes: Bytes,
    _held: HeldBy,
}

enum HeldBy {
    Copy { _reservation: Reservation },
    Entry { _entry: Arc<CacheEntry> },
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The instant that times are counted from, so that each takes eight bytes.
fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}

fn nanos_since_base(at: Instant) -> i64 {
    let nanos = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
    match at.checked_duration_since(base()) {
        Some(after) => nanos(after),
        None => -nanos(base().duration_since(at)),
    }
}

fn since_base(nanos: i64) -> Instant {
    let span = Duration::from_nanos(nanos.unsigned_abs());
    let at = if nanos < 0 { base().checked_sub(span) } else { base().checked_add(span) };
    at.unwrap_or_else(base)
}

/// At most 49 days, which no process's memory has to hold anything for.
fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<CacheEntry>() + 16 <= 192, "{}", size_of::<CacheEntry>());
    }

    #[test]
    fn times_before_and_after_the_base_come_back() {
        for at in [
            base(),
            base() + Duration::from_secs(7),
            base().checked_sub(Duration::from_secs(1)).unwrap_or_else(base),
        ] {
            assert_eq!(since_base(nanos_since_base(at)), at);
        }
    }
}
