//! One flight: from an empty cache to a dataset that is kept where it may be.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fleet::{Afterwards, Looked};
use super::flight::{Air, Landing, Origin};
use super::happening::NotKept;
use super::kept::{Content, Kept, Lifetime};
use super::read::Cache;
use crate::coherence::Start;
use crate::collect::{self, CollectError, Dataset, Outstanding, StoredDataset, Timeline, Work};
use crate::resources::{StoredBytes, WorkMemory};

/// What a flight takes beside the bodies that it reads: its task, its requests, the handles of
/// those who wait. Measured: 8 821 flights of four sources took 154 MB.
const FLIGHT_BYTES: u64 = 16 * 1024;
/// What a stored dataset takes beside its body, about; what it really takes is settled once it is
/// there.
const STORED_BYTES_BESIDE_BODY: u64 = 1024;
/// An expired dataset is kept this long at most for its validators alone.
const VALIDATORS_LAST: Duration = Duration::from_mins(1);

/// What a flight has collected.
struct Collected {
    content: Content,
    /// `None` where they are not known.
    tags: Option<Vec<Arc<str>>>,
    /// When its collection began.
    at: Instant,
}

impl Cache {
    /// A flight: looks into Redis, collects, finds the tags, keeps what may be kept. It takes its
    /// memory first: as much as flights of this domain took of late.
    pub(super) async fn fly(
        &self,
        key: &Arc<str>,
        air: &Air,
        start: Start,
        outstanding: &Outstanding,
    ) -> (Landing, Afterwards) {
        let began = Instant::now();
        let deadline = began + self.collector().domain().deadline;
        let nothing_collected = |result| {
            let timeline = Timeline::without_steps(began);
            Landing { result, timeline, from: Origin::Sources { refused: None } }
        };
        let Some(memory) = self.flight_memory(began, deadline).await else {
            self.metrics().flights_refused.inc();
            return (nothing_collected(Err(CollectError::no_memory())), Afterwards::nothing());
        };
        let claim = match self.look(key, air, start, &memory).await {
            Looked::Collect(claim) => claim,
            Looked::There(kept) => {
                let landing = Landing { from: Origin::Redis, ..nothing_collected(Ok(kept)) };
                return (landing, Afterwards::nothing());
            }
        };
        let collected = Instant::now();
        let work = Work { memory: &memory, outstanding, unanswered: air.unanswered() };
        let collecting = self.collect(key, air, deadline, work);
        let (result, timeline) = match &claim {
            None => collecting.await,
            Some(claim) => tokio::select! {
                done = collecting => done,
                never = claim.keep() => match never {},
            },
        };
        if matches!(result, Ok(_) | Err(CollectError::NotFound { .. })) {
            self.collection_time().note(timeline.took);
        }
        // What has been collected is not given up any more.
        let _finishing = outstanding.begin();
        let from = |refused| Origin::Sources { refused };
        let failed = |error, timeline, claim| {
            let landing = Landing { result: Err(error), timeline, from: from(None) };
            (landing, Afterwards { claim, ..Afterwards::nothing() })
        };
        let dataset = match result {
            Ok(dataset) => Some(dataset),
            Err(CollectError::NotFound { .. }) => None,
            Err(error) => return failed(error, timeline, claim),
        };
        let body_bytes = dataset.as_ref().map_or(0, |dataset| dataset.body.len());
        // A large body is stored as it is, a small one as a copy.
        let copied = if StoredBytes::are_shared(body_bytes) { 0 } else { body_bytes as u64 };
        let stored_bytes = copied + STORED_BYTES_BESIDE_BODY;
        if memory.take(stored_bytes).await.is_err() {
            return failed(CollectError::no_memory(), timeline, claim);
        }
        let tags = self.tags(dataset.as_ref(), deadline).await;
        let content = dataset
            .map_or(Content::NotFound, |dataset| Content::Dataset(StoredDataset::new(&dataset)));
        let (kept, refused) =
            self.store(key, air, start, Collected { content, tags, at: collected }, &memory);
        let keep = self.leaves(start, &kept);
        (
            Landing { result: Ok(kept), timeline, from: from(refused) },
            Afterwards { keep, claim, memory: Some(memory) },
        )
    }

    /// Keeps what was collected, if it may be kept, and says why if not.
    fn store(
        &self,
        key: &Arc<str>,
        air: &Air,
        start: Start,
        collected: Collected,
        memory: &WorkMemory,
    ) -> (Arc<Kept>, Option<NotKept>) {
        let Collected { content, tags, at } = collected;
        let ttl = jittered(content.ttl(self.rules()));
        let wanted = air.store() && self.keeps() && !ttl.is_zero();
        let mark = tags
            .as_ref()
            .filter(|_| wanted)
            .and_then(|tags| self.bus().may_store(start, key, tags));
        let refused =
            if mark.is_some() { None } else { Some(self.refusal(air, ttl, tags.is_some())) };
        let lifetime =
            Lifetime { collected: at, fresh: ttl, retained: self.retention(&content, ttl) };
        let weight = content.weight() as u64 + STORED_BYTES_BESIDE_BODY;
        let reservation = memory.split(weight).moved_to(self.memory().share());
        let kept = Kept::new(content, tags.unwrap_or_default(), lifetime, mark, reservation);
        match refused {
            None => {
                self.metrics().stored.inc();
                self.remember(key, &kept);
            }
            Some(NotKept::Fenced) => drop(self.metrics().fenced.inc()),
            Some(_) => {}
        }
        (kept, refused)
    }

    /// The memory of a flight that begins; `None` where no room came free in time.
    async fn flight_memory(&self, began: Instant, deadline: Instant) -> Option<WorkMemory> {
        let usual = self.usual_flight_bytes().min(self.share().limit() / 2).max(FLIGHT_BYTES);
        // Who waits for it is to be told so before the deadline that they wait until.
        let reserved =
            self.share().reserve(usual, began + (deadline - began) * 3 / 4).await.ok()?;
        let memory = WorkMemory::new(reserved, deadline);
        // It fits: it was just reserved.
        memory.try_take(FLIGHT_BYTES).then_some(memory)
    }

    async fn collect(
        &self,
        key: &Arc<str>,
        air: &Air,
        deadline: Instant,
        work: Work<'_>,
    ) -> (Result<Dataset, CollectError>, Timeline) {
        let mut wish = collect::Wish { deadline: Some(deadline), ..air.wish.collect.clone() };
        wish.no_cache |= air.no_cache();
        let previous = self.memory().get(&self.slot(key));
        // Its parts are a copy, and may be copied into the next dataset: without room for that the
        // sources are asked without conditions.
        let previous = previous.filter(|kept| work.memory.try_take(2 * kept.body_bytes() as u64));
        wish.known = previous
            .and_then(|kept| kept.dataset(self.collector().domain()))
            .map(|dataset| dataset.parts);
        self.collector().collect(key, wish, work).await
    }

    /// How long what is fresh for `fresh` is of use beyond that: for failing sources, and for its
    /// validators. That there is no such dataset is of no use once it has expired.
    pub(super) fn retention(&self, content: &Content, fresh: Duration) -> Duration {
        match content {
            Content::Dataset(_) => self.rules().stale_if_error.max(fresh.min(VALIDATORS_LAST)),
            Content::NotFound => Duration::ZERO,
        }
    }
}

/// Up to a twentieth less, so that what was collected together does not expire together.
fn jittered(ttl: Duration) -> Duration {
    ttl.mul_f64(1.0 - fastrand::f64() / 20.0)
}
