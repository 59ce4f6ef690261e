//! One flight: from an empty cache to a dataset that is kept where it may be.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fleet::{Afterwards, Looked};
use super::flight::{Air, Landing, Origin};
use super::happening::NotKept;
use super::kept::{Content, Kept};
use super::read::Cache;
use crate::coherence::Start;
use crate::collect::{self, CollectError, Timeline};

/// An expired dataset is kept this long at most for its validators alone.
const VALIDATORS_LAST: Duration = Duration::from_mins(1);

impl Cache {
    /// A flight: looks into Redis, collects, finds the tags, keeps what may be kept.
    pub(super) async fn fly(&self, key: &Arc<str>, air: &Air, start: Start) -> (Landing, Afterwards) {
        let began = Instant::now();
        let deadline = began + self.collector().domain().deadline;
        let claim = match self.look(key, air, start, deadline).await {
            Looked::Collect(claim) => claim,
            Looked::There(kept) => {
                let timeline = Timeline { started: began, took: began.elapsed(), steps: Vec::new() };
                let landing = Landing { result: Ok(kept), timeline, from: Origin::Redis };
                return (landing, Afterwards { keep: None, claim: None });
            }
        };
        let mut wish = collect::Wish { deadline: Some(deadline), ..air.wish.collect.clone() };
        wish.no_cache |= air.no_cache();
        wish.known =
            self.memory().get(&self.slot(key)).and_then(|kept| kept.dataset().map(|known| known.parts.clone()));
        let collected = Instant::now();
        let collecting = self.collector().collect(key, wish);
        let (result, timeline) = match &claim {
            None => collecting.await,
            Some(claim) => tokio::select! {
                done = collecting => done,
                never = claim.keep() => match never {},
            },
        };
        let content = match result {
            Ok(dataset) => Content::Dataset(dataset),
            Err(CollectError::NotFound { .. }) => Content::NotFound,
            Err(error) => {
                let landing = Landing { result: Err(error), timeline, from: Origin::Sources { refused: None } };
                return (landing, Afterwards { keep: None, claim });
            }
        };
        let tags = self.tags(&content).await;
        let ttl = jittered(content.ttl(self.rules()));
        let wanted = air.store() && self.keeps() && !ttl.is_zero();
        let mark = tags.as_ref().filter(|_| wanted).and_then(|tags| self.bus().may_store(start, key, tags));
        let refused = if mark.is_some() { None } else { Some(self.refusal(air, ttl, tags.is_some())) };
        let kept = Arc::new(Kept::new(content, tags.unwrap_or_default(), collected, ttl, mark));
        match refused {
            None => {
                self.metrics().stored.inc();
                self.remember(key, &kept);
            }
            Some(NotKept::Fenced) => drop(self.metrics().fenced.inc()),
            Some(_) => {}
        }
        let keep = self.leaves(start, &kept);
        (Landing { result: Ok(kept), timeline, from: Origin::Sources { refused } }, Afterwards { keep, claim })
    }

    /// How long it is of any use: fresh, then for failing sources, then for its validators.
    pub(super) fn lasts(&self, kept: &Kept) -> Duration {
        let fresh = kept.fresh_until.saturating_duration_since(kept.collected);
        fresh + self.rules().stale_if_error.max(fresh.min(VALIDATORS_LAST))
    }
}

/// Up to a twentieth less, so that what was collected together does not expire together.
fn jittered(ttl: Duration) -> Duration {
    ttl.mul_f64(1.0 - fastrand::f64() / 20.0)
}
