//! One read across the fleet: a flight looks into Redis before it collects, and claims its key, so
//! that one sidecar collects it and the others wait for what that one leaves.
//!
//! Redis is a help and never a condition: what it does not answer within a small bound is a miss,
//! and the flight collects by itself. Nothing of what is believed is decided here: Redis's scripts
//! and the state machine of [`crate::coherence`] do.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::claim::{CLAIM_LASTS, Claim, Wait};
use super::envelope::{self, OpenError, Opened};
use super::flight::Air;
use super::kept::{Kept, Lifetime};
use super::read::Cache;
use super::wish::Wish;
use crate::bus::{Claimed, Fault, LARGE_READ_MAX, Lookup};
use crate::coherence::{Fence, Fetched, Mark, Place, Start, Stored};
use crate::resources::WorkMemory;

/// The bytes of a dataset that are asked for at once, at least and at most: as many as a flight has
/// reserved anyway. A larger one is answered with its size, and asked for again once there is
/// memory for it.
const READY_BYTES: (u64, u64) = (4 * 1024, 256 * 1024);
/// Copies of a large dataset that are there at once as it is read: the connection's, the library's
/// and ours.
const COPIES: u64 = 3;

/// What a flight has come to before it collects.
pub(super) enum Looked {
    /// Redis has the dataset.
    There(Arc<Kept>),
    /// It is to be collected, under a claim if there is one.
    Collect(Option<Claim>),
}

/// Why what Redis handed out is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Untaken {
    /// It cannot be read here, or there is no memory for it.
    Unreadable,
    /// By this domain file's `ttl`, or by the request's `max-age`.
    TooOld,
    /// An invalidation that was applied here outdates it, though Redis vouches for it.
    Outdated,
}

/// What Redis holds of a key.
#[derive(Debug)]
pub struct InRedis {
    /// The fence of the flight that read it.
    pub fence: Fence,
    /// How much longer it is kept.
    pub left: Duration,
    /// What it takes there, as it is: compressed and sealed.
    pub bytes: usize,
    /// What it is; nothing if it cannot be read here.
    pub kept: Option<Arc<Kept>>,
}

/// What a flight does for the fleet once its callers have their answer: keeps the dataset in Redis,
/// ends its claim.
#[derive(Debug)]
pub(super) struct Afterwards {
    pub(super) keep: Option<(Arc<Kept>, Fence)>,
    pub(super) claim: Option<Claim>,
    /// The flight's memory, for what is still to be done.
    pub(super) memory: Option<WorkMemory>,
}

impl Cache {
    /// Whether a flight that began at `start` may read from Redis, and leave there what it
    /// collects: the fence to do it under. Not without the lease: then each collects for itself.
    fn fence_in_redis(&self, start: Start) -> Option<Fence> {
        start.fence().filter(|_| self.has_redis() && self.keeps() && self.bus().lease_held())
    }

    /// Looks into Redis, and waits there for another who collects the same.
    pub(super) async fn look(
        &self,
        key: &Arc<str>,
        air: &Air,
        start: Start,
        memory: &WorkMemory,
    ) -> Looked {
        let Some(fence) = self.fence_in_redis(start).filter(|_| !air.fresh()) else {
            return Looked::Collect(None);
        };
        if !air.store() {
            return self
                .look_once(key, air, start, memory)
                .await
                .map_or(Looked::Collect(None), Looked::There);
        }
        let ready = take_ready(memory);
        let looked = self.look_and_wait((key, air, start), fence, memory, ready).await;
        memory.give_back(ready);
        looked
    }

    async fn look_and_wait(
        &self,
        (key, air, start): (&Arc<str>, &Air, Start),
        fence: Fence,
        memory: &WorkMemory,
        ready: u64,
    ) -> Looked {
        let (place, holder) = (self.place(key), self.bus().claimant());
        // Claims the key though Redis has it: what it has there is of no use.
        let mut ignores_redis = false;
        let mut wait = Wait::default();
        // Whoever waits for others keeps enough of its own deadline to collect for itself.
        while wait.may_ask(air.share_until()) {
            let bytes_max = Some(ready).filter(|_| !ignores_redis);
            match self.bus().claim(&place, &holder, fence, CLAIM_LASTS, bytes_max).await {
                // Redis answers with what nobody asked for.
                Ok(Claimed::There(_) | Claimed::Large(_)) if ignores_redis => break,
                Ok(Claimed::There(fetched)) => match self.take(key, air, start, &fetched, memory) {
                    Ok(kept) => return Looked::There(kept),
                    // Others may be of the same mind, and one of them collects it.
                    Err(Untaken::TooOld | Untaken::Outdated) => {
                        ignores_redis = true;
                        wait.ask_at_once();
                        continue;
                    }
                    // Others may read it, so nobody waits.
                    Err(Untaken::Unreadable) => break,
                },
                Ok(Claimed::Large(bytes)) => {
                    let received = self.fetch_large(place.clone(), bytes, memory).await;
                    match received
                        .map(|received| self.take(key, air, start, &received.fetched, memory))
                    {
                        Some(Ok(kept)) => return Looked::There(kept),
                        Some(Err(Untaken::Unreadable)) => break,
                        // One that cannot be had, or is of no use, stands in nobody's way.
                        Some(Err(Untaken::TooOld | Untaken::Outdated)) | None => {}
                    }
                    ignores_redis = true;
                    wait.ask_at_once();
                    continue;
                }
                Ok(Claimed::Mine) => {
                    return Looked::Collect(Some(Claim::of(self, place, holder, fence)));
                }
                Ok(Claimed::By(other)) => {
                    if wait.holders.is_empty() {
                        self.metrics().fleet_waits.inc();
                    }
                    wait.hear_of(other);
                }
                // Somebody may collect it; one slow answer is no reason for everybody to do the
                // same.
                Err(Fault::Slow) if wait.bears_slowness() => {}
                Err(_) => break,
            }
            wait.pause().await;
            // Whoever it was may have left another one by now.
            ignores_redis = false;
        }
        self.metrics().claims_missed.inc();
        Looked::Collect(None)
    }

    async fn look_once(
        &self,
        key: &Arc<str>,
        air: &Air,
        start: Start,
        memory: &WorkMemory,
    ) -> Option<Arc<Kept>> {
        let received = self.fetch(self.place(key), memory).await.ok()??;
        self.take(key, air, start, &received.fetched, memory).ok()
    }

    /// What Redis has of a place, if it may be read.
    async fn fetch<'m>(
        &self,
        place: Place,
        memory: &'m WorkMemory,
    ) -> Result<Option<Received<'m>>, Fault> {
        let ready = InUse { bytes: take_ready(memory), memory };
        match self.bus().fetch(place.clone(), ready.bytes).await? {
            Lookup::Hit(fetched) => Ok(Some(Received { fetched, _in_use: ready })),
            Lookup::Large(bytes) => {
                drop(ready);
                Ok(self.fetch_large(place, bytes, memory).await)
            }
            Lookup::Miss => Ok(None),
        }
    }

    /// A dataset of which the size is known, and none of its bytes. One that is larger than any
    /// that is kept is none.
    async fn fetch_large<'m>(
        &self,
        place: Place,
        bytes: u64,
        memory: &'m WorkMemory,
    ) -> Option<Received<'m>> {
        if bytes > envelope::STORED_BYTES_MAX {
            self.metrics().redis_oversized.inc();
            return None;
        }
        // Not with the memory in hand, which others may wait for; nor does who waits for memory
        // keep the turn for long.
        let _turn = self.bus().turn_to_fetch(bytes).await.ok()?;
        let taken = timeout(LARGE_READ_MAX, memory.take(COPIES * bytes)).await;
        if !matches!(taken, Ok(Ok(()))) {
            self.metrics().redis_no_memory.inc();
            return None;
        }
        let mut in_use = InUse { bytes: COPIES * bytes, memory };
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

    /// For who wants an answer from a cache or none: Redis's, if it has one. A flight like any
    /// other, that nobody joins.
    pub(super) async fn only_from_redis(&self, key: &Arc<str>, wish: &Wish) -> Option<Arc<Kept>> {
        let start = self.bus().begin();
        self.fence_in_redis(start)?;
        let memory = WorkMemory::new(self.share().try_reserve(READY_BYTES.0)?, Instant::now());
        let received = self.fetch(self.place(key), &memory).await.ok()??;
        let kept = self.judge(key, start, &received.fetched, wish, &memory).ok()?;
        if !wish.no_store {
            self.remember(key, &kept);
        }
        Some(kept)
    }

    /// Takes what Redis handed out to a flight, and into memory, where it may be kept.
    fn take(
        &self,
        key: &Arc<str>,
        air: &Air,
        start: Start,
        fetched: &Fetched,
        memory: &WorkMemory,
    ) -> Result<Arc<Kept>, Untaken> {
        let kept = self.judge(key, start, fetched, &air.wish, memory)?;
        if air.store() {
            self.remember(key, &kept);
        }
        Ok(kept)
    }

    /// Reads what Redis handed out. It is judged as a source's answer is: by what this process
    /// knows, and by the file in force here.
    fn judge(
        &self,
        key: &Arc<str>,
        start: Start,
        fetched: &Fetched,
        wish: &Wish,
        memory: &WorkMemory,
    ) -> Result<Arc<Kept>, Untaken> {
        if self.bus().outdates(key, fetched) {
            self.metrics().redis_outdated.inc();
            return Err(Untaken::Outdated);
        }
        let mark = self.bus().may_store_fetched(start, key, fetched);
        let context = self.context(&self.place(key), fetched.dataset.fence, &fetched.dataset.tags);
        let (domain, seal) = (self.collector().domain(), self.seal());
        let mut taken = 0;
        let room = |bytes| {
            let fits = memory.try_take(bytes);
            taken += if fits { bytes } else { 0 };
            fits
        };
        let opened = envelope::unwrap(&fetched.dataset, fetched.left, domain, seal, &context, room);
        let kept = opened.map(|opened| self.kept_of(opened, &fetched.dataset.tags, mark, memory));
        memory.give_back(taken);
        let kept = match kept {
            Ok(kept) => kept,
            Err(OpenError::Unreadable) => {
                self.metrics().redis_unreadable.inc();
                return Err(Untaken::Unreadable);
            }
            Err(OpenError::NoMemory) => {
                self.metrics().redis_no_memory.inc();
                return Err(Untaken::Unreadable);
            }
        };
        let now = Instant::now();
        if kept.fresh_until(self.rules()) <= now || wish.is_too_old(&kept, now) {
            return Err(Untaken::TooOld);
        }
        Ok(kept)
    }

    /// What was read from Redis, as memory keeps it. It exists, and is counted.
    fn kept_of(
        &self,
        opened: Opened,
        tags: &[Arc<str>],
        mark: Option<Mark>,
        memory: &WorkMemory,
    ) -> Arc<Kept> {
        let Opened { content, old, left } = opened;
        let now = Instant::now();
        // A machine that has not been up for so long cannot say when that was; it is old enough.
        let collected = now.checked_sub(old).unwrap_or(now);
        let lifetime = Lifetime {
            collected,
            fresh: now + left - collected,
            retained: self.retention(&content, left),
        };
        let reservation = memory.split(content.weight() as u64).moved_to(self.memory().share());
        Kept::new(content, tags.to_vec(), lifetime, mark, reservation)
    }

    /// What Redis holds of a key and vouches for: for whoever debugs. Memory takes nothing of it.
    pub async fn peek_into_redis(&self, key: &str) -> Result<Option<InRedis>, Fault> {
        let place = self.place(&key.into());
        let memory = WorkMemory::new(self.share().charge(0), Instant::now());
        let Some(received) = self.fetch(place.clone(), &memory).await? else { return Ok(None) };
        let Fetched { dataset, left, .. } = &received.fetched;
        let left = *left;
        let context = self.context(&place, dataset.fence, &dataset.tags);
        let (domain, seal) = (self.collector().domain(), self.seal());
        let opened =
            envelope::unwrap(dataset, left, domain, seal, &context, |bytes| memory.try_take(bytes));
        let kept = opened.ok().map(|opened| self.kept_of(opened, &dataset.tags, None, &memory));
        Ok(Some(InRedis { fence: dataset.fence, left, bytes: dataset.body.len(), kept }))
    }

    fn context(&self, place: &Place, fence: Fence, tags: &[Arc<str>]) -> Vec<u8> {
        // Without a key nothing is bound to it.
        if self.seal().is_none() {
            Vec::new()
        } else {
            envelope::context(&self.bus().name_of(place), fence, tags)
        }
    }

    pub(super) fn place(&self, key: &Arc<str>) -> Place {
        Place { key: key.clone(), plan: self.collector().domain().plan.0.clone() }
    }

    /// What a flight that collected `kept` may leave in Redis.
    pub(super) fn leaves(&self, start: Start, kept: &Arc<Kept>) -> Option<(Arc<Kept>, Fence)> {
        // What memory must not keep, Redis must not.
        kept.mark()?;
        Some((kept.clone(), self.fence_in_redis(start)?))
    }

    /// Keeps a dataset in Redis. Redis has the last word: what was invalidated since its fence is
    /// refused there.
    async fn keep_in_redis(
        &self,
        place: Place,
        kept: Arc<Kept>,
        fence: Fence,
        memory: Option<&WorkMemory>,
    ) {
        // It is written out, compressed and sealed: each is a copy.
        let bytes = 3 * kept.body_bytes() as u64;
        let fits = memory.is_some_and(|memory| memory.try_take(bytes));
        let (true, Ok(_slot)) = (fits, self.stores().try_acquire()) else {
            self.metrics().redis_full.inc();
            return;
        };
        let now = Instant::now();
        let left = kept.fresh_until(self.rules()).saturating_duration_since(now);
        if left.is_zero() {
            return;
        }
        let context = self.context(&place, fence, kept.tags());
        let (seal, tags) = (self.seal().cloned(), kept.tags().to_vec());
        let wrapping = kept.clone();
        let wrap = move || envelope::wrap(&wrapping, now, left, seal.as_ref(), &context);
        let wrapped = tokio::task::spawn_blocking(wrap).await;
        let Ok(Ok(body)) = wrapped else {
            self.metrics().redis_too_large.inc();
            return;
        };
        let dataset = Stored { fence, tags, body: body.into() };
        match self.bus().store(place, dataset, kept.age(Instant::now()), left).await {
            Ok(true) => self.metrics().redis_stored.inc(),
            Ok(false) => self.metrics().redis_refused.inc(),
            // The bus has counted it.
            Err(_) => return,
        };
    }
}

/// What came from Redis, with the memory that it takes.
struct Received<'m> {
    fetched: Fetched,
    _in_use: InUse<'m>,
}

/// Memory of a flight that is in use while this lives.
struct InUse<'m> {
    bytes: u64,
    memory: &'m WorkMemory,
}

impl InUse<'_> {
    fn shrink_to(&mut self, bytes: u64) {
        self.memory.give_back(self.bytes - bytes);
        self.bytes = bytes;
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes);
    }
}

/// Takes what an answer may need, out of what is reserved as far as that goes; 0 where there is
/// none.
fn take_ready(memory: &WorkMemory) -> u64 {
    let bytes = memory.unused().clamp(READY_BYTES.0, READY_BYTES.1);
    if memory.try_take(bytes) { bytes } else { 0 }
}

impl Afterwards {
    pub(super) fn nothing() -> Self {
        Self { keep: None, claim: None, memory: None }
    }

    pub(super) async fn run(self, cache: &Cache, key: &Arc<str>) {
        if let Some((kept, fence)) = self.keep {
            cache.keep_in_redis(cache.place(key), kept, fence, self.memory.as_ref()).await;
        }
        if let Some(memory) = &self.memory {
            cache.note_flight_bytes(memory.peak());
        }
        // Only now, so that who waits for it finds the dataset.
        if let Some(claim) = self.claim {
            claim.end().await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;
    use crate::resources::{MemoryAccount, MemoryMetrics};

    #[test]
    fn what_came_is_in_use_until_it_is_dropped() {
        let share = MemoryAccount::new(100, MemoryMetrics::default()).whole();
        let memory = WorkMemory::new(share.try_reserve(100).unwrap(), Instant::now());
        assert!(memory.try_take(COPIES * 30));
        let mut in_use = InUse { bytes: COPIES * 30, memory: &memory };
        in_use.shrink_to(30);
        assert_eq!(memory.unused(), 70, "the other copies are gone");
        drop(in_use);
        assert_eq!(memory.unused(), 100);
    }
}
