//! One read: memory where the protocol allows it, else a flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::flight::{Board, Origin};
use super::happening::Happenings;
use super::kept::{Content, Kept};
use super::memory::{Memory, Slot, SlotPlan};
use super::metrics::Metrics;
use super::patience::CollectionTime;
use super::seal::Seal;
use super::served::{How, ReadError, Served};
use super::sharing::Caller;
use super::tags::RefusalCounts;
use super::verify::Verifier;
use super::wish::{After, Wish};
use crate::bus::DomainBus;
use crate::collect::{Collector, Timeline};
use crate::domain::CacheRules;
use crate::resources::{ComputePool, ComputeQueue, MemoryAccount, MemoryShare};
use crate::shape::{CompileError, Program};

/// One domain's cache, for one plan. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    collector: Arc<Collector>,
    tags: Option<Arc<Program>>,
    /// What this domain draws its memory from.
    share: MemoryShare,
    /// Where this domain's programs run.
    queue: ComputeQueue,
    /// Bytes that a flight takes of late: what the next one reserves before it begins.
    flight_bytes: AtomicU64,
    collection_time: CollectionTime,
    slot_plan: Arc<SlotPlan>,
    bus: DomainBus,
    shared: Shared,
    board: Board,
    tags_refused: RefusalCounts,
}

/// What the caches of one process share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Where datasets are kept.
    pub memory: Memory,
    /// The counters.
    pub metrics: Metrics,
    /// Told what becomes of collections.
    pub happenings: Happenings,
    /// Owns the flights.
    pub tasks: TaskTracker,
    /// What flights, answers and programs take their memory from.
    pub account: MemoryAccount,
    /// Where programs run.
    pub compute: ComputePool,
    /// Bounds the flights that run or wait at once.
    pub flights: Arc<Semaphore>,
    /// `--no-cache`: nothing is kept.
    pub off: bool,
    /// What is kept in Redis is sealed.
    pub seal: Option<Seal>,
    /// `--verify`: a sample of the hits is compared with the sources.
    pub verifier: Option<Verifier>,
    /// Bounds the answers that are on their way to Redis.
    pub stores: Arc<Semaphore>,
    /// What holds while the lease does not.
    pub bus_loss: BusLoss,
}

/// `--bus-loss`: what a sidecar does that has not heard from Redis for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BusLoss {
    /// Collect afresh, keep nothing.
    Bypass,
    /// Serve memory up to its ttl, and say so: *Fresh* does not hold meanwhile.
    Stale,
    /// Answer 503.
    Fail,
}

impl BusLoss {
    /// What becomes of memory meanwhile.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Bypass => "memory is not served from, every read collects",
            Self::Stale => "memory is served from up to its ttl, and may be outdated",
            Self::Fail => "requests are answered 503",
        }
    }
}

impl Cache {
    /// The cache of `collector`'s domain.
    pub fn new(
        collector: Arc<Collector>,
        bus: DomainBus,
        shared: Shared,
    ) -> Result<Self, CompileError> {
        let tags = collector
            .domain()
            .cache
            .tags
            .as_deref()
            .map(Program::compile)
            .transpose()?
            .map(Arc::new);
        shared.metrics.begin(&collector.domain().name);
        let (domain, plan) = (collector.domain().name.clone(), collector.domain().plan.0.clone());
        Ok(Self(Arc::new(Inner {
            tags,
            share: shared.account.share(),
            queue: shared.compute.queue(),
            flight_bytes: AtomicU64::new(0),
            collection_time: CollectionTime::default(),
            slot_plan: Arc::new(SlotPlan::new(domain, plan)),
            collector,
            bus,
            shared,
            board: Board::default(),
            tags_refused: RefusalCounts::default(),
        })))
    }

    /// The plan that it runs.
    pub fn collector(&self) -> &Arc<Collector> {
        &self.0.collector
    }

    /// Its part in the protocol.
    pub fn bus(&self) -> &DomainBus {
        &self.0.bus
    }

    pub(super) fn board(&self) -> &Board {
        &self.0.board
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.shared.metrics
    }

    pub(super) fn happenings(&self) -> &Happenings {
        &self.0.shared.happenings
    }

    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.0.shared.tasks
    }

    pub(super) fn seal(&self) -> Option<&Seal> {
        self.0.shared.seal.as_ref()
    }

    pub(super) fn verifier(&self) -> Option<&Verifier> {
        self.0.shared.verifier.as_ref()
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.0.shared.memory
    }

    /// What this domain draws its memory from.
    pub fn share(&self) -> &MemoryShare {
        &self.0.share
    }

    /// Where this domain's programs run.
    pub(super) fn queue(&self) -> &ComputeQueue {
        &self.0.queue
    }

    pub(super) fn flights_limit(&self) -> &Arc<Semaphore> {
        &self.0.shared.flights
    }

    /// Bytes that a flight takes of late.
    pub(super) fn usual_flight_bytes(&self) -> u64 {
        self.0.flight_bytes.load(Ordering::Relaxed)
    }

    /// A flight took so much at the most: it is expected again, and forgotten by an eighth with
    /// each that takes less.
    pub(super) fn note_flight_bytes(&self, bytes: u64) {
        let usual = self.usual_flight_bytes();
        self.0.flight_bytes.store(bytes.max(usual - usual / 8), Ordering::Relaxed);
    }

    /// How long collections took of late.
    pub(super) fn collection_time(&self) -> &CollectionTime {
        &self.0.collection_time
    }

    /// What finds a dataset's tags.
    pub(super) fn tag_program(&self) -> Option<&Arc<Program>> {
        self.0.tags.as_ref()
    }

    pub(super) fn refusal_counts(&self) -> &RefusalCounts {
        &self.0.tags_refused
    }

    pub(super) fn stores(&self) -> &Semaphore {
        &self.0.shared.stores
    }

    pub(super) fn has_redis(&self) -> bool {
        !self.0.bus.is_alone()
    }

    /// What is kept of a key, and whether it is believed: for whoever debugs.
    pub fn peek(&self, key: &str) -> Option<(Arc<Kept>, bool)> {
        let key: Arc<str> = key.into();
        let kept = self.0.shared.memory.get(&self.slot(&key))?;
        let believed = self.believes(&kept, &key);
        Some((kept, believed))
    }

    /// Answers `key`.
    pub async fn read(&self, key: &str, wish: &Wish) -> Result<Served, ReadError> {
        let key: Arc<str> = key.into();
        let now = Instant::now();
        // Before anything is believed: an invalidation that is applied between the two outdates
        // what is in memory.
        let fresh = wish.no_cache || !self.has_applied(&wish.after);
        let believed =
            self.0.shared.memory.get(&self.slot(&key)).filter(|kept| self.believes(kept, &key));
        let wished = fresh || believed.as_ref().is_some_and(|kept| wish.is_too_old(kept, now));
        let is_fresh = |kept: &&Arc<Kept>| !wished && kept.fresh_until(self.rules()) > now;
        if let Some(kept) = believed.as_ref().filter(is_fresh) {
            self.metrics().memory_hits.inc();
            self.see(&key, kept);
            let how = How::Memory { ttl: kept.ttl_seconds(self.rules(), now) };
            return Ok(Served { kept: kept.clone(), how, timeline: None });
        }
        if !self.0.bus.lease_held() {
            match (self.0.shared.bus_loss, self.stand_in(&key, wish, fresh, now)) {
                (BusLoss::Fail, _) => return Err(ReadError::BusLost),
                (BusLoss::Stale, Some(served)) => return Ok(served),
                _ => {}
            }
        }
        if wish.only_if_cached {
            let kept = if fresh { None } else { self.only_from_redis(&key, wish).await };
            return kept
                .map(|kept| self.answered_by_redis(&key, kept, None))
                .ok_or(ReadError::NotCached);
        }
        let patience = self.collection_time().patience(now, self.0.collector.domain().deadline);
        let (landing, joined) = self.fly_for(&key, Caller { wish, fresh, patience }).await?;
        let timeline = Some(landing.timeline.clone());
        let stored = match landing.from {
            Origin::Redis => None,
            Origin::Sources { refused } => Some(refused.is_none()),
        };
        let error = match (&landing.result, stored) {
            (Ok(kept), None) => return Ok(self.answered_by_redis(&key, kept.clone(), timeline)),
            (Ok(kept), Some(stored)) => {
                self.metrics().misses.inc();
                let how = self.how(wished, joined, stored);
                return Ok(Served { kept: kept.clone(), how, timeline });
            }
            (Err(error), _) => error.clone(),
        };
        self.metrics().misses.inc();
        let now = Instant::now();
        let may_stand_in = |kept: &Arc<Kept>| {
            !wished && !wish.is_too_old(kept, now) && self.may_be_stale(kept, &key, now)
        };
        match believed.filter(may_stand_in) {
            Some(kept) => {
                self.metrics().stale.inc();
                let how = How::SourceFailed { ttl: kept.ttl_seconds(self.rules(), now) };
                Ok(Served { kept, how, timeline })
            }
            None => Err(ReadError::Collect(error, timeline)),
        }
    }

    fn answered_by_redis(
        &self,
        key: &Arc<str>,
        kept: Arc<Kept>,
        timeline: Option<Timeline>,
    ) -> Served {
        self.metrics().redis_hits.inc();
        self.see(key, &kept);
        let how = How::Redis { ttl: kept.ttl_seconds(self.rules(), Instant::now()) };
        Served { kept, how, timeline }
    }

    /// What memory holds of a key while the lease is lost.
    fn stand_in(&self, key: &Arc<str>, wish: &Wish, fresh: bool, now: Instant) -> Option<Served> {
        let kept = self.0.shared.memory.get(&self.slot(key)).filter(|_| !fresh)?;
        let is_fresh = kept.fresh_until(self.rules()) > now && !wish.is_too_old(&kept, now);
        let fine = is_fresh && self.not_outdated(&kept, key);
        let how = How::BusLost { ttl: kept.ttl_seconds(self.rules(), now) };
        fine.then_some(Served { kept, how, timeline: None })
    }

    fn has_applied(&self, after: &After) -> bool {
        match after {
            After::Tokens(tokens) => tokens.iter().all(|token| self.0.bus.has_applied(token.0)),
            After::Unknown => false,
        }
    }

    /// Something more was rendered of what is kept: it weighs more now.
    pub fn reweigh(&self, key: &str, kept: &Arc<Kept>) {
        self.0.shared.memory.reweigh(self.slot(&key.into()), kept);
    }

    /// The rules in force.
    pub fn rules(&self) -> &CacheRules {
        &self.0.collector.domain().cache
    }

    /// Whether anything is kept of this domain.
    pub(super) fn keeps(&self) -> bool {
        let anywhere = !self.0.shared.memory.is_off() || self.has_redis();
        anywhere && !self.0.shared.off && !self.rules().ttl.is_zero()
    }

    /// Keeps it in memory, if the protocol allows that.
    pub(super) fn remember(&self, key: &Arc<str>, kept: &Arc<Kept>) {
        if kept.mark().is_some() {
            let is_valid = |there: &Kept| self.not_outdated(there, key);
            self.0.shared.memory.put(self.slot(key), kept.clone(), is_valid);
        }
    }

    pub(super) fn slot(&self, key: &Arc<str>) -> Slot {
        Slot { plan: self.0.slot_plan.clone(), key: key.clone() }
    }

    /// Whether memory may answer with it: while the lease holds, and if nothing has outdated it.
    fn believes(&self, kept: &Kept, key: &str) -> bool {
        self.0.bus.ask(|sidecar, now| {
            sidecar.may_serve(now)
                && kept.mark().is_some_and(|mark| sidecar.believes(mark, key, kept.tags()))
        })
    }

    /// The same without the lease: nothing that was heard of has outdated it.
    pub(super) fn not_outdated(&self, kept: &Kept, key: &str) -> bool {
        kept.mark().is_some_and(|mark| self.0.bus.believes(mark, key, kept.tags()))
    }

    /// Whether it may stand in, expired, for what sources fail to give: a dataset, not that there
    /// is none.
    fn may_be_stale(&self, kept: &Kept, key: &str, now: Instant) -> bool {
        let until = kept.fresh_until(self.rules()) + self.rules().stale_if_error;
        let is_dataset = matches!(kept.content, Content::Dataset(_));
        is_dataset && self.keeps() && until > now && self.believes(kept, key)
    }

    fn how(&self, wished: bool, joined: bool, stored: bool) -> How {
        if wished && !joined {
            How::Request { stored }
        } else if !self.keeps() || !self.0.bus.lease_held() {
            How::Bypass
        } else if joined {
            How::Collapsed
        } else {
            How::Miss { stored }
        }
    }
}
