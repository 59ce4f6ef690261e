//! The flights in flight, by key (a singleflight table). [`crate::coherence::Flights`] decides
//! which caller joins which flight; the [`Fetch`] that the table was made with does the work of a
//! flight.
//!
//! A flight is a task of its own, so a caller that goes away cancels nothing that others wait for;
//! and however it ends, by a panic too, [`FlightGuard`] takes it out of the table and starts the
//! next one of its key.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::flight::{Flight, FlightResult, FlightWaiter, JoinRule};
use super::metrics::CacheMetrics;
use super::patience::CollectionTime;
use super::read_options::ReadOptions;
use crate::bus::DomainBus;
use crate::coherence::{FLIGHTS_RUNNING_MAX, FlightDecision, Flights, JoinNeeds, StartPoint};

/// Starts the work of a flight that begins.
pub(super) type Fetch = Box<dyn Fn(FlightStart) -> BoxFuture<'static, FetchOutcome> + Send + Sync>;

/// A flight that begins.
#[derive(Debug)]
pub(super) struct FlightStart {
    pub(super) key: Arc<str>,
    pub(super) flight: Arc<Flight>,
    /// The protocol's moment from which on its reads count.
    pub(super) start: StartPoint,
}

/// The result for the callers of a flight, and the work that follows once they have it.
pub(super) struct FetchOutcome {
    pub(super) result: FlightResult,
    pub(super) post_fetch: BoxFuture<'static, ()>,
}

/// The flights of one domain that run or wait: no more than there are permits. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct FlightTable(Arc<FlightTableInner>);

struct FlightTableInner {
    /// Locked to find, add or remove a flight; never across an `.await`.
    by_key: Mutex<HashMap<Arc<str>, KeyFlights>>,
    fetch: Fetch,
    settings: FlightTableSettings,
}

/// The parts and settings of a table.
#[derive(Debug)]
pub(super) struct FlightTableSettings {
    pub(super) domain: Arc<str>,
    /// The deadline of a dataset.
    pub(super) deadline: Duration,
    /// Whether the result of a flight is of use once its callers have left.
    pub(super) is_kept: bool,
    pub(super) bus: DomainBus,
    pub(super) collection_time: Arc<CollectionTime>,
    pub(super) metrics: CacheMetrics,
    /// Bounds the flights of the process that run or wait.
    pub(super) permits: Arc<Semaphore>,
    /// Owns the flights' tasks.
    pub(super) tasks: TaskTracker,
}

/// The flights of one key: the protocol's view of them, and the flights themselves.
#[derive(Debug, Default)]
struct KeyFlights {
    protocol: Flights,
    flights: Vec<Arc<Flight>>,
}

impl KeyFlights {
    fn find(&self, mut is_sought: impl FnMut(&Flight) -> bool) -> Option<Arc<Flight>> {
        self.flights.iter().find(|flight| is_sought(flight)).cloned()
    }
}

impl fmt::Debug for FlightTableInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlightTable").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl FlightTable {
    pub(super) fn new(settings: FlightTableSettings, fetch: Fetch) -> Self {
        Self(Arc::new(FlightTableInner { by_key: Mutex::default(), fetch, settings }))
    }

    /// Joins a flight of `key` that `rule` accepts, starts one, or joins the one that starts next;
    /// `None` where there is no permit for a further flight. The flight of a caller with
    /// `sources_only` takes nothing from Redis. It waits for claims of others until `share_until`.
    pub(super) fn join_or_start(
        &self,
        key: &Arc<str>,
        options: &ReadOptions,
        sources_only: bool,
        share_until: Instant,
        rule: JoinRule,
    ) -> Option<FlightWaiter> {
        let mut by_key = self.0.by_key.lock();
        let of_key = by_key.entry(key.clone()).or_default();
        let flights = &of_key.flights;
        let accepts = |id| flights.iter().any(|flight| flight.id == id && rule.accepts(flight));
        let needs = JoinNeeds { accepts, is_urgent: self.would_be_late_after(flights) };
        let protocol = &mut of_key.protocol;
        let decision = self
            .0
            .settings
            .bus
            .query_replica(|replica, now| protocol.join_or_start(replica, key, needs, now));
        let (id, start) = match decision {
            FlightDecision::Join(id) | FlightDecision::Wait(id) => (id, None),
            FlightDecision::Start(id, start) => (id, Some(start)),
        };
        let existing = of_key.find(|flight| flight.id == id);
        let joined = existing.is_some();
        let flight = if let Some(flight) = existing {
            flight
        } else {
            let Ok(permit) = self.0.settings.permits.clone().try_acquire_owned() else {
                of_key.protocol.withdraw(id);
                if of_key.protocol.is_empty() {
                    by_key.remove(key);
                }
                return None;
            };
            let flight = Flight::new(id, options, permit);
            of_key.flights.push(flight.clone());
            flight
        };
        flight.add_caller(options, sources_only, share_until);
        let waiter = flight.waiter(joined);
        if start.is_some() {
            flight.set_began();
        }
        drop(by_key);
        if let Some(start) = start {
            self.spawn_flight(key.clone(), flight, start);
        }
        Some(waiter)
    }

    /// Whether a caller that arrives now would be late if it waited for the first of these flights
    /// to end, and then for another one.
    fn would_be_late_after(&self, flights: &[Arc<Flight>]) -> bool {
        let settings = &self.0.settings;
        let first = flights.iter().filter_map(|flight| flight.began_at()).min();
        let is_late = |began: Instant| {
            settings.collection_time.is_late_after(began.elapsed(), settings.deadline)
        };
        first.is_some_and(is_late)
    }

    /// Starts a flight that waits for its turn, because its caller can wait no longer, where the
    /// protocol allows that. Where another has just begun the caller asks again at the time that is
    /// returned, so that flights of one key are spread over the deadline.
    pub(super) fn start_waiting(&self, key: &Arc<str>, waiter: &FlightWaiter) -> Option<Instant> {
        let mut by_key = self.0.by_key.lock();
        let of_key = by_key.get_mut(key)?;
        let flight = of_key.find(|flight| Arc::ptr_eq(&flight.progress, &waiter.progress))?;
        flight.limit_sharing(Instant::now());
        let newest = of_key.flights.iter().filter_map(|flight| flight.began_at()).max();
        let spread = self.0.settings.deadline / FLIGHTS_RUNNING_MAX;
        if let Some(newest) = newest.filter(|newest| newest.elapsed() < spread) {
            return Some(newest + spread);
        }
        let protocol = &mut of_key.protocol;
        let start = self
            .0
            .settings
            .bus
            .query_replica(|replica, _| protocol.start_waiting(waiter.id, replica));
        if start.is_some() {
            flight.set_began();
        }
        drop(by_key);
        if let Some(start) = start {
            self.spawn_flight(key.clone(), flight, start);
        }
        None
    }

    fn spawn_flight(&self, key: Arc<str>, flight: Arc<Flight>, start: StartPoint) {
        self.0.settings.metrics.flights.inc();
        let guard = FlightGuard { table: self.clone(), key, flight, result: None };
        self.0.settings.tasks.spawn(guard.run(start));
    }

    /// Takes out a flight that has ended, hands its callers the result, and starts the next flight
    /// of its key, all under one lock: a caller that arrives once a result is known cannot join the
    /// flight that brought it.
    fn remove(&self, key: &Arc<str>, flight: &Arc<Flight>, result: Option<FlightResult>) {
        let mut by_key = self.0.by_key.lock();
        if let Some(result) = result {
            flight.publish(result);
        }
        let Some(of_key) = by_key.get_mut(key) else { return };
        of_key.flights.retain(|other| !Arc::ptr_eq(other, flight));
        let protocol = &mut of_key.protocol;
        let next = self
            .0
            .settings
            .bus
            .query_replica(|replica, now| protocol.end_flight(flight.id, replica, now));
        let next = next.and_then(|(id, start)| {
            let flight = of_key.find(|flight| flight.id == id)?;
            Some((flight, start))
        });
        if of_key.protocol.is_empty() {
            by_key.remove(key);
        }
        if let Some((flight, _)) = &next {
            flight.set_began();
        }
        drop(by_key);
        if let Some((flight, start)) = next {
            self.spawn_flight(key.clone(), flight, start);
        }
    }
}

/// A flight that runs. Dropped when it has ended, when it is given up, or when its task has died.
struct FlightGuard {
    table: FlightTable,
    key: Arc<str>,
    flight: Arc<Flight>,
    /// The result, once it is there.
    result: Option<FlightResult>,
}

impl FlightGuard {
    async fn run(mut self, start: StartPoint) {
        let table = self.table.clone();
        let settings = &table.0.settings;
        let key = self.key.clone();
        let flight = self.flight.clone();
        let fetch = (table.0.fetch)(FlightStart { key, flight, start });
        let Some(fetched) = self.flight.run_while_awaited(fetch, settings.is_kept).await else {
            settings.metrics.abandoned.inc();
            return;
        };
        self.result = Some(fetched.result);
        drop(self);
        fetched.post_fetch.await;
    }
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        let settings = &self.table.0.settings;
        settings.metrics.flights.dec();
        if self.result.is_none() && self.flight.has_waiters() {
            settings.metrics.lost.inc();
            tracing::error!(domain = %settings.domain, "a flight was lost");
        }
        self.table.remove(&self.key, &self.flight, self.result.take());
    }
}
