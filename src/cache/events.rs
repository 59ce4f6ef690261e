//! Events at the end of collections, for `GET /events`.
//!
//! They cost nothing without a listener. They hold numbers and names, never a dataset: a slow
//! listener keeps none alive.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast;

use super::flight::{FlightOrigin, FlightResult, NotStoredReason};
use crate::collect::{CollectError, DatasetId};

/// Events that a slow listener may be behind before it misses some.
const EVENTS_MAX: usize = 1_024;

/// A collection that has ended.
#[derive(Debug, Clone)]
pub struct CollectionEvent {
    /// When.
    pub at: SystemTime,
    /// Of which domain.
    pub domain: Arc<str>,
    /// Of which key: personal data.
    pub key: Arc<str>,
    /// How long it took.
    pub took: Duration,
    /// Its result.
    pub kind: CollectionEventKind,
}

/// The result of a collection.
#[derive(Debug, Clone)]
pub enum CollectionEventKind {
    /// The sources gave all parts, or a 404 of a source meant that there is no dataset.
    Collected {
        /// `None`: there is no such dataset.
        dataset: Option<DatasetId>,
        /// The dataset's size.
        bytes: usize,
        /// Rounds of questions.
        rounds: u32,
        /// Why it was not kept, if it was not.
        not_stored: Option<NotStoredReason>,
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

impl CollectionEventKind {
    fn of(flight: &FlightResult) -> Self {
        let entry = match &flight.result {
            Ok(entry) => entry,
            Err(error) => return Self::Failed(error.clone()),
        };
        let dataset = entry.dataset_id();
        let bytes = entry.body_bytes();
        match flight.origin {
            FlightOrigin::Redis => Self::Found { dataset, bytes },
            FlightOrigin::Sources { not_stored } => {
                let rounds = flight.timeline.rounds();
                Self::Collected { dataset, bytes, rounds, not_stored }
            }
        }
    }
}

/// Where the caches of a process send their events; clones share it.
#[derive(Debug, Clone)]
pub struct CollectionEvents(broadcast::Sender<CollectionEvent>);

impl Default for CollectionEvents {
    fn default() -> Self {
        Self(broadcast::Sender::new(EVENTS_MAX))
    }
}

impl CollectionEvents {
    /// The events from now on. A receiver that is too slow misses some, and learns how many.
    pub fn subscribe(&self) -> broadcast::Receiver<CollectionEvent> {
        self.0.subscribe()
    }

    /// Sends the result of a flight to the listeners, if there are any.
    pub(super) fn send(&self, domain: &Arc<str>, key: &Arc<str>, flight: &FlightResult) {
        if self.0.receiver_count() == 0 {
            return;
        }
        // An error means that the last listener has left.
        let _ = self.0.send(CollectionEvent {
            at: SystemTime::now(),
            domain: domain.clone(),
            key: key.clone(),
            took: flight.timeline.took,
            kind: CollectionEventKind::of(flight),
        });
    }
}
