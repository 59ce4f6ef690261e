//! One flight: a collection that several callers share. It ends early once all of them have left.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};

use super::entry::CacheEntry;
use super::read_options::ReadOptions;
use crate::coherence::FlightId;
use crate::collect::{CollectError, Outstanding, Timeline, UnansweredSources};

/// How a flight ended.
#[derive(Debug, Clone)]
pub(super) struct FlightResult {
    pub(super) result: Result<Arc<CacheEntry>, CollectError>,
    pub(super) timeline: Timeline,
    pub(super) origin: FlightOrigin,
}

/// Where a flight found its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlightOrigin {
    /// In Redis.
    Redis,
    /// At the sources.
    Sources {
        /// Why it is not kept, if it is not.
        not_stored: Option<NotStoredReason>,
    },
}

/// Why the result of a collection was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStoredReason {
    /// Nothing is: there is no memory, `--no-cache`, or a ttl of nought.
    Off,
    /// All callers of the flight sent `no-store`.
    NoStore,
    /// Its tags are unknown, so no invalidation by tag could reach it.
    NoTags,
    /// The lease was not held: invalidations may have been missed.
    LeaseLost,
    /// It was invalidated while its flight was running: the fence.
    Fenced,
}

/// One flight, running or waiting for its turn, and the combined requests of its callers.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: FlightId,
    /// Its place among the flights of the process.
    _permit: OwnedSemaphorePermit,
    result: watch::Sender<Option<Arc<FlightResult>>>,
    pub(super) progress: Arc<FlightProgress>,
    /// Its requests to sources that are not answered yet.
    pub(super) outstanding: Outstanding,
    /// The first caller's options; the options of later callers are in the flags.
    pub(super) options: ReadOptions,
    no_cache: AtomicBool,
    /// Nothing that Redis has will do.
    sources_only: AtomicBool,
    may_store: AtomicBool,
    /// Until when it may wait for another flight's claim: as long as its most impatient caller can
    /// spare. Locked to read or to lower it.
    share_until: Mutex<Option<Instant>>,
}

/// The progress of a flight, for its callers.
#[derive(Debug, Default)]
pub(super) struct FlightProgress {
    /// When it began; not yet, while it waits for its turn.
    began: OnceLock<Instant>,
    pub(super) unanswered: UnansweredSources,
}

/// Which running flights a caller may join: all that began this short a time ago at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JoinRule {
    pub(super) began_within: Duration,
}

impl JoinRule {
    /// Every flight that the protocol lets a caller join.
    pub(super) const ANY: Self = Self { began_within: Duration::MAX };
    /// No flight that began before.
    pub(super) const NONE: Self = Self { began_within: Duration::ZERO };

    /// The flights that both this rule and `span` accept.
    pub(super) fn and_within(self, span: Duration) -> Self {
        Self { began_within: self.began_within.min(span) }
    }

    pub(super) fn accepts(self, flight: &Flight) -> bool {
        let Some(began) = flight.began_at() else { return false };
        self.began_within > Duration::ZERO && began.elapsed() <= self.began_within
    }
}

/// The outcome of waiting for a flight.
#[derive(Debug, Clone)]
pub(super) enum WaitOutcome {
    /// It has ended.
    Finished(Arc<FlightResult>),
    /// It was lost without a result: a panic, or it was given up as the caller came.
    Lost,
    /// It has not ended yet.
    Pending,
}

/// A caller's hold on a flight. A flight that no caller holds is abandoned.
pub(super) struct FlightWaiter {
    pub(super) id: FlightId,
    result: watch::Receiver<Option<Arc<FlightResult>>>,
    pub(super) progress: Arc<FlightProgress>,
    /// The flight was there before.
    pub(super) joined: bool,
}

impl FlightResult {
    /// Its deadline passed, or there was no room for it. For a caller who came later, a flight that
    /// begins now may succeed.
    pub(super) fn is_late(&self) -> bool {
        let is_late = |error: &CollectError| match error {
            CollectError::Failed { deadline_passed, .. } => *deadline_passed,
            CollectError::Overloaded { .. } => true,
            CollectError::NotFound { .. } | CollectError::BadKey { .. } => false,
        };
        self.result.as_ref().is_err_and(is_late)
    }
}

impl Flight {
    pub(super) fn new(
        id: FlightId,
        options: &ReadOptions,
        permit: OwnedSemaphorePermit,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            _permit: permit,
            result: watch::Sender::new(None),
            progress: Arc::default(),
            outstanding: Outstanding::default(),
            options: options.clone(),
            no_cache: AtomicBool::new(false),
            sources_only: AtomicBool::new(false),
            may_store: AtomicBool::new(false),
            share_until: Mutex::new(None),
        })
    }

    /// Adds the request of one more caller.
    pub(super) fn add_caller(
        &self,
        options: &ReadOptions,
        sources_only: bool,
        share_until: Instant,
    ) {
        self.no_cache.fetch_or(options.no_cache, Ordering::Relaxed);
        self.sources_only.fetch_or(sources_only, Ordering::Relaxed);
        self.may_store.fetch_or(!options.no_store, Ordering::Relaxed);
        self.limit_sharing(share_until);
    }

    /// A caller waits for others until then, and no longer.
    pub(super) fn limit_sharing(&self, until: Instant) {
        let mut share_until = self.share_until.lock();
        *share_until = Some(share_until.map_or(until, |before| before.min(until)));
    }

    /// Until when it may wait for another flight's claim.
    pub(super) fn share_until(&self) -> Instant {
        self.share_until.lock().unwrap_or_else(Instant::now)
    }

    /// Whether requests to sources carry `Cache-Control: no-cache`.
    pub(super) fn no_cache(&self) -> bool {
        self.no_cache.load(Ordering::Relaxed)
    }

    /// Whether nothing that Redis has will do.
    pub(super) fn sources_only(&self) -> bool {
        self.sources_only.load(Ordering::Relaxed)
    }

    /// Whether any caller allows that its result is kept.
    pub(super) fn may_store(&self) -> bool {
        self.may_store.load(Ordering::Relaxed)
    }

    /// Called while the flight table is locked, so that later callers see that it has begun.
    pub(super) fn set_began(&self) {
        let _ = self.progress.began.set(Instant::now());
    }

    pub(super) fn began_at(&self) -> Option<Instant> {
        self.progress.began.get().copied()
    }

    pub(super) fn waiter(&self, joined: bool) -> FlightWaiter {
        let result = self.result.subscribe();
        let progress = self.progress.clone();
        FlightWaiter { id: self.id, result, progress, joined }
    }

    pub(super) fn has_waiters(&self) -> bool {
        self.result.receiver_count() > 0
    }

    pub(super) fn publish(&self, result: FlightResult) {
        self.result.send_replace(Some(Arc::new(result)));
    }

    /// Runs `fetch` until it ends, or abandons it (`None`) once all callers have left: at once if
    /// `is_kept` is false and its result would be of no use, else as soon as no request to a source
    /// is outstanding. Only requests that were sent are worth waiting for, and no more of them can
    /// be outstanding than sources have slots.
    pub(super) async fn run_while_awaited<T>(
        &self,
        fetch: impl Future<Output = T>,
        is_kept: bool,
    ) -> Option<T> {
        let mut fetch = pin!(fetch);
        loop {
            tokio::select! {
                biased;
                fetched = &mut fetch => return Some(fetched),
                () = self.result.closed() => {}
            }
            if is_kept {
                tokio::select! {
                    biased;
                    fetched = &mut fetch => return Some(fetched),
                    () = self.outstanding.wait_for_none() => {}
                }
            }
            // A caller may have joined meanwhile.
            if !self.has_waiters() {
                return None;
            }
        }
    }
}

impl FlightWaiter {
    /// How the flight ended, if it did so by then.
    pub(super) async fn result_by(&mut self, until: Instant) -> WaitOutcome {
        match timeout_at(until, self.result.wait_for(Option::is_some)).await {
            Ok(Ok(result)) => result.clone().map_or(WaitOutcome::Lost, WaitOutcome::Finished),
            Ok(Err(_)) => WaitOutcome::Lost,
            Err(_) => WaitOutcome::Pending,
        }
    }

    /// Whether the flight still waits for its turn.
    pub(super) fn waits_for_turn(&self) -> bool {
        self.progress.began.get().is_none()
    }
}
