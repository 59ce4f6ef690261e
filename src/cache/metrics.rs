//! The counters of the cache. No label holds a key or a tag.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The counters of the cache; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Hits in memory.
    pub(super) memory_hits: Counter,
    /// Reads that memory could not answer.
    pub(super) misses: Counter,
    /// Callers who joined a flight that was there.
    pub(super) collapsed: Counter,
    /// Expired datasets that were served because sources failed.
    pub(super) stale: Counter,
    /// What was kept.
    pub(super) stored: Counter,
    /// What was collected and not kept, because it was invalidated meanwhile.
    pub(super) fenced: Counter,
    /// What left memory for want of room.
    pub(super) evictions: Counter,
    /// Flights in the air.
    pub(super) flights: Gauge,
    /// Flights that ended without a result: a panic.
    pub(super) lost: Counter,
    /// `tags` programs that failed.
    pub(super) tags_failed: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TierLabels {
    tier: &'static str,
}

impl Metrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let hits = Family::<TierLabels, Counter>::default();
        registry.register("cache_hits", "Reads answered by a tier", hits.clone());
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let metrics = Self {
            memory_hits: hits.get_or_create(&TierLabels { tier: "memory" }).clone(),
            misses: counter("cache_misses", "Reads that no tier could answer"),
            collapsed: counter("cache_collapsed", "Reads that joined a flight in the air"),
            stale: counter("cache_stale_served", "Expired datasets served because sources failed"),
            stored: counter("cache_stored", "Answers of the sources that were kept"),
            fenced: counter("cache_fenced", "Answers not kept because they were invalidated in the air"),
            evictions: counter("cache_evictions", "Answers that left memory for want of room"),
            lost: counter("flights_lost", "Flights that ended without a result"),
            tags_failed: counter("tags_failed", "Tags programs that failed; what they were for was not kept"),
            flights: Gauge::default(),
        };
        registry.register("flights", "Flights in the air", metrics.flights.clone());
        metrics
    }
}
