//! The tier in Redis: one read across the fleet. A flight looks here before it collects, and claims
//! its key, so that one sidecar collects it and the others wait for the entry that it stores.
//!
//! The tier owns claims (`claim.rs`), the encoding of an entry (`envelope.rs`) and its sealing
//! (`seal.rs`). Redis is a help and never a condition: no answer within a small bound is a miss,
//! and the flight collects by itself. Whether a dataset is valid is decided by Redis's scripts and
//! the state machine of [`crate::coherence`], not here.

mod claim;
mod envelope;
mod received;
mod seal;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use self::claim::{ClaimKeeper, ClaimWait};
use self::envelope::{DecodeError, DecodedEntry};
use self::received::{COPIES, MemoryInUse, READY_BYTES, Received, take_ready};
use super::entry::{CacheEntry, Lifetime};
use super::flight::Flight;
use super::metrics::CacheMetrics;
use super::policy::Policy;
use super::read_options::ReadOptions;
use crate::bus::{ClaimOutcome, DomainBus, LARGE_READ_MAX, Lookup, RedisFault};
use crate::coherence::{DatasetPlace, EntryFence, Fence, FetchedDataset, StartPoint, TierDataset};
use crate::resources::{MemoryShare, WorkMemory};

pub use self::claim::CLAIM_TTL;
pub(super) use self::claim::FleetClaim;
pub use self::envelope::decoded_weight;
pub use self::seal::{Seal, SealError};

/// The tier in Redis of one domain. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct RedisTier(Arc<RedisTierParts>);

/// The parts of the tier.
#[derive(Debug)]
pub(super) struct RedisTierParts {
    pub(super) policy: Policy,
    /// Seals entries in Redis, if there is a key.
    pub(super) seal: Option<Seal>,
    pub(super) metrics: CacheMetrics,
    /// The domain's share of memory.
    pub(super) share: MemoryShare,
    /// The share that holds the reservations of entries.
    pub(super) entries_share: MemoryShare,
    /// Bounds the entries that are on their way to Redis.
    pub(super) stores: Arc<Semaphore>,
    /// Owns the tasks that release claims.
    pub(super) tasks: TaskTracker,
}

/// The result of looking a key up before it is collected.
pub(super) enum TierLookup {
    /// Redis has the entry.
    Hit(Arc<CacheEntry>),
    /// Redis has no usable entry, and this flight holds the fleet's claim on the key.
    Acquired(FleetClaim),
    /// It is to be collected without a claim.
    Miss,
}

/// Why a dataset received from Redis is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rejection {
    /// It cannot be read here, or there is no memory for it.
    Unreadable,
    /// By this domain file's `ttl`, or by the request's `max-age`.
    TooOld,
    /// An invalidation that was applied here outdates it, though Redis confirmed it.
    Outdated,
}

/// The entry of a key in Redis, for debugging.
#[derive(Debug)]
pub struct RedisEntry {
    /// The fence of the flight that read it.
    pub fence: Fence,
    /// How much longer it is kept.
    pub left: Duration,
    /// Its bytes in Redis, compressed and sealed.
    pub bytes: usize,
    /// The entry; nothing if it cannot be read here.
    pub entry: Option<Arc<CacheEntry>>,
}

/// The read that a dataset received from Redis is judged for.
#[derive(Debug, Clone, Copy)]
struct RedisRead<'r> {
    key: &'r Arc<str>,
    start: StartPoint,
    options: &'r ReadOptions,
}

impl RedisTier {
    pub(super) fn new(parts: RedisTierParts) -> Self {
        Self(Arc::new(parts))
    }

    /// The fence under which a flight that began at `start` may read from Redis, and store its
    /// result there. Without a lease there is none: each sidecar then collects for itself.
    pub(super) fn fence(&self, start: StartPoint) -> Option<Fence> {
        let policy = &self.0.policy;
        let is_usable =
            !policy.bus().is_standalone() && policy.is_cacheable() && policy.bus().has_lease();
        start.fence().filter(|_| is_usable)
    }

    /// Looks for an entry for a flight, and waits for another sidecar that collects the same.
    pub(super) async fn look_up(
        &self,
        key: &Arc<str>,
        flight: &Flight,
        start: StartPoint,
        memory: &WorkMemory,
    ) -> TierLookup {
        let Some(fence) = self.fence(start).filter(|_| !flight.sources_only()) else {
            return TierLookup::Miss;
        };
        let reading = RedisRead { key, start, options: &flight.options };
        if !flight.may_store() {
            let found = self.look_up_once(reading, memory).await;
            return found.map_or(TierLookup::Miss, TierLookup::Hit);
        }
        let ready = take_ready(memory);
        let found = self.look_up_or_claim(reading, flight, fence, memory, ready).await;
        memory.give_back(ready);
        found
    }

    async fn look_up_or_claim(
        &self,
        reading: RedisRead<'_>,
        flight: &Flight,
        fence: Fence,
        memory: &WorkMemory,
        ready: u64,
    ) -> TierLookup {
        let place = self.place(reading.key);
        let holder = self.bus().new_claim_holder();
        // Claims the key though Redis has an entry: that entry is of no use.
        let mut ignores_entry = false;
        let mut wait = ClaimWait::default();
        // A caller that waits for others keeps enough of its own deadline to collect for itself.
        while wait.may_ask(flight.share_until()) {
            let bytes_max = Some(ready).filter(|_| !ignores_entry);
            match self.bus().claim(&place, &holder, fence, CLAIM_TTL, bytes_max).await {
                // Redis answered with a dataset although the script was asked for a claim alone.
                Ok(ClaimOutcome::AlreadyStored(_) | ClaimOutcome::Large(_)) if ignores_entry => {
                    break;
                }
                Ok(ClaimOutcome::AlreadyStored(fetched)) => {
                    match self.admit(reading, &fetched, memory) {
                        Ok(entry) => return TierLookup::Hit(entry),
                        // Other sidecars may reject it too, and one of them collects it.
                        Err(Rejection::TooOld | Rejection::Outdated) => {
                            ignores_entry = true;
                            wait.ask_at_once();
                            continue;
                        }
                        // Other sidecars may be able to read it, so this one does not wait.
                        Err(Rejection::Unreadable) => break,
                    }
                }
                Ok(ClaimOutcome::Large(bytes)) => {
                    let received = self.fetch_large(place.clone(), bytes, memory).await;
                    let admitted =
                        received.map(|received| self.admit(reading, &received.fetched, memory));
                    match admitted {
                        Some(Ok(entry)) => return TierLookup::Hit(entry),
                        Some(Err(Rejection::Unreadable)) => break,
                        // An entry that cannot be fetched, or is of no use, prevents no claim.
                        Some(Err(Rejection::TooOld | Rejection::Outdated)) | None => {}
                    }
                    ignores_entry = true;
                    wait.ask_at_once();
                    continue;
                }
                Ok(ClaimOutcome::Acquired) => {
                    let claim = FleetClaim::new(self.claim_keeper(), place, holder, fence);
                    return TierLookup::Acquired(claim);
                }
                Ok(ClaimOutcome::HeldBy(other)) => {
                    if wait.holders.is_empty() {
                        self.0.metrics.fleet_waits.inc();
                    }
                    wait.note_holder(other);
                }
                // Another sidecar may be collecting it; one slow answer of Redis is no reason for
                // all sidecars to do so.
                Err(RedisFault::TimedOut) if wait.tolerates_slowness() => {}
                Err(_) => break,
            }
            wait.pause().await;
            // The holder may have stored another one by now.
            ignores_entry = false;
        }
        self.0.metrics.claims_missed.inc();
        TierLookup::Miss
    }

    async fn look_up_once(
        &self,
        reading: RedisRead<'_>,
        memory: &WorkMemory,
    ) -> Option<Arc<CacheEntry>> {
        let received = self.fetch(self.place(reading.key), memory).await.ok()??;
        self.admit(reading, &received.fetched, memory).ok()
    }

    /// For a caller with `only-if-cached`: Redis's entry, if it has one. It is a flight like any
    /// other, but no caller joins it.
    pub(super) async fn read_once(
        &self,
        key: &Arc<str>,
        options: &ReadOptions,
    ) -> Option<Arc<CacheEntry>> {
        let start = self.bus().start_point();
        self.fence(start)?;
        let memory = WorkMemory::new(self.0.share.try_reserve(READY_BYTES.0)?, Instant::now());
        self.look_up_once(RedisRead { key, start, options }, &memory).await
    }

    /// Fetches the dataset of a place, if there is memory for it.
    async fn fetch<'m>(
        &self,
        place: DatasetPlace,
        memory: &'m WorkMemory,
    ) -> Result<Option<Received<'m>>, RedisFault> {
        let ready = MemoryInUse { bytes: take_ready(memory), memory };
        match self.bus().fetch(place.clone(), ready.bytes).await? {
            Lookup::Hit(fetched) => Ok(Some(Received { fetched, _in_use: ready })),
            Lookup::Large(bytes) => {
                drop(ready);
                Ok(self.fetch_large(place, bytes, memory).await)
            }
            Lookup::Miss => Ok(None),
        }
    }

    /// Fetches a dataset of which only the size is known. One that is larger than any that is
    /// stored counts as a miss.
    async fn fetch_large<'m>(
        &self,
        place: DatasetPlace,
        bytes: u64,
        memory: &'m WorkMemory,
    ) -> Option<Received<'m>> {
        if bytes > envelope::STORED_BYTES_MAX {
            self.0.metrics.redis_oversized.inc();
            return None;
        }
        // The permit is not awaited with the memory in hand, for which others may wait; nor is the
        // permit held for long while memory is awaited.
        let _turn = self.bus().read_permit(bytes).await.ok()?;
        let reserved = timeout(LARGE_READ_MAX, memory.take(COPIES * bytes)).await;
        if !matches!(reserved, Ok(Ok(()))) {
            self.0.metrics.redis_no_memory.inc();
            return None;
        }
        let mut in_use = MemoryInUse { bytes: COPIES * bytes, memory };
        match self.bus().fetch(place, bytes).await {
            Ok(Lookup::Hit(fetched)) => {
                // The connection's copy has gone with it, and the library's.
                in_use.shrink_to(bytes);
                Some(Received { fetched, _in_use: in_use })
            }
            // Gone, or larger by now; or a fault, which the bus has counted.
            _ => None,
        }
    }

    /// Judges a dataset received from Redis as a source's answer is judged: by the invalidations
    /// that were applied here, and by the rules in force here.
    fn admit(
        &self,
        reading: RedisRead<'_>,
        fetched: &FetchedDataset,
        memory: &WorkMemory,
    ) -> Result<Arc<CacheEntry>, Rejection> {
        let RedisRead { key, start, options } = reading;
        if self.bus().has_outdated(key, fetched) {
            self.0.metrics.redis_outdated.inc();
            return Err(Rejection::Outdated);
        }
        let fence = self.bus().may_store_fetched(start, key, fetched);
        let mut taken_bytes = 0;
        let take_memory = |bytes| {
            let fits = memory.try_take(bytes);
            taken_bytes += if fits { bytes } else { 0 };
            fits
        };
        let decoded =
            self.decode(&self.place(key), &fetched.dataset, fetched.ttl_left, take_memory);
        let entry =
            decoded.map(|decoded| self.entry_of(decoded, &fetched.dataset.tags, fence, memory));
        memory.give_back(taken_bytes);
        let entry = match entry {
            Ok(entry) => entry,
            Err(DecodeError::Unreadable) => {
                self.0.metrics.redis_unreadable.inc();
                return Err(Rejection::Unreadable);
            }
            Err(DecodeError::NoMemory) => {
                self.0.metrics.redis_no_memory.inc();
                return Err(Rejection::Unreadable);
            }
        };
        let is_fresh = self.0.policy.is_fresh(&entry, options, Instant::now());
        is_fresh.then_some(entry).ok_or(Rejection::TooOld)
    }

    fn decode(
        &self,
        place: &DatasetPlace,
        stored: &TierDataset,
        left: Duration,
        take_memory: impl FnMut(u64) -> bool,
    ) -> Result<DecodedEntry, DecodeError> {
        let context = self.seal_context(place, stored.fence, &stored.tags);
        let domain = self.0.policy.domain();
        envelope::decode(stored, left, domain, self.0.seal.as_ref(), &context, take_memory)
    }

    /// Makes an entry of the decoded dataset. It exists, and its memory is counted.
    fn entry_of(
        &self,
        decoded: DecodedEntry,
        tags: &[Arc<str>],
        fence: Option<EntryFence>,
        memory: &WorkMemory,
    ) -> Arc<CacheEntry> {
        let DecodedEntry { content, old, left } = decoded;
        let now = Instant::now();
        // A machine that has been up for less than that cannot express the instant; it is old
        // enough.
        let collected = now.checked_sub(old).unwrap_or(now);
        let lifetime = Lifetime {
            collected,
            fresh: now + left - collected,
            retained: self.0.policy.retention(&content, left),
        };
        let reservation = memory.split(content.weight() as u64).move_to(&self.0.entries_share);
        CacheEntry::new(content, tags.to_vec(), lifetime, fence, reservation)
    }

    /// The entry of a key in Redis, for debugging. It is not put into memory.
    pub(super) async fn inspect(&self, key: &Arc<str>) -> Result<Option<RedisEntry>, RedisFault> {
        let place = self.place(key);
        let memory = WorkMemory::new(self.0.share.charge(0), Instant::now());
        let Some(received) = self.fetch(place.clone(), &memory).await? else { return Ok(None) };
        let FetchedDataset { dataset, ttl_left: left, .. } = &received.fetched;
        let decoded = self.decode(&place, dataset, *left, |bytes| memory.try_take(bytes));
        let entry =
            decoded.ok().map(|decoded| self.entry_of(decoded, &dataset.tags, None, &memory));
        let bytes = dataset.body.len();
        Ok(Some(RedisEntry { fence: dataset.fence, left: *left, bytes, entry }))
    }

    /// Stores an entry under the fence of its flight. Redis decides: its script refuses a dataset
    /// that was invalidated since that fence.
    pub(super) async fn store(
        &self,
        key: &Arc<str>,
        entry: Arc<CacheEntry>,
        fence: Fence,
        memory: &WorkMemory,
    ) {
        // It is written out, compressed and sealed: each is a copy.
        let fits = memory.try_take(3 * entry.body_bytes() as u64);
        let (true, Ok(_slot)) = (fits, self.0.stores.try_acquire()) else {
            self.0.metrics.redis_full.inc();
            return;
        };
        let now = Instant::now();
        let left = entry.fresh_until(self.0.policy.rules()).saturating_duration_since(now);
        if left.is_zero() {
            return;
        }
        let place = self.place(key);
        let context = self.seal_context(&place, fence, entry.tags());
        let seal = self.0.seal.clone();
        let tags = entry.tags().to_vec();
        let encoding = entry.clone();
        let encode = move || envelope::encode(&encoding, now, left, seal.as_ref(), &context);
        let Ok(Ok(body)) = tokio::task::spawn_blocking(encode).await else {
            self.0.metrics.redis_too_large.inc();
            return;
        };
        let dataset = TierDataset { fence, tags, body: body.into() };
        match self.bus().store(place, dataset, entry.age(Instant::now()), left).await {
            Ok(true) => self.0.metrics.redis_stored.inc(),
            Ok(false) => self.0.metrics.redis_refused.inc(),
            // The bus has counted it.
            Err(_) => return,
        };
    }

    /// The associated data of a seal; empty where there is no key.
    fn seal_context(&self, place: &DatasetPlace, fence: Fence, tags: &[Arc<str>]) -> Vec<u8> {
        if self.0.seal.is_none() {
            Vec::new()
        } else {
            envelope::context(&self.bus().redis_key(place), fence, tags)
        }
    }

    fn place(&self, key: &Arc<str>) -> DatasetPlace {
        DatasetPlace { key: key.clone(), plan: self.0.policy.domain().plan.0.clone() }
    }

    fn bus(&self) -> &DomainBus {
        self.0.policy.bus()
    }

    fn claim_keeper(&self) -> ClaimKeeper {
        ClaimKeeper {
            bus: self.bus().clone(),
            lost: self.0.metrics.claims_lost.clone(),
            tasks: self.0.tasks.clone(),
        }
    }
}
