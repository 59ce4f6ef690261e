//! The handle of one domain on the bus, which `cache` and `admin` hold.
//!
//! The queries of a read are answered at once from the domain's replica. Every call to Redis is
//! bounded in time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::acknowledgement::{Acknowledgement, NotAcknowledged, SentInvalidation};
use super::clock;
use super::core::{BusCore, BusDomain};
use super::fault::RedisFault;
use super::invalidate;
use super::redis_server::SHARED_BYTES_MAX;
use crate::coherence::{
    DatasetPlace, EntryFence, Fence, FetchedDataset, InvalidationScope, MemberName, Moment,
    Replica, ScriptCall, ScriptReply, StartPoint, TierDataset,
};

/// The longest that a request waits for Redis.
pub const READ_MAX: Duration = Duration::from_millis(50);
/// The same where a large dataset is read, for which a connection is opened. The wait for a
/// [`ReadPermit`] is bounded by as much again.
pub const LARGE_READ_MAX: Duration = Duration::from_millis(250);
/// The longest that storing a dataset in Redis takes; no caller's answer waits for it.
pub const STORE_MAX: Duration = Duration::from_millis(500);

/// One domain on the bus.
#[derive(Debug, Clone)]
pub struct DomainBus {
    pub(super) core: Arc<BusCore>,
    pub(super) domain: Arc<BusDomain>,
}

/// The answer to a claim: who collects a place for the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The flight that asked collects it.
    Acquired,
    /// Another holds the claim.
    HeldBy(MemberName),
    /// Redis has the dataset by now, so no flight needs to collect it.
    AlreadyStored(FetchedDataset),
    /// Redis has a dataset of so many bytes, which is to be fetched by a call of its own.
    Large(u64),
}

/// The dataset that Redis has of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// A valid dataset.
    Hit(FetchedDataset),
    /// A valid dataset of so many bytes, which is more than was asked for.
    Large(u64),
    /// No valid dataset.
    Miss,
}

/// The permit to read a dataset; dropping it releases it.
#[derive(Debug)]
pub struct ReadPermit {
    _permit: Option<OwnedSemaphorePermit>,
}

/// The queries of a read, answered at once from the replica.
impl DomainBus {
    /// The domain's name.
    pub fn name(&self) -> &Arc<str> {
        &self.domain.name
    }

    /// Whether the process is a fleet of one.
    pub fn is_standalone(&self) -> bool {
        self.core.is_standalone
    }

    /// Queries the replica at this moment, under its lock: `query` must not block.
    pub fn query_replica<T>(&self, query: impl FnOnce(&Replica, Moment) -> T) -> T {
        let replica = self.domain.replica();
        query(&replica, clock::now())
    }

    /// Whether memory may be served from now.
    pub fn has_lease(&self) -> bool {
        self.query_replica(Replica::may_serve)
    }

    /// The place in the log up to which everything is applied.
    pub fn applied_fence(&self) -> Option<Fence> {
        self.query_replica(|replica, _| replica.applied())
    }

    /// Whether a dataset in memory is valid.
    pub fn is_valid(&self, fence: EntryFence, key: &str, tags: &[Arc<str>]) -> bool {
        self.query_replica(|replica, _| replica.is_valid(fence, key, tags))
    }

    /// The start point of a flight that begins now.
    pub fn start_point(&self) -> StartPoint {
        self.query_replica(|replica, _| replica.start_point())
    }

    /// Whether a caller who comes now may join a flight.
    pub fn may_join(&self, start: StartPoint, key: &str) -> bool {
        self.query_replica(|replica, now| replica.may_join(start, key, now))
    }

    /// Whether memory may keep the dataset that a flight collected, and its entry fence.
    pub fn may_store(&self, start: StartPoint, key: &str, tags: &[Arc<str>]) -> Option<EntryFence> {
        self.query_replica(|replica, now| replica.may_store(start, key, tags, now))
    }

    /// The same for a dataset that a flight read from Redis.
    pub fn may_store_fetched(
        &self,
        start: StartPoint,
        key: &str,
        fetched: &FetchedDataset,
    ) -> Option<EntryFence> {
        self.query_replica(|replica, now| replica.may_store_fetched(start, key, fetched, now))
    }

    /// Whether this process has applied an invalidation that outdates a dataset from Redis.
    pub fn has_outdated(&self, key: &str, fetched: &FetchedDataset) -> bool {
        self.query_replica(|replica, _| replica.has_outdated(key, fetched))
    }

    /// Whether the invalidation that a token names is applied here.
    pub fn has_applied(&self, token: Fence) -> bool {
        self.query_replica(|replica, _| replica.has_applied(token))
    }
}

/// The calls to Redis, each bounded in time.
impl DomainBus {
    /// The dataset of a place, if Redis has one that is valid and that has at most `bytes_max`
    /// bytes.
    pub async fn fetch(&self, place: DatasetPlace, bytes_max: u64) -> Result<Lookup, RedisFault> {
        let bound = if bytes_max > SHARED_BYTES_MAX { LARGE_READ_MAX } else { READ_MAX };
        match self.call(ScriptCall::Fetch { place, bytes_max }, Duration::ZERO, bound).await? {
            ScriptReply::Hit(fetched) => self.check_size(fetched, bytes_max).map(Lookup::Hit),
            ScriptReply::Large(bytes) => Ok(Lookup::Large(bytes)),
            ScriptReply::Miss | ScriptReply::OtherLife => Ok(Lookup::Miss),
            _ => Err(RedisFault::Unreadable),
        }
    }

    /// Waits for the permit to read a dataset of so many bytes. A process reads two large ones at a
    /// time; their readers wait here before they reserve the memory.
    pub async fn read_permit(&self, bytes: u64) -> Result<ReadPermit, RedisFault> {
        if bytes <= SHARED_BYTES_MAX {
            return Ok(ReadPermit { _permit: None });
        }
        let acquired = Arc::clone(&self.core.large_reads).acquire_owned();
        let Ok(permit) = timeout(LARGE_READ_MAX, acquired).await else {
            self.core.metrics.count_fault(&RedisFault::TimedOut);
            return Err(RedisFault::TimedOut);
        };
        Ok(ReadPermit { _permit: permit.ok() })
    }

    /// Stores a dataset, whose collection began `age` ago, in Redis for `ttl`; false if it was
    /// invalidated since its fence, or if Redis has one that was collected later.
    pub async fn store(
        &self,
        place: DatasetPlace,
        dataset: TierDataset,
        age: Duration,
        ttl: Duration,
    ) -> Result<bool, RedisFault> {
        self.call_flag(ScriptCall::Store { place, dataset, age }, ttl, STORE_MAX).await
    }

    /// A unique name for a flight that claims a place.
    pub fn new_claim_holder(&self) -> MemberName {
        MemberName(format!("{}/{}", self.domain.member.0, self.core.next_claim()).into())
    }

    /// Claims a place for `ttl`; the holder renews its claim by claiming again. If Redis has the
    /// dataset by now, the answer is that dataset, or its size if it has more than `bytes_max`
    /// bytes. `None`: the caller cannot use a dataset of Redis, and claims the place although there
    /// is one.
    pub async fn claim(
        &self,
        place: &DatasetPlace,
        holder: &MemberName,
        fence: Fence,
        ttl: Duration,
        bytes_max: Option<u64>,
    ) -> Result<ClaimOutcome, RedisFault> {
        let call =
            ScriptCall::Claim { place: place.clone(), holder: holder.clone(), fence, bytes_max };
        match self.call(call, ttl, READ_MAX).await? {
            ScriptReply::Done(_) => Ok(ClaimOutcome::Acquired),
            ScriptReply::HeldBy(holder) => Ok(ClaimOutcome::HeldBy(holder)),
            ScriptReply::Hit(fetched) => {
                self.check_size(fetched, bytes_max.unwrap_or(0)).map(ClaimOutcome::AlreadyStored)
            }
            ScriptReply::Large(bytes) => Ok(ClaimOutcome::Large(bytes)),
            ScriptReply::OtherLife => Err(RedisFault::OtherLife),
            _ => Err(RedisFault::Unreadable),
        }
    }

    /// Releases a claim; an unreleased claim expires after its `ttl`.
    pub async fn release(
        &self,
        place: DatasetPlace,
        holder: MemberName,
    ) -> Result<bool, RedisFault> {
        self.call_flag(ScriptCall::Release { place, holder }, Duration::ZERO, READ_MAX).await
    }

    /// The key under which Redis keeps the dataset of a place.
    pub fn redis_key(&self, place: &DatasetPlace) -> String {
        self.domain.names.dataset(place)
    }

    /// Invalidates these scopes. Once this returns, the invalidation is in the log;
    /// [`Self::wait_for_fleet`] waits until it is acknowledged.
    pub async fn invalidate(
        &self,
        scopes: Arc<[InvalidationScope]>,
    ) -> Result<SentInvalidation, RedisFault> {
        invalidate::issue(&self.core, &self.domain, scopes).await
    }

    /// Waits until the whole fleet has acknowledged an invalidation of this process, at most for
    /// `limit`.
    pub async fn wait_for_fleet(
        &self,
        sent: &SentInvalidation,
        limit: Duration,
    ) -> Result<Acknowledgement, NotAcknowledged> {
        invalidate::wait_for_fleet(&self.core, &self.domain, sent, limit).await
    }

    /// Refuses a dataset that has more bytes than were asked for: memory is reserved only for
    /// those.
    fn check_size(
        &self,
        fetched: FetchedDataset,
        bytes_max: u64,
    ) -> Result<FetchedDataset, RedisFault> {
        if fetched.dataset.body.len() as u64 <= bytes_max {
            return Ok(fetched);
        }
        self.core.metrics.count_fault(&RedisFault::Unreadable);
        Err(RedisFault::Unreadable)
    }

    async fn call_flag(
        &self,
        call: ScriptCall,
        ttl: Duration,
        bound: Duration,
    ) -> Result<bool, RedisFault> {
        match self.call(call, ttl, bound).await? {
            ScriptReply::Done(is_done) => Ok(is_done),
            ScriptReply::OtherLife => Ok(false),
            _ => Err(RedisFault::Unreadable),
        }
    }

    async fn call(
        &self,
        call: ScriptCall,
        ttl: Duration,
        bound: Duration,
    ) -> Result<ScriptReply, RedisFault> {
        self.core.call(&self.domain, call, ttl, bound).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::config::BusConfig;
    use super::super::handle::Bus;
    use super::super::metrics::BusMetrics;
    use super::*;
    use crate::coherence::Epoch;

    #[tokio::test(start_paused = true)]
    async fn large_datasets_are_read_two_at_a_time_and_small_ones_beside_them() {
        let domain =
            Bus::standalone(["customer"], BusMetrics::default()).domain("customer").unwrap();
        let one = domain.read_permit(16 << 20).await.unwrap();
        let two = domain.read_permit(16 << 20).await.unwrap();
        assert_eq!(domain.read_permit(16 << 20).await.unwrap_err(), RedisFault::TimedOut);
        assert!(domain.read_permit(SHARED_BYTES_MAX).await.is_ok());
        drop(one);
        assert!(domain.read_permit(16 << 20).await.is_ok());
        drop(two);
    }

    #[tokio::test(start_paused = true)]
    async fn without_connections_an_invalidation_waits_for_one_whatever_trouble_another_domain_has()
    {
        let url = "redis://127.0.0.1:1".parse().unwrap();
        let settings = BusConfig::new(url, Duration::from_secs(3));
        let (bus, _driver) = Bus::connect(settings, ["customer", "order"], BusMetrics::default());
        let customer = bus.domain("customer").unwrap();
        *customer.core.current_fault.lock() = Some(RedisFault::NewerProtocol(9));
        let began = tokio::time::Instant::now();
        assert_eq!(
            customer.invalidate([InvalidationScope::All].into()).await.unwrap_err(),
            RedisFault::NewerProtocol(9)
        );
        assert!(began.elapsed() > Duration::from_secs(1), "it was not tried again");
        let call = ScriptCall::ReadLog { after: Fence { epoch: Epoch(1), seq: 0 }, max: 1 };
        let answer = customer.core.call(&customer.domain, call, Duration::ZERO, READ_MAX).await;
        assert_eq!(answer.unwrap_err(), RedisFault::Lost, "the log of this domain is not newer");
    }
}
