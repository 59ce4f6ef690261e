//! One read: memory where the protocol allows it, else a flight.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::flight::{Air, Board, Landing};
use super::happening::{Happenings, NotKept};
use super::kept::{Content, Kept};
use super::memory::{Memory, Slot};
use super::metrics::Metrics;
use super::token::Token;
use crate::bus::DomainBus;
use crate::coherence::Start;
use crate::collect::{self, CollectError, Collector, Timeline};
use crate::domain::CacheRules;
use crate::shape::{Budget, CompileError, Program};

/// One domain's cache, for one plan. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    collector: Arc<Collector>,
    tags: Option<Arc<Program>>,
    bus: DomainBus,
    shared: Shared,
    board: Board,
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
    /// Bounds the programs that run at once.
    pub programs: Arc<Semaphore>,
    /// `--no-cache`: nothing is kept.
    pub off: bool,
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

/// What a caller asks beyond the key.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Ask the sources again, in a flight begun after the caller came.
    pub no_cache: bool,
    /// Keep nothing for this caller's sake.
    pub no_store: bool,
    /// Nothing older.
    pub max_age: Option<Duration>,
    /// From a cache, or not at all.
    pub only_if_cached: bool,
    /// At least as new as an invalidation.
    pub after: After,
    /// What a flight of this caller's asks the sources with.
    pub collect: collect::Wish,
}

/// `Bfb-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It was not sent.
    Anything,
    /// This invalidation.
    Token(Token),
    /// Something that is no token: it names an invalidation that surely was not applied.
    Unknown,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Served {
    /// What the sources said, now or before.
    pub kept: Arc<Kept>,
    /// Where it came from.
    pub how: How,
    /// The collection, if there was one.
    pub timeline: Option<Timeline>,
}

/// Where an answer came from: what `Cache-Status` says (RFC 9211).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// From memory, fresh for so many seconds.
    Memory {
        /// Seconds.
        ttl: i64,
    },
    /// From memory, expired, because sources failed.
    SourceFailed {
        /// Seconds, below zero.
        ttl: i64,
    },
    /// Collected because it was not there.
    Miss {
        /// It was kept.
        stored: bool,
    },
    /// Collected by a flight that was there.
    Collapsed,
    /// Collected because the request wished it.
    Request {
        /// It was kept.
        stored: bool,
    },
    /// Collected because nothing is kept.
    Bypass,
    /// From memory although the lease is lost (`--bus-loss stale`).
    BusLost {
        /// Seconds.
        ttl: i64,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub enum ReadError {
    /// The collection failed.
    Collect(CollectError, Option<Timeline>),
    /// `only-if-cached`, and it is not.
    NotCached,
    /// The lease is lost, and `--bus-loss fail` was chosen.
    BusLost,
}

/// How often a caller whose flight was lost (a panic) is seated again.
const SEATINGS_MAX: usize = 2;
/// An expired dataset is kept this long at most for its validators alone.
const VALIDATORS_LAST: Duration = Duration::from_mins(1);

impl Cache {
    /// The cache of `collector`'s domain.
    pub fn new(collector: Arc<Collector>, bus: DomainBus, shared: Shared) -> Result<Self, CompileError> {
        let tags = collector.domain().cache.tags.as_deref().map(Program::compile).transpose()?.map(Arc::new);
        Ok(Self(Arc::new(Inner { collector, tags, bus, shared, board: Board::default() })))
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

    /// What is kept of a key, and whether it is believed: for whoever debugs.
    pub fn peek(&self, key: &str) -> Option<(Arc<Kept>, bool)> {
        let key: Arc<str> = key.into();
        let kept = self.0.shared.memory.get(&self.slot(&key))?;
        let believed = self.believes(&kept, &key);
        Some((kept, believed))
    }

    /// Answers `key`.
    pub async fn read(&self, key: &str, wish: &Wish) -> Result<Served, ReadError> {
        if self.0.shared.memory.is_off() {
            return self.read_alone(key, wish).await;
        }
        let key: Arc<str> = key.into();
        let now = Instant::now();
        let believed = self.0.shared.memory.get(&self.slot(&key)).filter(|kept| self.believes(kept, &key));
        let fresh = wish.no_cache || !self.has_applied(wish.after);
        let too_old = |kept: &Arc<Kept>| wish.max_age.is_some_and(|max| kept.age(now) > max);
        let wished = fresh || believed.as_ref().is_some_and(too_old);
        if let Some(kept) = believed.as_ref().filter(|kept| !wished && kept.fresh_until > now) {
            self.metrics().memory_hits.inc();
            let how = How::Memory { ttl: kept.ttl_seconds(now) };
            return Ok(Served { kept: kept.clone(), how, timeline: None });
        }
        if !self.0.bus.lease_held() {
            match (self.0.shared.bus_loss, self.stand_in(&key, wished, now)) {
                (BusLoss::Fail, _) => return Err(ReadError::BusLost),
                (BusLoss::Stale, Some(served)) => return Ok(served),
                _ => {}
            }
        }
        if wish.only_if_cached {
            return Err(ReadError::NotCached);
        }
        self.metrics().misses.inc();
        let (landing, joined) = self.fly_or_join(&key, wish, fresh).await?;
        let timeline = Some(landing.timeline.clone());
        let error = match &landing.result {
            Ok(kept) => {
                let how = self.how(wished, joined, landing.stored);
                return Ok(Served { kept: kept.clone(), how, timeline });
            }
            Err(error) => error.clone(),
        };
        match believed.filter(|kept| !wished && self.may_be_stale(kept, &key)) {
            Some(kept) => {
                self.metrics().stale.inc();
                let how = How::SourceFailed { ttl: kept.ttl_seconds(Instant::now()) };
                Ok(Served { kept, how, timeline })
            }
            None => Err(ReadError::Collect(error, timeline)),
        }
    }

    /// What memory holds of a key while the lease is lost.
    fn stand_in(&self, key: &Arc<str>, wished: bool, now: Instant) -> Option<Served> {
        let kept = self.0.shared.memory.get(&self.slot(key)).filter(|_| !wished)?;
        let fine = kept.fresh_until > now && self.not_outdated(&kept, key);
        let how = How::BusLost { ttl: kept.ttl_seconds(now) };
        fine.then_some(Served { kept, how, timeline: None })
    }

    /// Without a memory each caller collects for itself, and takes the collection along when it goes away.
    async fn read_alone(&self, key: &str, wish: &Wish) -> Result<Served, ReadError> {
        if wish.only_if_cached {
            return Err(ReadError::NotCached);
        }
        let began = Instant::now();
        let collect = collect::Wish { no_cache: wish.no_cache, ..wish.collect.clone() };
        let (result, timeline) = self.0.collector.collect(key, collect).await;
        let content = match result {
            Ok(dataset) => Content::Dataset(dataset),
            Err(CollectError::NotFound { .. }) => Content::NotFound,
            Err(error) => {
                self.tell_alone(key, Err(&error), &timeline);
                return Err(ReadError::Collect(error, Some(timeline)));
            }
        };
        let kept = Arc::new(Kept::new(content, Vec::new(), began, Duration::ZERO, None));
        self.tell_alone(key, Ok(&kept), &timeline);
        let how = if wish.no_cache { How::Request { stored: false } } else { How::Miss { stored: false } };
        Ok(Served { kept, how, timeline: Some(timeline) })
    }

    fn has_applied(&self, after: After) -> bool {
        match after {
            After::Anything => true,
            After::Token(token) => self.0.bus.has_applied(token.0),
            After::Unknown => false,
        }
    }

    /// Something more was rendered of what is kept: it weighs more now.
    pub fn reweigh(&self, key: &str, kept: &Arc<Kept>) {
        let slot = self.slot(&key.into());
        if self.0.shared.memory.get(&slot).is_some_and(|there| Arc::ptr_eq(&there, kept)) {
            let lasts = self.lasts(kept).saturating_sub(kept.age(Instant::now()));
            self.0.shared.memory.put(slot, kept.clone(), lasts);
        }
    }

    fn rules(&self) -> &CacheRules {
        &self.0.collector.domain().cache
    }

    pub(super) fn keeps(&self) -> bool {
        !self.0.shared.off && !self.rules().ttl.is_zero()
    }

    fn slot(&self, key: &Arc<str>) -> Slot {
        let domain = self.0.collector.domain();
        Slot { domain: domain.name.clone(), plan: domain.plan.0.clone(), key: key.clone() }
    }

    /// Whether memory may answer with it: while the lease holds, and if nothing has outdated it.
    fn believes(&self, kept: &Kept, key: &str) -> bool {
        self.0.bus.ask(|sidecar, now| {
            sidecar.may_serve(now) && kept.mark.is_some_and(|mark| sidecar.believes(mark, key, &kept.tags))
        })
    }

    /// The same without the lease: nothing that was heard of has outdated it.
    fn not_outdated(&self, kept: &Kept, key: &str) -> bool {
        kept.mark.is_some_and(|mark| self.0.bus.believes(mark, key, &kept.tags))
    }

    fn may_be_stale(&self, kept: &Kept, key: &str) -> bool {
        kept.fresh_until + self.rules().stale_if_error > Instant::now() && self.believes(kept, key)
    }

    fn how(&self, wished: bool, joined: bool, stored: bool) -> How {
        if !self.keeps() || !self.0.bus.lease_held() {
            How::Bypass
        } else if joined {
            How::Collapsed
        } else if wished {
            How::Request { stored }
        } else {
            How::Miss { stored }
        }
    }

    async fn fly_or_join(&self, key: &Arc<str>, wish: &Wish, fresh: bool) -> Result<(Arc<Landing>, bool), ReadError> {
        // Nobody waits longer than a collection of their own could take.
        let until = Instant::now() + self.0.collector.domain().deadline + collect::GRACE;
        for _ in 0..SEATINGS_MAX {
            let ticket = self.seat(key, wish, fresh);
            let joined = ticket.joined;
            if joined {
                self.metrics().collapsed.inc();
            }
            match tokio::time::timeout_at(until, ticket.landing()).await {
                Ok(Some(landing)) => return Ok((landing, joined)),
                Ok(None) => tracing::error!(domain = %self.0.collector.domain().name, "a flight was lost"),
                Err(_) => break,
            }
        }
        Err(ReadError::Collect(self.0.collector.late(), None))
    }

    /// A flight: collects, finds the tags, keeps what may be kept.
    pub(super) async fn fly(&self, key: &Arc<str>, air: &Air, start: Start) -> Landing {
        let began = Instant::now();
        let slot = self.slot(key);
        let mut wish = air.wish.collect.clone();
        wish.no_cache |= air.no_cache();
        wish.known = self.0.shared.memory.get(&slot).and_then(|kept| kept.dataset().map(|known| known.parts.clone()));
        let (result, timeline) = self.0.collector.collect(key, wish).await;
        let content = match result {
            Ok(dataset) => Content::Dataset(dataset),
            Err(CollectError::NotFound { .. }) => Content::NotFound,
            Err(error) => return Landing { result: Err(error), timeline, stored: false, refused: None },
        };
        let tags = self.tags(&content).await;
        let wanted = air.store() && self.keeps();
        let mark = tags.as_ref().filter(|_| wanted).and_then(|tags| self.0.bus.may_store(start, key, tags));
        let refused = if mark.is_some() { None } else { Some(self.refusal(air, tags.is_some())) };
        let ttl =
            jittered(if matches!(content, Content::NotFound) { self.rules().missing_ttl } else { self.rules().ttl });
        let kept = Arc::new(Kept::new(content, tags.unwrap_or_default(), began, ttl, mark));
        if mark.is_some() {
            self.metrics().stored.inc();
            let lasts = self.lasts(&kept);
            self.0.shared.memory.put(slot, kept.clone(), lasts);
        } else if refused == Some(NotKept::Fenced) {
            self.metrics().fenced.inc();
        }
        Landing { result: Ok(kept), timeline, stored: mark.is_some(), refused }
    }

    /// How long it is of any use: fresh, then for failing sources, then for its validators.
    fn lasts(&self, kept: &Kept) -> Duration {
        let fresh = kept.fresh_until.saturating_duration_since(kept.collected);
        fresh + self.rules().stale_if_error.max(fresh.min(VALIDATORS_LAST))
    }

    /// The tags of a dataset; `None` where its program failed: what cannot be invalidated by tag must not be kept.
    async fn tags(&self, content: &Content) -> Option<Vec<Arc<str>>> {
        let (Some(program), Content::Dataset(dataset)) = (self.0.tags.clone(), content) else {
            return Some(Vec::new());
        };
        let slot = self.0.shared.programs.clone().acquire_owned().await.ok()?;
        let input = dataset.body.clone();
        let run = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            program.run(&input, Budget::default())
        });
        let tags = run.await.ok().and_then(Result::ok).and_then(|json| parse_tags(&json));
        if tags.is_none() {
            self.metrics().tags_failed.inc();
            tracing::debug!(domain = %self.0.collector.domain().name, "the tags program gave no array of strings");
        }
        tags
    }
}

/// An array of strings, numbers or booleans; `null` members name nothing.
fn parse_tags(json: &[u8]) -> Option<Vec<Arc<str>>> {
    let values: Vec<serde_json::Value> = serde_json::from_slice(json).ok()?;
    let tag = |value: serde_json::Value| match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(Some(text.into())),
        serde_json::Value::Number(number) => Some(Some(number.to_string().into())),
        serde_json::Value::Bool(truth) => Some(Some(truth.to_string().into())),
        _ => Some(None),
    };
    values.into_iter().filter_map(tag).collect()
}

/// Up to a twentieth less, so that what was collected together does not expire together.
fn jittered(ttl: Duration) -> Duration {
    ttl.mul_f64(1.0 - fastrand::f64() / 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_scalars_and_null_names_nothing() {
        let tags = |json: &str| parse_tags(json.as_bytes()).map(|tags| tags.iter().map(ToString::to_string).collect());
        assert_eq!(tags(r#"["a", 1, true, null]"#), Some(vec!["a".to_owned(), "1".to_owned(), "true".to_owned()]));
        assert_eq!(tags("[]"), Some(vec![]));
        assert_eq!(tags(r#"["a", {}]"#), None);
        assert_eq!(tags(r#""a""#), None);
    }
}
