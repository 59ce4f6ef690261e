//! The counters of the cache. No label holds a key or a tag.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The counters of the cache; clones share them.
#[derive(Debug, Clone, Default)]
pub struct CacheMetrics {
    /// Hits in memory.
    pub(super) memory_hits: Counter,
    /// Hits in Redis.
    pub(super) redis_hits: Counter,
    /// Reads that no tier could answer.
    pub(super) misses: Counter,
    /// Callers who joined a flight in progress.
    pub(super) collapsed: Counter,
    /// Callers who joined a flight, waited for as long as they could, and began one of their own.
    pub(super) unshared: Counter,
    /// Expired datasets that were served because sources failed.
    pub(super) stale: Counter,
    /// Entries that were stored.
    pub(super) stored: Counter,
    /// Datasets that were collected and not stored, because they were invalidated meanwhile.
    pub(super) fenced: Counter,
    /// Entries that were evicted from memory for want of room.
    pub(super) evictions: Counter,
    /// Entries that expired in memory.
    pub(super) expirations: Counter,
    /// Flights in the air.
    pub(super) flights: Gauge,
    /// Flights that were abandoned because all callers had left.
    pub(super) abandoned: Counter,
    /// Reads refused because there was no memory for their flight.
    pub(super) flights_refused: Counter,
    /// Flights that ended without a result: a panic.
    pub(super) lost: Counter,
    /// Datasets that were not kept for want of their tags.
    tags_refused: Family<TagsLabels, Counter>,
    /// Flights that waited for another sidecar's.
    pub(super) fleet_waits: Counter,
    /// Claims that were lost while their flight was in the air.
    pub(super) claims_lost: Counter,
    /// Flights that collected without a claim: Redis was slow or away, or those they waited for
    /// left nothing.
    pub(super) claims_missed: Counter,
    /// Answers kept in Redis.
    pub(super) redis_stored: Counter,
    /// Answers that Redis refused, because they were invalidated in the air.
    pub(super) redis_refused: Counter,
    /// Entries in Redis that could not be read: of another format, or sealed with another key.
    pub(super) redis_unreadable: Counter,
    /// Entries that Redis handed out although an invalidation that was applied here outdates them.
    pub(super) redis_outdated: Counter,
    /// Entries in Redis that are larger than any that is stored there.
    pub(super) redis_oversized: Counter,
    /// Entries in Redis for which there was no memory.
    pub(super) redis_no_memory: Counter,
    /// Answers not kept in Redis because they are too large.
    pub(super) redis_too_large: Counter,
    /// Answers not kept in Redis because too many were on their way there.
    pub(super) redis_full: Counter,
    /// Changes of the seal keys that were refused.
    pub(super) seal_reload_failures: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TagsLabels {
    domain: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TierLabels {
    tier: &'static str,
}

/// A counter with its name and its help.
type NamedCounter<'m> = (&'static str, &'static str, &'m Counter);

impl CacheMetrics {
    /// Creates and registers them; without a Redis there are no hits of that tier to report.
    pub fn register(registry: &mut Registry, has_redis: bool) -> Self {
        let hits = Family::<TierLabels, Counter>::default();
        registry.register("cache_hits", "Reads answered by a tier", hits.clone());
        let of_tier = |tier| hits.get_or_create(&TierLabels { tier }).clone();
        let metrics = Self {
            memory_hits: of_tier("memory"),
            redis_hits: if has_redis { of_tier("redis") } else { Counter::default() },
            ..Self::default()
        };
        for (name, help, counter) in metrics.read_and_flight_counters() {
            registry.register(name, help, counter.clone());
        }
        for (name, help, counter) in metrics.redis_counters() {
            registry.register(name, help, counter.clone());
        }
        registry.register("flights", "Flights in the air", metrics.flights.clone());
        let help = "Datasets served and not kept, for want of their tags";
        registry.register("tags_failed", help, metrics.tags_refused.clone());
        metrics
    }

    /// The counters of reads, of memory and of flights, each with its name and its help.
    fn read_and_flight_counters(&self) -> [NamedCounter<'_>; 14] {
        [
            ("cache_misses", "Reads that no tier could answer", &self.misses),
            ("cache_collapsed", "Reads that joined a flight in the air", &self.collapsed),
            (
                "cache_unshared",
                "Reads that joined a flight, waited as long as they could, \
                 and had one of their own begun",
                &self.unshared,
            ),
            ("cache_stale_served", "Expired datasets served because sources failed", &self.stale),
            ("cache_stored", "Answers of the sources that were kept", &self.stored),
            (
                "cache_fenced",
                "Answers not kept because they were invalidated in the air",
                &self.fenced,
            ),
            ("cache_evictions", "Answers that left memory for want of room", &self.evictions),
            (
                "cache_expirations",
                "Answers that left memory because they were of no more use",
                &self.expirations,
            ),
            (
                "flights_abandoned",
                "Flights given up because nobody waited for them any more",
                &self.abandoned,
            ),
            (
                "flights_refused",
                "Flights refused for want of memory, or for their number",
                &self.flights_refused,
            ),
            ("flights_lost", "Flights that ended without a result", &self.lost),
            ("fleet_waits", "Flights that waited for another sidecar's", &self.fleet_waits),
            ("claims_lost", "Claims lost while their flight was in the air", &self.claims_lost),
            (
                "claims_missed",
                "Flights that collected without a claim: Redis slow, or nothing left by others",
                &self.claims_missed,
            ),
        ]
    }

    /// The counters of what Redis keeps, each with its name and its help.
    fn redis_counters(&self) -> [NamedCounter<'_>; 9] {
        [
            ("redis_stored", "Answers of the sources kept in Redis", &self.redis_stored),
            (
                "redis_refused",
                "Answers that Redis refused, invalidated in the air",
                &self.redis_refused,
            ),
            (
                "redis_unreadable",
                "Datasets in Redis of another format or seal",
                &self.redis_unreadable,
            ),
            (
                "redis_outdated",
                "Datasets that Redis vouched for and an invalidation applied here outdates",
                &self.redis_outdated,
            ),
            (
                "redis_no_memory",
                "Datasets in Redis not read for want of memory",
                &self.redis_no_memory,
            ),
            (
                "redis_oversized",
                "Datasets in Redis beyond 16 MiB, taken for none",
                &self.redis_oversized,
            ),
            ("redis_too_large", "Answers not kept in Redis for their size", &self.redis_too_large),
            (
                "redis_stores_dropped",
                "Answers not kept in Redis, too many on their way",
                &self.redis_full,
            ),
            (
                "seal_reload_failures",
                "Changes of the seal keys that were refused",
                &self.seal_reload_failures,
            ),
        ]
    }

    /// The datasets of a domain that were not stored for a reason to do with their tags. The
    /// counter exists, at nought, from the first call on.
    pub(super) fn tags_refused(&self, domain: &str, reason: &'static str) -> Counter {
        let labels = TagsLabels { domain: domain.to_owned(), reason };
        self.tags_refused.get_or_create(&labels).clone()
    }
}
