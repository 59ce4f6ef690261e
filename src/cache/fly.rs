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
use crate::shape::Budget;

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

    /// The tags of a dataset; `None` where its program failed: what cannot be invalidated by tag must not be kept.
    async fn tags(&self, content: &Content) -> Option<Vec<Arc<str>>> {
        let (Some(program), Content::Dataset(dataset)) = (self.tag_program().cloned(), content) else {
            return Some(Vec::new());
        };
        let slot = self.programs().clone().acquire_owned().await.ok()?;
        let input = dataset.body.clone();
        let run = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            program.run(&input, Budget::default())
        });
        let tags = run.await.ok().and_then(Result::ok).and_then(|json| parse_tags(&json));
        if tags.is_none() {
            self.metrics().tags_failed.inc();
            tracing::debug!(domain = %self.collector().domain().name, "the tags program gave no array of strings");
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
