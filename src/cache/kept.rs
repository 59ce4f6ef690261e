//! One kept answer of the sources: the dataset, or that there is none, with what it takes to believe it and to serve it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::coherence::Mark;
use crate::collect::Dataset;
use crate::domain::CacheRules;

/// What the sources said of a key.
#[derive(Debug, Clone)]
pub enum Content {
    /// All parts.
    Dataset(Dataset),
    /// There is no such dataset.
    NotFound,
}

impl Content {
    /// How long it may be kept.
    pub(super) fn ttl(&self, rules: &CacheRules) -> Duration {
        match self {
            Self::Dataset(_) => rules.ttl,
            Self::NotFound => rules.missing_ttl,
        }
    }
}

/// A version's bytes and their strong `ETag`.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The answer's body.
    pub body: Bytes,
    /// With its quotes.
    pub etag: Arc<str>,
}

/// One kept answer. It never changes but for what has been rendered of it.
#[derive(Debug)]
pub struct Kept {
    /// What the sources said.
    pub content: Content,
    /// What an invalidation by tag can name.
    pub tags: Vec<Arc<str>>,
    /// When the flight that collected it began: what it holds is at least as new.
    pub collected: Instant,
    /// Until when it is served without a question.
    pub fresh_until: Instant,
    /// The protocol's mark; `None`: it was not stored, and is served to those of its flight only.
    pub mark: Option<Mark>,
    /// By the identity of a published version. Locked to copy a handle in or out; never across a rendering.
    rendered: Mutex<VecDeque<(u64, Rendered)>>,
}

/// The most renderings kept of one dataset: versions of the table in force, and of the one before while it is swapped.
const RENDERED_MAX: usize = 32;
/// What a kept answer takes beyond its bytes, roughly: the map's entry, the handles, the locks.
const OVERHEAD_BYTES: usize = 512;

impl Kept {
    /// A fresh one, nothing rendered yet.
    pub fn new(content: Content, tags: Vec<Arc<str>>, collected: Instant, ttl: Duration, mark: Option<Mark>) -> Self {
        let rendered = Mutex::new(VecDeque::new());
        Self { content, tags, collected, fresh_until: collected + ttl, mark, rendered }
    }

    /// One that was collected elsewhere, and is so `old` and fresh for what it has `left`.
    pub(super) fn read(
        content: Content,
        tags: Vec<Arc<str>>,
        old: Duration,
        left: Duration,
        mark: Option<Mark>,
    ) -> Self {
        let now = Instant::now();
        // A machine that has not been up for so long cannot say when that was; it is old enough.
        let collected = now.checked_sub(old).unwrap_or(now);
        Self { content, tags, collected, fresh_until: now + left, mark, rendered: Mutex::default() }
    }

    /// The dataset, where there is one.
    pub fn dataset(&self) -> Option<&Dataset> {
        match &self.content {
            Content::Dataset(dataset) => Some(dataset),
            Content::NotFound => None,
        }
    }

    /// Seconds for which it is still fresh; below zero: since when it is not.
    pub fn ttl_seconds(&self, now: Instant) -> i64 {
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        match self.fresh_until.checked_duration_since(now) {
            Some(left) => seconds(left),
            None => -seconds(now.duration_since(self.fresh_until)) - 1,
        }
    }

    /// How old it is.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.collected)
    }

    /// What was rendered for a version before.
    pub fn rendered(&self, version: u64) -> Option<Rendered> {
        let rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        rendered.iter().find(|(of, _)| *of == version).map(|(_, rendered)| rendered.clone())
    }

    /// Keeps what was rendered for a version.
    pub fn keep_rendered(&self, version: u64, new: Rendered) {
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if rendered.iter().any(|(of, _)| *of == version) {
            return;
        }
        if rendered.len() == RENDERED_MAX {
            rendered.pop_front();
        }
        rendered.push_back((version, new));
    }

    /// What it takes of memory, in bytes. A version without a shape shares the dataset's bytes.
    pub fn weight(&self) -> usize {
        let body = self.dataset().map_or(0, |dataset| dataset.body.len());
        let tags: usize = self.tags.iter().map(|tag| tag.len() + 32).sum();
        let rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.dataset().map(|dataset| dataset.body.as_ptr());
        let shaped = rendered.iter().filter(|(_, r)| Some(r.body.as_ptr()) != own);
        body + tags + shaped.map(|(_, r)| r.body.len() + 128).sum::<usize>() + OVERHEAD_BYTES
    }
}
