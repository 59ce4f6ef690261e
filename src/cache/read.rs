//! The decision on a read: a hit in memory, an expired entry where that is allowed, or a flight.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::entry::CacheEntry;
use super::events::CollectionEvents;
use super::fetcher::{Fetcher, FetcherParts, UsualBytes};
use super::flight::FlightOrigin;
use super::flight_table::{FlightTable, FlightTableSettings};
use super::memory::{Memory, MemoryTier};
use super::metrics::CacheMetrics;
use super::patience::CollectionTime;
use super::policy::Policy;
use super::programs::{ProgramError, ProgramRunner};
use super::read_options::ReadOptions;
use super::redis_tier::{RedisEntry, RedisTier, RedisTierParts, Seal};
use super::served::{CacheStatus, ReadError, ServedAnswer};
use super::sharing::{Caller, SharedFlights};
use super::tags::{Tagger, TagsRefusals};
use super::verify::{HitVerifier, SampledHit};
use crate::bus::{DomainBus, RedisFault};
use crate::collect::{CollectError, Collector, Timeline};
use crate::domain::{CacheRules, Domain};
use crate::resources::{ComputePool, MemoryAccount, MemoryShare};
use crate::settings::BusLoss;
use crate::shape::{CompileError, Program};

/// One domain's cache, for one plan. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Cache(Arc<CacheInner>);

#[derive(Debug)]
struct CacheInner {
    collector: Arc<Collector>,
    policy: Policy,
    memory_tier: MemoryTier,
    redis_tier: RedisTier,
    flights: SharedFlights,
    collection_time: Arc<CollectionTime>,
    programs: ProgramRunner,
    tagger: Tagger,
    share: MemoryShare,
    verifier: Option<HitVerifier>,
    metrics: CacheMetrics,
    bus_loss: BusLoss,
}

/// The parts that the caches of one process share.
#[derive(Debug, Clone)]
pub struct CacheContext {
    /// Where datasets are kept.
    pub memory: Memory,
    /// The counters.
    pub metrics: CacheMetrics,
    /// Sends an event at the end of each collection.
    pub events: CollectionEvents,
    /// Owns the flights.
    pub tasks: TaskTracker,
    /// The account that flights, answers and programs take their memory from.
    pub account: MemoryAccount,
    /// Where programs run.
    pub compute: ComputePool,
    /// Bounds the flights that run or wait at once.
    pub flights: Arc<Semaphore>,
    /// `--no-cache`: nothing is stored.
    pub off: bool,
    /// Seals entries in Redis, if there is a key.
    pub seal: Option<Seal>,
    /// `--verify`: a sample of the hits is compared with the sources.
    pub verifier: Option<HitVerifier>,
    /// Bounds the answers that are on their way to Redis.
    pub(super) stores: Arc<Semaphore>,
    /// The behaviour while the lease is lost.
    pub bus_loss: BusLoss,
}

impl Cache {
    /// The cache of `collector`'s domain.
    pub fn new(
        collector: Arc<Collector>,
        bus: DomainBus,
        context: CacheContext,
    ) -> Result<Self, CompileError> {
        let domain = collector.domain().clone();
        let name = domain.name.clone();
        let metrics = context.metrics;
        let has_tier = !context.off && (!context.memory.is_off() || !bus.is_standalone());
        let policy = Policy::new(domain.clone(), bus.clone(), has_tier);
        let share = context.account.share();
        let programs = ProgramRunner::new(share.clone(), context.compute.queue());
        let tags = domain.cache.tags.as_deref();
        let tagger = Tagger::new(name.clone(), tags, programs.clone(), metrics.clone())?;
        let memory_tier = MemoryTier::new(context.memory, name.clone(), domain.plan.0.clone());
        let redis_tier = RedisTier::new(RedisTierParts {
            policy: policy.clone(),
            seal: context.seal,
            metrics: metrics.clone(),
            share: share.clone(),
            entries_share: memory_tier.share().clone(),
            stores: context.stores,
            tasks: context.tasks.clone(),
        });
        let collection_time = Arc::new(CollectionTime::default());
        let fetcher = Fetcher::new(FetcherParts {
            collector: collector.clone(),
            policy: policy.clone(),
            memory_tier: memory_tier.clone(),
            redis_tier: redis_tier.clone(),
            tagger: tagger.clone(),
            share: share.clone(),
            usual_bytes: UsualBytes::default(),
            collection_time: collection_time.clone(),
            events: context.events,
            metrics: metrics.clone(),
        });
        let table_settings = FlightTableSettings {
            domain: name,
            deadline: domain.deadline,
            is_kept: policy.is_cacheable(),
            bus,
            collection_time: collection_time.clone(),
            metrics: metrics.clone(),
            permits: context.flights,
            tasks: context.tasks,
        };
        let fetch = Box::new(move |flight| Box::pin(fetcher.clone().run(flight)) as _);
        let table = FlightTable::new(table_settings, fetch);
        let flights =
            SharedFlights { table, collector: collector.clone(), metrics: metrics.clone() };
        Ok(Self(Arc::new(CacheInner {
            collector,
            policy,
            memory_tier,
            redis_tier,
            flights,
            collection_time,
            programs,
            tagger,
            share,
            verifier: context.verifier,
            metrics,
            bus_loss: context.bus_loss,
        })))
    }

    /// The domain of its datasets.
    pub fn domain(&self) -> &Arc<Domain> {
        self.0.policy.domain()
    }

    /// The plan that its flights run.
    pub fn collector(&self) -> &Arc<Collector> {
        &self.0.collector
    }

    /// The domain's part in the coherence protocol.
    pub fn bus(&self) -> &DomainBus {
        self.0.policy.bus()
    }

    /// The domain's share of memory.
    pub fn share(&self) -> &MemoryShare {
        &self.0.share
    }

    /// The rules in force.
    pub fn rules(&self) -> &CacheRules {
        self.0.policy.rules()
    }

    /// Answers `key`.
    pub async fn read(&self, key: &str, options: &ReadOptions) -> Result<ServedAnswer, ReadError> {
        let key: Arc<str> = key.into();
        let now = Instant::now();
        let policy = &self.0.policy;
        // Evaluated before memory is read: an invalidation that is applied in between outdates the
        // entry.
        let sources_only = options.no_cache || !policy.has_applied(&options.after);
        let valid = self.0.memory_tier.get(&key).filter(|entry| policy.is_valid(entry, &key));
        if let Some(entry) = valid.as_ref().filter(|_| !sources_only)
            && policy.is_fresh(entry, options, now)
        {
            self.0.metrics.memory_hits.inc();
            self.sample(&key, entry);
            let status = CacheStatus::Memory { ttl: entry.ttl_seconds(self.rules(), now) };
            return Ok(ServedAnswer { entry: entry.clone(), status, timeline: None });
        }
        if !self.bus().has_lease() {
            match self.0.bus_loss {
                BusLoss::Fail => return Err(ReadError::BusLost),
                BusLoss::Stale if !sources_only => {
                    if let Some(served) = self.serve_without_lease(&key, options, now) {
                        return Ok(served);
                    }
                }
                BusLoss::Stale | BusLoss::Bypass => {}
            }
        }
        if options.only_if_cached {
            return self.read_redis_only(&key, options, sources_only).await;
        }
        self.fetch(key, options, sources_only, valid).await
    }

    /// Answers from memory while the lease is lost (`--bus-loss stale`), if the entry is fresh.
    fn serve_without_lease(
        &self,
        key: &Arc<str>,
        options: &ReadOptions,
        now: Instant,
    ) -> Option<ServedAnswer> {
        let policy = &self.0.policy;
        let entry = self.0.memory_tier.get(key)?;
        let is_servable = policy.is_fresh(&entry, options, now) && policy.is_current(&entry, key);
        let status = CacheStatus::BusLost { ttl: entry.ttl_seconds(self.rules(), now) };
        is_servable.then_some(ServedAnswer { entry, status, timeline: None })
    }

    /// For a caller with `only-if-cached`: Redis's entry, or none.
    async fn read_redis_only(
        &self,
        key: &Arc<str>,
        options: &ReadOptions,
        sources_only: bool,
    ) -> Result<ServedAnswer, ReadError> {
        if sources_only {
            return Err(ReadError::NotCached);
        }
        let entry = self.0.redis_tier.read_once(key, options).await;
        let entry = entry.ok_or(ReadError::NotCached)?;
        if !options.no_store && entry.fence().is_some() {
            let is_valid = |existing: &CacheEntry| self.0.policy.is_current(existing, key);
            self.0.memory_tier.insert(key, &entry, is_valid);
        }
        Ok(self.serve_from_redis(key, entry, None))
    }

    /// Answers with the result of a flight; where its sources fail, with a `valid` entry that has
    /// expired, if that is allowed.
    async fn fetch(
        &self,
        key: Arc<str>,
        options: &ReadOptions,
        sources_only: bool,
        valid: Option<Arc<CacheEntry>>,
    ) -> Result<ServedAnswer, ReadError> {
        let now = Instant::now();
        let is_too_old = |entry: &Arc<CacheEntry>| options.is_too_old(entry, now);
        let is_requested = sources_only || valid.as_ref().is_some_and(is_too_old);
        let patience = self.0.collection_time.patience(now, self.domain().deadline);
        let caller = Caller { options, sources_only, patience };
        let (flight, joined) = self.0.flights.result_for(&key, caller).await?;
        let timeline = Some(flight.timeline.clone());
        let error = match (&flight.result, flight.origin) {
            (Ok(entry), FlightOrigin::Redis) => {
                return Ok(self.serve_from_redis(&key, entry.clone(), timeline));
            }
            (Ok(entry), FlightOrigin::Sources { not_stored }) => {
                self.0.metrics.misses.inc();
                let status = self.miss_status(is_requested, joined, not_stored.is_none());
                return Ok(ServedAnswer { entry: entry.clone(), status, timeline });
            }
            (Err(error), _) => error.clone(),
        };
        self.0.metrics.misses.inc();
        let now = Instant::now();
        let may_be_stale = |entry: &Arc<CacheEntry>| {
            // A key of another type is the caller's mistake, and no failure of a source.
            let is_failure = !matches!(error, CollectError::BadKey { .. });
            let is_acceptable = is_failure && !is_requested && !options.is_too_old(entry, now);
            is_acceptable && self.0.policy.may_be_stale(entry, &key, now)
        };
        let entry = valid.filter(may_be_stale);
        let entry = entry.ok_or_else(|| ReadError::Collect(error, timeline.clone()))?;
        self.0.metrics.stale.inc();
        let status = CacheStatus::SourceFailed { ttl: entry.ttl_seconds(self.rules(), now) };
        Ok(ServedAnswer { entry, status, timeline })
    }

    fn serve_from_redis(
        &self,
        key: &Arc<str>,
        entry: Arc<CacheEntry>,
        timeline: Option<Timeline>,
    ) -> ServedAnswer {
        self.0.metrics.redis_hits.inc();
        self.sample(key, &entry);
        let status = CacheStatus::Redis { ttl: entry.ttl_seconds(self.rules(), Instant::now()) };
        ServedAnswer { entry, status, timeline }
    }

    fn miss_status(&self, is_requested: bool, joined: bool, stored: bool) -> CacheStatus {
        if is_requested && !joined {
            CacheStatus::Request { stored }
        } else if !self.0.policy.is_cacheable() || !self.bus().has_lease() {
            CacheStatus::Bypass
        } else if joined {
            CacheStatus::Collapsed
        } else {
            CacheStatus::Miss { stored }
        }
    }

    /// Hands a hit to the verifier, which compares some of them with the sources.
    fn sample(&self, key: &Arc<str>, entry: &Arc<CacheEntry>) {
        let Some(verifier) = &self.0.verifier else { return };
        verifier.sample(|| SampledHit {
            key: key.clone(),
            entry: entry.clone(),
            policy: self.0.policy.clone(),
            collector: self.0.collector.clone(),
            share: self.0.share.clone(),
        });
    }

    /// Runs `program` over a dataset's body, by `until`, for at most `output_bytes` of JSON. Its
    /// memory is taken from this domain's share.
    pub async fn run_program(
        &self,
        program: Arc<Program>,
        input: Bytes,
        output_bytes: usize,
        until: Instant,
    ) -> Result<Vec<u8>, ProgramError> {
        self.0.programs.run(program, input, output_bytes, until, |json| json).await
    }

    /// Weighs an entry anew: more of it was rendered.
    pub fn reweigh(&self, key: &str, entry: &Arc<CacheEntry>) {
        self.0.memory_tier.reweigh(&key.into(), entry);
    }

    /// The entry of a key in memory, and whether it is valid: for debugging.
    pub fn inspect_memory(&self, key: &str) -> Option<(Arc<CacheEntry>, bool)> {
        let entry = self.0.memory_tier.get(&key.into())?;
        let is_valid = self.0.policy.is_valid(&entry, key);
        Some((entry, is_valid))
    }

    /// The entry of a key in Redis that its script confirms: for debugging.
    pub async fn inspect_redis(&self, key: &str) -> Result<Option<RedisEntry>, RedisFault> {
        self.0.redis_tier.inspect(&key.into()).await
    }

    /// Why datasets of the domain were served and not kept for want of their tags.
    pub fn tags_refusals(&self) -> Vec<TagsRefusals> {
        self.0.tagger.refusals()
    }
}
