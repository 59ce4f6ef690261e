//! One domain on the bus, in the hands of others.
//!
//! What a read asks is answered at once from the domain's state machine. What asks Redis is bounded
//! in time.

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

/// What a request may wait for Redis.
pub const READ_MAX: Duration = Duration::from_millis(50);
/// The same where a large dataset is read: a connection is opened for it. Its turn is waited for as
/// long again.
pub const LARGE_READ_MAX: Duration = Duration::from_millis(250);
/// What keeping a dataset may take; nobody's answer waits for it.
pub const STORE_MAX: Duration = Duration::from_millis(500);

/// One domain on the bus.
#[derive(Debug, Clone)]
pub struct DomainBus {
    pub(super) core: Arc<BusCore>,
    pub(super) domain: Arc<BusDomain>,
}

/// Who collects a place for the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// This flight.
    Acquired,
    /// Another.
    HeldBy(MemberName),
    /// Nobody needs to: Redis has the dataset by now.
    AlreadyStored(FetchedDataset),
    /// Nobody needs to: Redis has a dataset of so many bytes, to be fetched for itself.
    Large(u64),
}

/// What Redis has of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// A valid dataset.
    Hit(FetchedDataset),
    /// One of so many bytes, which is more than was asked for.
    Large(u64),
    /// None.
    Miss,
}

/// The turn to read a dataset; it ends once this is dropped.
#[derive(Debug)]
pub struct ReadPermit {
    _permit: Option<OwnedSemaphorePermit>,
}

/// What a read asks; answered at once.
impl DomainBus {
    /// The domain's name.
    pub fn name(&self) -> &Arc<str> {
        &self.domain.name
    }

    /// Whether the process is a fleet of one.
    pub fn is_standalone(&self) -> bool {
        self.core.is_standalone
    }

    /// Asks the state machine, at this moment. Do not wait for anything inside.
    pub fn query_replica<T>(&self, question: impl FnOnce(&Replica, Moment) -> T) -> T {
        let replica = self.domain.replica();
        question(&replica, clock::now())
    }

    /// Whether memory may be served from now.
    pub fn has_lease(&self) -> bool {
        self.query_replica(Replica::may_serve)
    }

    /// Up to where the log is applied.
    pub fn applied_fence(&self) -> Option<Fence> {
        self.query_replica(|replica, _| replica.applied())
    }

    /// Whether a dataset in memory is valid.
    pub fn is_valid(&self, fence: EntryFence, key: &str, tags: &[Arc<str>]) -> bool {
        self.query_replica(|replica, _| replica.is_valid(fence, key, tags))
    }

    /// Begins a flight.
    pub fn start_point(&self) -> StartPoint {
        self.query_replica(|replica, _| replica.start_point())
    }

    /// Whether a caller of now may join a flight.
    pub fn may_join(&self, start: StartPoint, key: &str) -> bool {
        self.query_replica(|replica, now| replica.may_join(start, key, now))
    }

    /// Whether memory may keep the dataset that a flight collected, and its entry fence.
    pub fn may_store(&self, start: StartPoint, key: &str, tags: &[Arc<str>]) -> Option<EntryFence> {
        self.query_replica(|replica, now| replica.may_store(start, key, tags, now))
    }

    /// The same for what a flight read from Redis.
    pub fn may_store_fetched(
        &self,
        start: StartPoint,
        key: &str,
        fetched: &FetchedDataset,
    ) -> Option<EntryFence> {
        self.query_replica(|replica, now| replica.may_store_fetched(start, key, fetched, now))
    }

    /// Whether this process has applied an invalidation that outdates what Redis handed out.
    pub fn has_outdated(&self, key: &str, fetched: &FetchedDataset) -> bool {
        self.query_replica(|replica, _| replica.has_outdated(key, fetched))
    }

    /// Whether the invalidation that a token names is applied here.
    pub fn has_applied(&self, token: Fence) -> bool {
        self.query_replica(|replica, _| replica.has_applied(token))
    }
}

/// What asks Redis; bounded in time.
impl DomainBus {
    /// The dataset of a place, if Redis has one that is to be believed and that has at most
    /// `bytes_max` bytes.
    pub async fn fetch(&self, place: DatasetPlace, bytes_max: u64) -> Result<Lookup, RedisFault> {
        let bound = if bytes_max > SHARED_BYTES_MAX { LARGE_READ_MAX } else { READ_MAX };
        match self.call(ScriptCall::Fetch { place, bytes_max }, Duration::ZERO, bound).await? {
            ScriptReply::Hit(fetched) => self.check_size(fetched, bytes_max).map(Lookup::Hit),
            ScriptReply::Large(bytes) => Ok(Lookup::Large(bytes)),
            ScriptReply::Miss | ScriptReply::OtherLife => Ok(Lookup::Miss),
            _ => Err(RedisFault::Unreadable),
        }
    }

    /// Waits for the turn to read a dataset of so many bytes. Large ones are read two at a time in
    /// a process; who reads one waits here before it takes the memory.
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

    /// Keeps a dataset, of which the collection began `age` ago, in Redis for `ttl`; false if it
    /// was invalidated since its fence, or if Redis has one that was collected later.
    pub async fn store(
        &self,
        place: DatasetPlace,
        dataset: TierDataset,
        age: Duration,
        ttl: Duration,
    ) -> Result<bool, RedisFault> {
        self.call_flag(ScriptCall::Store { place, dataset, age }, ttl, STORE_MAX).await
    }

    /// What a flight is called that claims a place: no two are called the same.
    pub fn new_claim_holder(&self) -> MemberName {
        MemberName(format!("{}/{}", self.domain.member.0, self.core.next_claim()).into())
    }

    /// Asks to be the one who collects a place, for `ttl`; who asks again goes on being it. A
    /// dataset that is there by now comes instead, if it has at most `bytes_max` bytes, or else its
    /// size. `None`: it is of no use to the caller.
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

    /// Ends a claim.
    pub async fn release(
        &self,
        place: DatasetPlace,
        holder: MemberName,
    ) -> Result<bool, RedisFault> {
        self.call_flag(ScriptCall::Release { place, holder }, Duration::ZERO, READ_MAX).await
    }

    /// What Redis calls a place, across all namespaces and domains.
    pub fn redis_key(&self, place: &DatasetPlace) -> String {
        self.domain.names.dataset(place)
    }

    /// Invalidates. Once this returns, the invalidation is in the log; [`Self::wait_for_fleet`]
    /// waits until it is acknowledged.
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

    /// A dataset, if it has no more bytes than were asked for: only for those is there memory.
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
            ScriptReply::Done(so) => Ok(so),
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
        let (one, two) = (
            domain.read_permit(16 << 20).await.unwrap(),
            domain.read_permit(16 << 20).await.unwrap(),
        );
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
