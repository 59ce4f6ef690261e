//! The work of a flight, top to bottom in [`Fetcher::fetch`]: look the key up in Redis and claim
//! it, collect, find the tags, store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::entry::{CacheEntry, EntryContent, Lifetime};
use super::events::CollectionEvents;
use super::flight::{Flight, FlightOrigin, FlightResult, NotStoredReason};
use super::flight_table::{FetchOutcome, FlightStart};
use super::memory::MemoryTier;
use super::metrics::CacheMetrics;
use super::patience::CollectionTime;
use super::policy::Policy;
use super::redis_tier::{FleetClaim, RedisTier, TierLookup};
use super::tags::Tagger;
use crate::coherence::{Fence, StartPoint};
use crate::collect::{
    self, CollectContext, CollectError, Collector, Dataset, StoredDataset, Timeline,
};
use crate::resources::{MemoryShare, StoredBytes, WorkMemory};

/// The bytes that a flight takes beside the bodies that it reads: its task, its requests, the
/// handles of its callers. Measured: 8 821 flights of four sources took 154 MB.
const FLIGHT_BYTES: u64 = 16 * 1024;
/// About the bytes that a stored dataset takes beside its body; the exact number is settled once
/// the entry exists.
const STORED_BYTES_BESIDE_BODY: u64 = 1024;

/// Fetches entries for the flights of one domain. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Fetcher(Arc<FetcherParts>);

/// The parts of a fetcher.
#[derive(Debug)]
pub(super) struct FetcherParts {
    pub(super) collector: Arc<Collector>,
    pub(super) policy: Policy,
    pub(super) memory_tier: MemoryTier,
    pub(super) redis_tier: RedisTier,
    pub(super) tagger: Tagger,
    /// The domain's share of memory.
    pub(super) share: MemoryShare,
    pub(super) usual_bytes: UsualBytes,
    pub(super) collection_time: Arc<CollectionTime>,
    pub(super) events: CollectionEvents,
    pub(super) metrics: CacheMetrics,
}

/// The data that a flight has collected.
struct Collected {
    content: EntryContent,
    /// `None` where the `tags` program failed.
    tags: Option<Vec<Arc<str>>>,
    /// When its collection began.
    at: Instant,
}

/// The work of a flight that remains once its callers have their answer.
#[derive(Default)]
struct PostFetch {
    /// The entry that is stored in Redis, and its fence.
    store: Option<(Arc<CacheEntry>, Fence)>,
    claim: Option<FleetClaim>,
    /// The flight's reservation, for the steps that are left.
    memory: Option<WorkMemory>,
}

impl Fetcher {
    pub(super) fn new(parts: FetcherParts) -> Self {
        Self(Arc::new(parts))
    }

    /// Runs a flight, and sends its result to the listeners.
    pub(super) async fn run(self, flight: FlightStart) -> FetchOutcome {
        let FlightStart { key, flight, start } = flight;
        let (result, post_fetch) = self.fetch(&key, &flight, start).await;
        self.0.events.send(&self.0.policy.domain().name, &key, &result);
        FetchOutcome { result, post_fetch: Box::pin(self.finish(key, post_fetch)) }
    }

    /// Reserves memory, looks into Redis, claims the key, collects, finds the tags, stores the
    /// result if it may be stored.
    async fn fetch(
        &self,
        key: &Arc<str>,
        flight: &Flight,
        start: StartPoint,
    ) -> (FlightResult, PostFetch) {
        let began = Instant::now();
        let deadline = began + self.0.policy.domain().deadline;
        let nothing_collected = |result, origin| {
            let timeline = Timeline::without_steps(began);
            (FlightResult { result, timeline, origin }, PostFetch::default())
        };
        let Some(memory) = self.reserve_memory(began, deadline).await else {
            self.0.metrics.flights_refused.inc();
            return nothing_collected(Err(CollectError::no_memory()), not_from_tier(None));
        };

        let claim = match self.0.redis_tier.look_up(key, flight, start, &memory).await {
            TierLookup::Hit(entry) => {
                if flight.may_store() {
                    self.insert_into_memory(key, &entry);
                }
                return nothing_collected(Ok(entry), FlightOrigin::Redis);
            }
            TierLookup::Acquired(claim) => Some(claim),
            TierLookup::Miss => None,
        };

        let collected_at = Instant::now();
        let collecting = self.collect(key, flight, deadline, &memory);
        let (result, timeline) = match &claim {
            None => collecting.await,
            Some(claim) => tokio::select! {
                done = collecting => done,
                never = claim.renew_until_lost() => match never {},
            },
        };
        if matches!(result, Ok(_) | Err(CollectError::NotFound { .. })) {
            self.0.collection_time.note(timeline.took);
        }
        // From here on the flight runs to its end, even once its callers have left.
        let _finishing = flight.outstanding.begin();
        let failed = |error, timeline, claim| {
            let origin = not_from_tier(None);
            let result = FlightResult { result: Err(error), timeline, origin };
            (result, PostFetch { claim, ..PostFetch::default() })
        };
        let dataset = match result {
            Ok(dataset) => Some(dataset),
            Err(CollectError::NotFound { .. }) => None,
            Err(error) => return failed(error, timeline, claim),
        };
        if memory.take(stored_bytes(dataset.as_ref())).await.is_err() {
            return failed(CollectError::no_memory(), timeline, claim);
        }

        let tags = self.0.tagger.find_tags(dataset.as_ref(), deadline).await;

        let content = dataset.map_or(EntryContent::NotFound, |dataset| {
            EntryContent::Dataset(StoredDataset::new(&dataset))
        });
        let collected = Collected { content, tags, at: collected_at };
        let (entry, not_stored) = self.store(key, flight, start, collected, &memory);
        let store = self.redis_store_plan(start, &entry);
        let origin = not_from_tier(not_stored);
        (
            FlightResult { result: Ok(entry), timeline, origin },
            PostFetch { store, claim, memory: Some(memory) },
        )
    }

    /// Stores the entry in Redis, then releases the claim: flights that wait for the claim then
    /// find the entry.
    async fn finish(self, key: Arc<str>, post_fetch: PostFetch) {
        let PostFetch { store, claim, memory } = post_fetch;
        if let Some(memory) = &memory {
            if let Some((entry, fence)) = store {
                self.0.redis_tier.store(&key, entry, fence, memory).await;
            }
            self.0.usual_bytes.note(memory.peak());
        }
        if let Some(claim) = claim {
            claim.release().await;
        }
    }

    /// The memory of a flight that begins, as much as flights of this domain took of late; `None`
    /// where no room came free in time.
    async fn reserve_memory(&self, began: Instant, deadline: Instant) -> Option<WorkMemory> {
        let share = &self.0.share;
        let usual = self.0.usual_bytes.get().min(share.limit() / 2).max(FLIGHT_BYTES);
        // The callers learn of the refusal before their deadline.
        let reserved = share.reserve(usual, began + (deadline - began) * 3 / 4).await.ok()?;
        let memory = WorkMemory::new(reserved, deadline);
        // It fits: it was just reserved.
        memory.try_take(FLIGHT_BYTES).then_some(memory)
    }

    async fn collect(
        &self,
        key: &Arc<str>,
        flight: &Flight,
        deadline: Instant,
        memory: &WorkMemory,
    ) -> (Result<Dataset, CollectError>, Timeline) {
        let unanswered = &flight.progress.unanswered;
        let work = CollectContext { memory, outstanding: &flight.outstanding, unanswered };
        let options = &flight.options.collect;
        let mut options = collect::CollectOptions { deadline: Some(deadline), ..options.clone() };
        options.no_cache |= flight.no_cache();
        let previous = self.0.memory_tier.get(key);
        // The parts are a copy, and may be copied into the next dataset: without memory for that
        // the sources are asked without conditions.
        let previous = previous.filter(|entry| memory.try_take(2 * entry.body_bytes() as u64));
        options.previous_parts = previous
            .and_then(|entry| entry.dataset(self.0.policy.domain()))
            .map(|dataset| dataset.parts);
        self.0.collector.collect(key, options, work).await
    }

    /// Makes an entry of the collected dataset and stores it in memory, if it may be stored; else
    /// returns the reason.
    fn store(
        &self,
        key: &Arc<str>,
        flight: &Flight,
        start: StartPoint,
        collected: Collected,
        memory: &WorkMemory,
    ) -> (Arc<CacheEntry>, Option<NotStoredReason>) {
        let Collected { content, tags, at } = collected;
        let policy = &self.0.policy;
        let ttl = jittered(content.ttl(policy.rules()));
        let is_storable = flight.may_store() && policy.is_cacheable() && !ttl.is_zero();
        let fence = tags
            .as_ref()
            .filter(|_| is_storable)
            .and_then(|tags| policy.bus().may_store(start, key, tags));
        let not_stored =
            fence.is_none().then(|| self.not_stored_reason(flight, ttl, tags.is_some()));
        let retained = policy.retention(&content, ttl);
        let lifetime = Lifetime { collected: at, fresh: ttl, retained };
        let weight = content.weight() as u64 + STORED_BYTES_BESIDE_BODY;
        let reservation = memory.split(weight).move_to(self.0.memory_tier.share());
        let entry =
            CacheEntry::new(content, tags.unwrap_or_default(), lifetime, fence, reservation);
        match not_stored {
            None => {
                self.0.metrics.stored.inc();
                self.insert_into_memory(key, &entry);
            }
            Some(NotStoredReason::Fenced) => drop(self.0.metrics.fenced.inc()),
            Some(_) => {}
        }
        (entry, not_stored)
    }

    /// Puts an entry into memory, if the protocol has given it a fence.
    fn insert_into_memory(&self, key: &Arc<str>, entry: &Arc<CacheEntry>) {
        if entry.fence().is_some() {
            let is_valid = |existing: &CacheEntry| self.0.policy.is_current(existing, key);
            self.0.memory_tier.insert(key, entry, is_valid);
        }
    }

    /// The reason why a flight's result is not stored.
    fn not_stored_reason(&self, flight: &Flight, ttl: Duration, has_tags: bool) -> NotStoredReason {
        if !self.0.policy.is_cacheable() || ttl.is_zero() {
            NotStoredReason::Off
        } else if !flight.may_store() {
            NotStoredReason::NoStore
        } else if !has_tags {
            NotStoredReason::NoTags
        } else if !self.0.policy.bus().has_lease() {
            NotStoredReason::LeaseLost
        } else {
            NotStoredReason::Fenced
        }
    }

    /// The entry to store in Redis, and its fence. An entry that memory may not keep is not stored
    /// there either.
    fn redis_store_plan(
        &self,
        start: StartPoint,
        entry: &Arc<CacheEntry>,
    ) -> Option<(Arc<CacheEntry>, Fence)> {
        entry.fence()?;
        Some((entry.clone(), self.0.redis_tier.fence(start)?))
    }
}

fn not_from_tier(not_stored: Option<NotStoredReason>) -> FlightOrigin {
    FlightOrigin::Sources { not_stored }
}

/// The bytes that an entry takes beside those that its collection took. A large body is stored as
/// it is, a small one as a copy.
fn stored_bytes(dataset: Option<&Dataset>) -> u64 {
    let body_bytes = dataset.map_or(0, |dataset| dataset.body.len());
    let copied = if StoredBytes::is_shared_size(body_bytes) { 0 } else { body_bytes as u64 };
    copied + STORED_BYTES_BESIDE_BODY
}

/// Up to a twentieth less, so that datasets which were collected together do not expire together.
fn jittered(ttl: Duration) -> Duration {
    ttl.mul_f64(1.0 - fastrand::f64() / 20.0)
}

/// The bytes that flights of a domain took of late, which the next one reserves before it begins.
#[derive(Debug, Default)]
pub(super) struct UsualBytes(AtomicU64);

impl UsualBytes {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// A flight took so much at the most: it is expected again, and forgotten by an eighth with
    /// each that takes less.
    fn note(&self, bytes: u64) {
        let usual = self.get();
        self.0.store(bytes.max(usual - usual / 8), Ordering::Relaxed);
    }
}
