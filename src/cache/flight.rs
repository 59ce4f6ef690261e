//! Flights: one collection that several callers wait for, and that outlives every one of them.
//!
//! Who joins which flight is decided by [`crate::coherence::Flights`]. Here a flight is a task of
//! its own, so a caller that goes away cancels nothing that others wait for; and however it ends,
//! by a panic too, its seat is given up in `Drop`.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};

use super::fleet::Afterwards;
use super::happening::NotKept;
use super::kept::Kept;
use super::read::Cache;
use super::sharing::Caller;
use super::wish::Wish;
use crate::coherence::{FLIGHTS_RUNNING_MAX, FlightId, Flights, Needs, Seat, Start};
use crate::collect::{CollectError, Outstanding, Timeline, Unanswered};

/// How a flight ended.
#[derive(Debug, Clone)]
pub(super) struct Landing {
    pub(super) result: Result<Arc<Kept>, CollectError>,
    pub(super) timeline: Timeline,
    pub(super) from: Origin,
}

/// Where a flight found what it brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// In Redis.
    Redis,
    /// At the sources.
    Sources {
        /// Why it is not kept, if it is not.
        refused: Option<NotKept>,
    },
}

/// What is in the air, and what waits for its turn: no more than there are places for flights.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<HashMap<Arc<str>, KeyFlights>>);

#[derive(Debug, Default)]
struct KeyFlights {
    seats: Flights,
    airs: Vec<Arc<Air>>,
}

/// One flight, running or waiting.
#[derive(Debug)]
pub(super) struct Air {
    id: FlightId,
    /// Its place among the flights of the process.
    _place: OwnedSemaphorePermit,
    landed: watch::Sender<Option<Arc<Landing>>>,
    progress: Arc<FlightProgress>,
    /// The first caller's wish; what later ones add is in the flags.
    pub(super) wish: Wish,
    no_cache: AtomicBool,
    /// Only the sources will do.
    fresh: AtomicBool,
    store: AtomicBool,
    /// Until when it may wait for another's claim: as long as its most impatient caller can spare.
    share_until: Mutex<Option<Instant>>,
}

/// How far a flight is, for those who wait for it.
#[derive(Debug, Default)]
pub(super) struct FlightProgress {
    /// When it began; not yet, while it waits for its turn.
    began: OnceLock<Instant>,
    pub(super) unanswered: Unanswered,
}

/// A seat in a flight: wait for it to land.
pub(super) struct Ticket {
    id: FlightId,
    landed: watch::Receiver<Option<Arc<Landing>>>,
    pub(super) progress: Arc<FlightProgress>,
    /// The flight was there before.
    pub(super) joined: bool,
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

    /// What is joined under this rule and another.
    pub(super) fn and_within(self, span: Duration) -> Self {
        Self { began_within: self.began_within.min(span) }
    }

    fn accepts(self, air: &Air) -> bool {
        let Some(began) = air.progress.began.get() else { return false };
        self.began_within > Duration::ZERO && began.elapsed() <= self.began_within
    }
}

impl Air {
    fn new(id: FlightId, wish: &Wish, place: OwnedSemaphorePermit) -> Arc<Self> {
        let (no_cache, fresh, store) = Default::default();
        let (landed, wish) = (watch::Sender::new(None), wish.clone());
        let (progress, share_until) = Default::default();
        Arc::new(Self {
            id,
            _place: place,
            landed,
            progress,
            wish,
            no_cache,
            fresh,
            store,
            share_until,
        })
    }

    /// Said while the board is locked, so that everybody who comes sees that it has begun.
    fn begins(&self) {
        let _ = self.progress.began.set(Instant::now());
    }

    fn is_wanted(&self) -> bool {
        self.landed.receiver_count() > 0
    }

    /// A caller waits for others until then, and no longer.
    fn limit_sharing(&self, until: Instant) {
        let mut share_until = self.share_until.lock().unwrap_or_else(PoisonError::into_inner);
        *share_until = Some(share_until.map_or(until, |before| before.min(until)));
    }

    /// Until when it may wait for another's claim.
    pub(super) fn share_until(&self) -> Instant {
        self.share_until.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or_else(Instant::now)
    }

    fn add(&self, wish: &Wish, fresh: bool) {
        self.no_cache.fetch_or(wish.no_cache, Ordering::Relaxed);
        self.fresh.fetch_or(fresh, Ordering::Relaxed);
        self.store.fetch_or(!wish.no_store, Ordering::Relaxed);
    }

    pub(super) fn unanswered(&self) -> &Unanswered {
        &self.progress.unanswered
    }

    pub(super) fn no_cache(&self) -> bool {
        self.no_cache.load(Ordering::Relaxed)
    }

    pub(super) fn fresh(&self) -> bool {
        self.fresh.load(Ordering::Relaxed)
    }

    pub(super) fn store(&self) -> bool {
        self.store.load(Ordering::Relaxed)
    }
}

/// What became of a flight that somebody waited for.
#[derive(Debug, Clone)]
pub(super) enum Waited {
    /// It has ended.
    Landed(Arc<Landing>),
    /// It was lost without a result: a panic, or it was given up as the caller came.
    Lost,
    /// Not yet.
    Not,
}

impl Ticket {
    /// How it ended, if it did so by then.
    pub(super) async fn landing_by(&mut self, until: Instant) -> Waited {
        match timeout_at(until, self.landed.wait_for(Option::is_some)).await {
            Ok(Ok(landed)) => landed.clone().map_or(Waited::Lost, Waited::Landed),
            Ok(Err(_)) => Waited::Lost,
            Err(_) => Waited::Not,
        }
    }

    /// Whether the flight still waits for its turn.
    pub(super) fn waits_for_turn(&self) -> bool {
        self.progress.began.get().is_none()
    }
}

impl Landing {
    /// Its deadline passed, or there was no room for it: for a caller who came later, a flight that
    /// begins now may come to its end.
    pub(super) fn is_late(&self) -> bool {
        let is_late = |error: &CollectError| match error {
            CollectError::Failed { deadline_passed, .. } => *deadline_passed,
            CollectError::Overloaded { .. } => true,
            CollectError::NotFound { .. } => false,
        };
        self.result.as_ref().is_err_and(is_late)
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, KeyFlights>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Seats a caller: in a flight that is there and that `rule` accepts, in one that begins now,
    /// or in the one that begins next; `None` where there is no place for a further flight. A
    /// `fresh` caller's flight asks the sources only.
    pub(super) fn seat(
        &self,
        key: &Arc<str>,
        caller: &Caller<'_>,
        rule: JoinRule,
    ) -> Option<Ticket> {
        let Caller { wish, fresh, .. } = *caller;
        let mut board = self.board().lock();
        let flights = board.entry(key.clone()).or_default();
        let airs = &flights.airs;
        let accepts = |id| airs.iter().any(|air| air.id == id && rule.accepts(air));
        let needs = Needs { accepts, is_pressed: self.would_be_late_after(airs) };
        let seat = self.bus().ask(|sidecar, now| flights.seats.arrive(sidecar, key, needs, now));
        let (id, start) = match seat {
            Seat::Join(id) | Seat::Wait(id) => (id, None),
            Seat::Begin(id, start) => (id, Some(start)),
        };
        let there = flights.airs.iter().find(|air| air.id == id).cloned();
        let joined = there.is_some();
        let air = if let Some(air) = there {
            air
        } else {
            let Ok(place) = self.flights_limit().clone().try_acquire_owned() else {
                flights.seats.withdraw(id);
                if flights.seats.is_empty() {
                    board.remove(key);
                }
                return None;
            };
            let air = Air::new(id, wish, place);
            flights.airs.push(air.clone());
            air
        };
        air.add(wish, fresh);
        air.limit_sharing(caller.patience.share_until);
        let (landed, progress) = (air.landed.subscribe(), air.progress.clone());
        if start.is_some() {
            air.begins();
        }
        drop(board);
        if let Some(start) = start {
            self.take_off(key.clone(), air, start);
        }
        Some(Ticket { id, landed, progress, joined })
    }

    /// Whether a caller of now would be late who waited for the first of these flights to end, and
    /// then for another.
    fn would_be_late_after(&self, airs: &[Arc<Air>]) -> bool {
        let deadline = self.collector().domain().deadline;
        let first = airs.iter().filter_map(|air| air.progress.began.get()).min();
        first.is_some_and(|began| self.collection_time().is_late_after(began.elapsed(), deadline))
    }

    /// A caller can wait no longer for its flight's turn: it begins now, where it may. Where
    /// another has just begun it is to be asked for again at the time that is returned, so that
    /// flights of one key are spread over the deadline.
    pub(super) fn press(&self, key: &Arc<str>, ticket: &Ticket) -> Option<Instant> {
        let mut board = self.board().lock();
        let flights = board.get_mut(key)?;
        let air =
            flights.airs.iter().find(|air| Arc::ptr_eq(&air.progress, &ticket.progress))?.clone();
        air.limit_sharing(Instant::now());
        let newest = flights.airs.iter().filter_map(|air| air.progress.began.get()).max();
        let spread = self.collector().domain().deadline / FLIGHTS_RUNNING_MAX;
        if let Some(newest) = newest.filter(|newest| newest.elapsed() < spread) {
            return Some(*newest + spread);
        }
        let start = self.bus().ask(|sidecar, _| flights.seats.press(ticket.id, sidecar));
        if start.is_some() {
            air.begins();
        }
        drop(board);
        if let Some(start) = start {
            self.take_off(key.clone(), air, start);
        }
        None
    }

    fn take_off(&self, key: Arc<str>, air: Arc<Air>, start: Start) {
        let aloft = Aloft { cache: self.clone(), key, air };
        aloft.cache.metrics().flights.inc();
        self.tasks().spawn(async move {
            let Some((landing, afterwards)) =
                aloft.cache.fly_while_wanted(&aloft.key, &aloft.air, start).await
            else {
                aloft.cache.metrics().abandoned.inc();
                return;
            };
            aloft.cache.tell(&aloft.key, &landing);
            aloft.air.landed.send_replace(Some(Arc::new(landing)));
            let (cache, key) = (aloft.cache.clone(), aloft.key.clone());
            drop(aloft);
            afterwards.run(&cache, &key).await;
        });
    }

    /// A flight that is given up (`None`) once nobody waits for it: at once if nothing of it would
    /// be kept, else as soon as no request is on its way. Only what has been asked of a source is
    /// worth the answer; and only so many requests can be on their way as sources have slots.
    async fn fly_while_wanted(
        &self,
        key: &Arc<str>,
        air: &Air,
        start: Start,
    ) -> Option<(Landing, Afterwards)> {
        let outstanding = Outstanding::default();
        let mut flight = pin!(self.fly(key, air, start, &outstanding));
        loop {
            tokio::select! {
                biased;
                flown = &mut flight => return Some(flown),
                () = air.landed.closed() => {}
            }
            tokio::select! {
                biased;
                flown = &mut flight => return Some(flown),
                () = outstanding.none(), if self.keeps() => {}
                () = std::future::ready(()), if !self.keeps() => {}
            }
            // Somebody may have come meanwhile.
            if !air.is_wanted() {
                return None;
            }
        }
    }
}

/// A flight in the air. Dropped when it has landed, when it is given up, or when its task has died.
struct Aloft {
    cache: Cache,
    key: Arc<str>,
    air: Arc<Air>,
}

impl Drop for Aloft {
    fn drop(&mut self) {
        self.cache.metrics().flights.dec();
        if self.air.landed.borrow().is_none() && self.air.landed.receiver_count() > 0 {
            self.cache.metrics().lost.inc();
            tracing::error!(domain = %self.cache.collector().domain().name, "a flight was lost");
        }
        let mut board = self.cache.board().lock();
        let Some(flights) = board.get_mut(&self.key) else { return };
        flights.airs.retain(|air| !Arc::ptr_eq(air, &self.air));
        let next =
            self.cache.bus().ask(|sidecar, now| flights.seats.ended(self.air.id, sidecar, now));
        let next = next.and_then(|(id, start)| {
            Some((flights.airs.iter().find(|air| air.id == id)?.clone(), start))
        });
        if flights.seats.is_empty() {
            board.remove(&self.key);
        }
        if let Some((air, _)) = &next {
            air.begins();
        }
        drop(board);
        if let Some((air, start)) = next {
            self.cache.take_off(self.key.clone(), air, start);
        }
    }
}
