//! The bus in the hands of others: one [`Bus`] a process, one [`DomainBus`] a domain.
//!
//! What a read asks is answered at once from the domain's state machine. What asks Redis is bounded
//! in time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio::time::timeout;

use super::clock;
use super::core::{Core, Domain};
use super::driver::Driver;
use super::fault::Fault;
use super::happening::Happening;
use super::invalidate::{self, Acknowledgement, NotAcknowledged, Sent};
use super::metrics::Metrics;
use super::settings::Settings;
use crate::coherence::{
    Answer, Call, Fence, Fetched, Mark, Moment, Name, Place, Scope, Sidecar, Start, Stored,
};

/// What a request may wait for Redis.
pub const READ_MAX: Duration = Duration::from_millis(50);
/// The same where a large dataset is read: a connection is opened for it. Its turn is waited for as
/// long again.
pub const LARGE_READ_MAX: Duration = Duration::from_millis(250);
/// The bytes of a dataset that come on the connection that all share; a larger one has a connection
/// of its own.
pub(super) const SHARED_BYTES_MAX: u64 = 1024 * 1024;
/// What keeping a dataset may take; nobody's answer waits for it.
pub const STORE_MAX: Duration = Duration::from_millis(500);

/// The bus of one process.
#[derive(Debug, Clone)]
pub struct Bus {
    core: Arc<Core>,
}

/// One domain on the bus.
#[derive(Debug, Clone)]
pub struct DomainBus {
    core: Arc<Core>,
    domain: Arc<Domain>,
}

/// Who collects a place for the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// This flight.
    Mine,
    /// Another.
    By(Name),
    /// Nobody needs to: Redis has the dataset by now.
    There(Fetched),
    /// Nobody needs to: Redis has a dataset of so many bytes, to be fetched for itself.
    Large(u64),
}

/// What Redis has of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// A dataset that is to be believed.
    Hit(Fetched),
    /// One of so many bytes, which is more than was asked for.
    Large(u64),
    /// None.
    Miss,
}

/// The turn to read a dataset; it ends once this is dropped.
#[derive(Debug)]
pub struct ReadTurn {
    _permit: Option<OwnedSemaphorePermit>,
}

/// The bus as it stands, for `GET /status`.
#[derive(Debug, Clone)]
pub struct Standing {
    /// There is no Redis: a fleet of one.
    pub alone: bool,
    /// The connections stand.
    pub connected: bool,
    /// What keeps the bus from Redis.
    pub trouble: Option<Fault>,
    /// Each domain.
    pub domains: Vec<DomainStanding>,
}

/// One domain as it stands.
#[derive(Debug, Clone)]
pub struct DomainStanding {
    /// Its name.
    pub domain: Arc<str>,
    /// What this process is called in its registry.
    pub member: Name,
    /// The log and the place in it up to which everything is applied.
    pub applied: Option<Fence>,
    /// Entries heard of and not applied.
    pub lag: u64,
    /// Memory may be served from.
    pub lease_held: bool,
    /// How much of the lease is left; none without Redis, where it does not end.
    pub lease_left: Option<Duration>,
    /// The newer protocol that the log speaks.
    pub newer_protocol: Option<u32>,
}

impl Bus {
    /// A fleet of one: no Redis, a lease that never ends.
    pub fn alone<'n>(domains: impl IntoIterator<Item = &'n str>, metrics: Metrics) -> Self {
        let (core, _) = Core::new(None, metrics);
        core.set_domains(domains);
        Self { core }
    }

    /// A bus over Redis, and the task that carries it. Redis need not be there.
    pub fn connect<'n>(
        settings: Settings,
        domains: impl IntoIterator<Item = &'n str>,
        metrics: Metrics,
    ) -> (Self, Driver) {
        let (core, ahead) = Core::new(Some(&settings), metrics);
        core.set_domains(domains);
        let driver = Driver::new(Arc::clone(&core), settings, ahead);
        (Self { core }, driver)
    }

    /// Serves these domains from now on. Those that stay keep their lease and their memory; one
    /// that goes deregisters.
    pub fn set_domains<'n>(&self, domains: impl IntoIterator<Item = &'n str>) {
        self.core.set_domains(domains);
    }

    /// One domain.
    pub fn domain(&self, name: &str) -> Option<DomainBus> {
        let domain = self.core.domain(name)?;
        Some(DomainBus { core: Arc::clone(&self.core), domain })
    }

    /// What happens from now on. Who is too slow misses some, and is told so.
    pub fn subscribe(&self) -> broadcast::Receiver<Happening> {
        self.core.listen()
    }

    /// Returns once every domain's lease is held.
    pub async fn all_leases_held(&self) {
        let mut happenings = self.subscribe();
        let is_held = |domain: &Arc<Domain>| domain.sidecar().may_serve(clock::now());
        while !self.core.domains().values().all(is_held) {
            // Who was too slow has missed some, and looks again.
            if matches!(happenings.recv().await, Err(broadcast::error::RecvError::Closed)) {
                return;
            }
        }
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let now = clock::now();
        Standing {
            alone: self.core.alone,
            connected: self.core.links().is_ok(),
            trouble: self.core.cause(),
            domains: self
                .core
                .domains()
                .values()
                .map(|domain| self.domain_standing(domain, now))
                .collect(),
        }
    }

    fn domain_standing(&self, domain: &Domain, now: Moment) -> DomainStanding {
        let sidecar = domain.sidecar();
        let left = sidecar.lease_until().map(|until| until.since(now));
        DomainStanding {
            domain: Arc::clone(&domain.name),
            member: domain.member.clone(),
            applied: sidecar.applied(),
            lag: sidecar.lag(),
            lease_held: sidecar.may_serve(now),
            lease_left: left.filter(|_| !self.core.alone),
            newer_protocol: sidecar.newer_protocol(),
        }
    }
}

/// What a read asks; answered at once.
impl DomainBus {
    /// The domain's name.
    pub fn name(&self) -> &Arc<str> {
        &self.domain.name
    }

    /// Whether the process is a fleet of one.
    pub fn is_alone(&self) -> bool {
        self.core.alone
    }

    /// Asks the state machine, at this moment. Do not wait for anything inside.
    pub fn ask<T>(&self, question: impl FnOnce(&Sidecar, Moment) -> T) -> T {
        let sidecar = self.domain.sidecar();
        question(&sidecar, clock::now())
    }

    /// Whether memory may be served from now.
    pub fn lease_held(&self) -> bool {
        self.ask(Sidecar::may_serve)
    }

    /// Up to where the log is applied.
    pub fn fence(&self) -> Option<Fence> {
        self.ask(|sidecar, _| sidecar.applied())
    }

    /// Whether a dataset in memory is believed.
    pub fn believes(&self, mark: Mark, key: &str, tags: &[Arc<str>]) -> bool {
        self.ask(|sidecar, _| sidecar.believes(mark, key, tags))
    }

    /// Begins a flight.
    pub fn begin(&self) -> Start {
        self.ask(|sidecar, _| sidecar.begin())
    }

    /// Whether a caller of now may join a flight.
    pub fn may_join(&self, start: Start, key: &str) -> bool {
        self.ask(|sidecar, now| sidecar.may_join(start, key, now))
    }

    /// Whether memory may keep what a flight collected, and the mark that it shall carry.
    pub fn may_store(&self, start: Start, key: &str, tags: &[Arc<str>]) -> Option<Mark> {
        self.ask(|sidecar, now| sidecar.may_store(start, key, tags, now))
    }

    /// The same for what a flight read from Redis.
    pub fn may_store_fetched(&self, start: Start, key: &str, fetched: &Fetched) -> Option<Mark> {
        self.ask(|sidecar, now| sidecar.may_store_fetched(start, key, fetched, now))
    }

    /// Whether this process has applied an invalidation that outdates what Redis handed out.
    pub fn outdates(&self, key: &str, fetched: &Fetched) -> bool {
        self.ask(|sidecar, _| sidecar.outdates(key, fetched))
    }

    /// Whether the invalidation that a token names is applied here.
    pub fn has_applied(&self, token: Fence) -> bool {
        self.ask(|sidecar, _| sidecar.has_applied(token))
    }

    /// Outdates all of memory and every flight in the air.
    pub fn empty(&self) {
        let action = self.domain.sidecar_mut().empty();
        self.core.memory(&self.domain, action);
    }
}

/// What asks Redis; bounded in time.
impl DomainBus {
    /// The dataset of a place, if Redis has one that is to be believed and that has at most
    /// `bytes_max` bytes.
    pub async fn fetch(&self, place: Place, bytes_max: u64) -> Result<Lookup, Fault> {
        let bound = if bytes_max > SHARED_BYTES_MAX { LARGE_READ_MAX } else { READ_MAX };
        match self.answer(Call::Fetch { place, bytes_max }, Duration::ZERO, bound).await? {
            Answer::Hit(fetched) => self.fitting(fetched, bytes_max).map(Lookup::Hit),
            Answer::Large(bytes) => Ok(Lookup::Large(bytes)),
            Answer::Miss | Answer::OtherLife => Ok(Lookup::Miss),
            _ => Err(Fault::Unreadable),
        }
    }

    /// Waits for the turn to read a dataset of so many bytes. Large ones are read two at a time in
    /// a process; who reads one waits here before it takes the memory.
    pub async fn turn_to_fetch(&self, bytes: u64) -> Result<ReadTurn, Fault> {
        if bytes <= SHARED_BYTES_MAX {
            return Ok(ReadTurn { _permit: None });
        }
        let turn = Arc::clone(&self.core.large).acquire_owned();
        let Ok(permit) = timeout(LARGE_READ_MAX, turn).await else {
            self.core.metrics.fault(&Fault::Slow);
            return Err(Fault::Slow);
        };
        Ok(ReadTurn { _permit: permit.ok() })
    }

    /// Keeps a dataset, of which the collection began `age` ago, in Redis for `ttl`; false if it
    /// was invalidated since its fence, or if Redis has one that was collected later.
    pub async fn store(
        &self,
        place: Place,
        dataset: Stored,
        age: Duration,
        ttl: Duration,
    ) -> Result<bool, Fault> {
        self.done(Call::Store { place, dataset, age }, ttl, STORE_MAX).await
    }

    /// Whether a dataset that another store keeps is to be believed.
    pub async fn vouch(
        &self,
        key: Arc<str>,
        tags: Vec<Arc<str>>,
        fence: Fence,
    ) -> Result<bool, Fault> {
        self.done(Call::Vouch { key, tags, fence }, Duration::ZERO, READ_MAX).await
    }

    /// What a flight is called that claims a place: no two are called the same.
    pub fn claimant(&self) -> Name {
        Name(format!("{}/{}", self.domain.member.0, self.core.next_claim()).into())
    }

    /// Asks to be the one who collects a place, for `ttl`; who asks again goes on being it. A
    /// dataset that is there by now comes instead, if it has at most `bytes_max` bytes, or else its
    /// size. `None`: it is of no use to the caller.
    pub async fn claim(
        &self,
        place: &Place,
        holder: &Name,
        fence: Fence,
        ttl: Duration,
        bytes_max: Option<u64>,
    ) -> Result<Claimed, Fault> {
        let call = Call::Claim { place: place.clone(), holder: holder.clone(), fence, bytes_max };
        match self.answer(call, ttl, READ_MAX).await? {
            Answer::Done(_) => Ok(Claimed::Mine),
            Answer::Held(holder) => Ok(Claimed::By(holder)),
            Answer::Hit(fetched) => {
                self.fitting(fetched, bytes_max.unwrap_or(0)).map(Claimed::There)
            }
            Answer::Large(bytes) => Ok(Claimed::Large(bytes)),
            Answer::OtherLife => Err(Fault::OtherLife),
            _ => Err(Fault::Unreadable),
        }
    }

    /// Ends a claim.
    pub async fn release(&self, place: Place, holder: Name) -> Result<bool, Fault> {
        self.done(Call::Release { place, holder }, Duration::ZERO, READ_MAX).await
    }

    /// What Redis calls a place, across all namespaces and domains.
    pub fn name_of(&self, place: &Place) -> String {
        self.domain.names.dataset(place)
    }

    /// Invalidates. Once this returns, the invalidation is in the log; [`Self::wait_fleet`] waits
    /// until it is acknowledged.
    pub async fn invalidate(&self, scopes: Arc<[Scope]>) -> Result<Sent, Fault> {
        invalidate::issue(&self.core, &self.domain, scopes).await
    }

    /// Waits until the whole fleet has acknowledged an invalidation of this process, at most for
    /// `limit`.
    pub async fn wait_fleet(
        &self,
        sent: &Sent,
        limit: Duration,
    ) -> Result<Acknowledgement, NotAcknowledged> {
        invalidate::wait(&self.core, &self.domain, sent, limit).await
    }

    /// A dataset, if it has no more bytes than were asked for: only for those is there memory.
    fn fitting(&self, fetched: Fetched, bytes_max: u64) -> Result<Fetched, Fault> {
        if fetched.dataset.body.len() as u64 <= bytes_max {
            return Ok(fetched);
        }
        self.core.metrics.fault(&Fault::Unreadable);
        Err(Fault::Unreadable)
    }

    async fn done(&self, call: Call, ttl: Duration, bound: Duration) -> Result<bool, Fault> {
        match self.answer(call, ttl, bound).await? {
            Answer::Done(so) => Ok(so),
            Answer::OtherLife => Ok(false),
            _ => Err(Fault::Unreadable),
        }
    }

    async fn answer(&self, call: Call, ttl: Duration, bound: Duration) -> Result<Answer, Fault> {
        self.core.ask(&self.domain, call, ttl, bound).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::coherence::Epoch;

    #[tokio::test(start_paused = true)]
    async fn large_datasets_are_read_two_at_a_time_and_small_ones_beside_them() {
        let domain = Bus::alone(["customer"], Metrics::default()).domain("customer").unwrap();
        let (one, two) = (
            domain.turn_to_fetch(16 << 20).await.unwrap(),
            domain.turn_to_fetch(16 << 20).await.unwrap(),
        );
        assert_eq!(domain.turn_to_fetch(16 << 20).await.unwrap_err(), Fault::Slow);
        assert!(domain.turn_to_fetch(SHARED_BYTES_MAX).await.is_ok());
        drop(one);
        assert!(domain.turn_to_fetch(16 << 20).await.is_ok());
        drop(two);
    }

    #[tokio::test(start_paused = true)]
    async fn without_connections_an_invalidation_waits_for_one_whatever_trouble_another_domain_has()
    {
        let url = "redis://127.0.0.1:1".parse().unwrap();
        let settings = Settings::new(url, Duration::from_secs(3));
        let (bus, _driver) = Bus::connect(settings, ["customer", "order"], Metrics::default());
        *bus.core.trouble.lock().unwrap() = Some(Fault::Newer(9));
        let (customer, began) = (bus.domain("customer").unwrap(), tokio::time::Instant::now());
        assert_eq!(customer.invalidate([Scope::All].into()).await.unwrap_err(), Fault::Newer(9));
        assert!(began.elapsed() > Duration::from_secs(1), "it was not tried again");
        let call = Call::ReadLog { after: Fence { epoch: Epoch(1), seq: 0 }, max: 1 };
        let answer = bus.core.ask(&customer.domain, call, Duration::ZERO, READ_MAX).await;
        assert_eq!(answer.unwrap_err(), Fault::Lost, "the log of this domain is not newer");
    }
}
