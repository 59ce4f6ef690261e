//! What becomes of collections, for whoever listens: `GET /events`.
//!
//! It costs nothing while nobody does. What is told holds numbers and names, never a dataset: a
//! slow listener keeps none alive.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast;

use super::flight::{Air, Landing, Origin};
use super::read::Cache;
use crate::collect::{CollectError, DatasetId};

/// Happenings that a slow listener may be behind before it misses some.
const HAPPENINGS_MAX: usize = 1_024;

/// A collection that has ended.
#[derive(Debug, Clone)]
pub struct Happening {
    /// When.
    pub at: SystemTime,
    /// Of which domain.
    pub domain: Arc<str>,
    /// Of which key: personal data.
    pub key: Arc<str>,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub what: What,
}

/// What came of a collection.
#[derive(Debug, Clone)]
pub enum What {
    /// The sources gave all parts, or said that there is nothing.
    Collected {
        /// `None`: there is no such dataset.
        dataset: Option<DatasetId>,
        /// The dataset's size.
        bytes: usize,
        /// Rounds of questions.
        rounds: u32,
        /// Why it was not kept, if it was not.
        refused: Option<NotKept>,
    },
    /// Redis had it: another sidecar has collected it.
    Found {
        /// `None`: there is no such dataset.
        dataset: Option<DatasetId>,
        /// The dataset's size.
        bytes: usize,
    },
    /// At least one source failed.
    Failed(CollectError),
}

/// Why what was collected was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotKept {
    /// Nothing is: there is no memory, `--no-cache`, or a ttl of nought.
    Off,
    /// Everybody who waited for it said `no-store`.
    Asked,
    /// Its tags could not be told, so no invalidation could name it by one.
    NoTags,
    /// The lease was not held: invalidations may have been missed.
    LeaseLost,
    /// It was invalidated while it was in the air: the fence.
    Fenced,
}

/// Where the caches of a process tell; clones share it.
#[derive(Debug, Clone)]
pub struct Happenings(broadcast::Sender<Happening>);

impl Default for Happenings {
    fn default() -> Self {
        Self(broadcast::Sender::new(HAPPENINGS_MAX))
    }
}

impl Happenings {
    /// What happens from now on. Who is too slow misses some, and is told so.
    pub fn subscribe(&self) -> broadcast::Receiver<Happening> {
        self.0.subscribe()
    }

    fn has_listeners(&self) -> bool {
        self.0.receiver_count() > 0
    }
}

impl Cache {
    /// Why what a flight collected is not kept.
    pub(super) fn refusal(&self, air: &Air, ttl: Duration, has_tags: bool) -> NotKept {
        if !self.keeps() || ttl.is_zero() {
            NotKept::Off
        } else if !air.store() {
            NotKept::Asked
        } else if !has_tags {
            NotKept::NoTags
        } else if !self.bus().lease_held() {
            NotKept::LeaseLost
        } else {
            NotKept::Fenced
        }
    }

    /// Tells how a flight ended.
    pub(super) fn tell(&self, key: &Arc<str>, landing: &Landing) {
        if !self.happenings().has_listeners() {
            return;
        }
        let timeline = &landing.timeline;
        let what = match (&landing.result, landing.from) {
            (Err(error), _) => What::Failed(error.clone()),
            (Ok(kept), from) => {
                let (dataset, bytes) = (kept.dataset_id(), kept.body_bytes());
                match from {
                    Origin::Redis => What::Found { dataset, bytes },
                    Origin::Sources { refused } => {
                        What::Collected { dataset, bytes, rounds: timeline.rounds(), refused }
                    }
                }
            }
        };
        // Whoever listened may be gone.
        let _ = self.happenings().0.send(Happening {
            at: SystemTime::now(),
            domain: self.collector().domain().name.clone(),
            key: key.clone(),
            took: timeline.took,
            what,
        });
    }
}
