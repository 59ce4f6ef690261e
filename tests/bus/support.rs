//! A member of a fleet: a bus of its own with one domain, and waits for its events.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bfb::bus::{Bus, BusConfig, BusEvent, BusEventKind, BusMetrics, DomainBus, Lookup, RedisFault};
use bfb::coherence::{DatasetPlace, FetchedDataset, InvalidationScope, MemberName};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

pub(super) use crate::support::client::TEST_TIMEOUT;

pub(super) const DOMAIN: &str = "customer";
/// Short, so that a test may wait for a whole one.
pub(super) const LEASE: Duration = Duration::from_millis(800);

/// A dataset of at most this size is read with the first request.
pub(super) const READY_BYTES: u64 = 64 * 1024;

pub(super) struct Member {
    pub(super) bus: Bus,
    pub(super) domain: DomainBus,
    events: broadcast::Receiver<BusEvent>,
    stop: Option<oneshot::Sender<()>>,
    driver: JoinHandle<()>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The user that the list of permissions in `docs/redis.md` makes.
pub(super) fn settings(addr: SocketAddr) -> BusConfig {
    BusConfig::new(format!("redis://bfb:secret@{addr}").parse().unwrap(), LEASE)
}

impl Member {
    /// A member that may not have a lease yet.
    pub(super) fn begin(settings: BusConfig) -> Self {
        Self::serving(settings, &[DOMAIN])
    }

    /// A member that serves these domains; [`Self::domain`] is the first.
    pub(super) fn serving(settings: BusConfig, domains: &[&str]) -> Self {
        Self::with(settings, domains, BusMetrics::default())
    }

    /// A member whose counters the test reads.
    pub(super) fn counting(settings: BusConfig, metrics: BusMetrics) -> Self {
        Self::with(settings, &[DOMAIN], metrics)
    }

    fn with(settings: BusConfig, domains: &[&str], metrics: BusMetrics) -> Self {
        let (bus, driver) = Bus::connect(settings, domains.iter().copied(), metrics);
        let (stop, stopped) = oneshot::channel::<()>();
        let events = bus.subscribe();
        let domain = bus.domain(domains[0]).unwrap();
        let driver = tokio::spawn(driver.run(async { drop(stopped.await) }));
        Self { bus, domain, events, stop: Some(stop), driver }
    }

    /// A member that holds its lease.
    pub(super) async fn join(addr: SocketAddr) -> Self {
        Self::begin(settings(addr)).joined().await
    }

    /// The same once it holds its lease; the events until then are consumed.
    pub(super) async fn joined(mut self) -> Self {
        self.until_it(|what| *what == BusEventKind::LeaseHeld).await;
        while !self.domain.has_lease() {
            self.until_it(|what| *what == BusEventKind::LeaseHeld).await;
        }
        self
    }

    /// Waits until an event makes `so` true.
    pub(super) async fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(TEST_TIMEOUT, async {
            while !so(self) {
                self.next().await;
            }
        });
        assert!(waited.await.is_ok(), "it did not come to {what}: {:?}", self.bus.status());
    }

    /// Waits for an event of this kind.
    pub(super) async fn until_it(&mut self, is_expected: impl Fn(&BusEventKind) -> bool) {
        let waited = tokio::time::timeout(TEST_TIMEOUT, async {
            while !self.next().await.is_some_and(|event| is_expected(&event.kind)) {}
        });
        assert!(waited.await.is_ok(), "it never happened: {:?}", self.bus.status());
    }

    /// The next event; `None` if some were missed.
    async fn next(&mut self) -> Option<BusEvent> {
        match self.events.recv().await {
            Err(RecvError::Closed) => panic!("the bus is gone"),
            event => event.ok(),
        }
    }

    /// Skips the events so far.
    pub(super) fn forget(&mut self) {
        self.events = self.bus.subscribe();
    }

    /// Its name in the registry.
    pub(super) fn name(&self) -> MemberName {
        self.bus.status().domains[0].member.clone()
    }

    pub(super) async fn leave(&mut self) {
        drop(self.stop.take());
        (&mut self.driver).await.unwrap();
    }
}

/// Repeats a request that Redis answered more slowly than a read waits: these tests are not about
/// that bound.
pub(super) async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, RedisFault>
where
    F: Future<Output = Result<T, RedisFault>>,
{
    let until = Instant::now() + TEST_TIMEOUT;
    loop {
        match ask().await {
            Err(RedisFault::TimedOut) if Instant::now() < until => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
}

pub(super) fn keys(keys: &[&str]) -> Arc<[InvalidationScope]> {
    keys.iter().map(|&key| InvalidationScope::Key(key.into())).collect()
}

/// A small dataset, if Redis has it.
pub(super) async fn fetched(
    domain: &DomainBus,
    place: DatasetPlace,
) -> Result<Option<FetchedDataset>, RedisFault> {
    Ok(match domain.fetch(place, READY_BYTES).await? {
        Lookup::Hit(fetched) => Some(fetched),
        Lookup::Miss => None,
        Lookup::Large(bytes) => panic!("a dataset of {bytes} bytes is not small"),
    })
}
