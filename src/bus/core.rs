//! What the driver and the callers share: the domains with their state machines, the connections of
//! the moment, and the one way to run a script.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot, watch};

use super::acknowledgement::SentInvalidation;
use super::clock;
use super::config::BusConfig;
use super::connections::{CurrentConnections, RedisConnections};
use super::events::{BusEvent, BusEventKind};
use super::fault::RedisFault;
use super::metrics::BusMetrics;
use super::redis_names::RedisNames;
use super::redis_server::{ConnectionKind, SHARED_BYTES_MAX};
use super::scripts::{LIMITS, Scripts};
use crate::coherence::{
    Epoch, InvalidationScope, MemberName, Moment, PROTOCOL, PublishedEntries, Replica,
    ReplicaAction, ReplicaConfig, ScriptCall, ScriptReply, ScriptRequest,
};

/// Events that a slow listener may lag behind before it misses some.
const EVENTS_MAX: usize = 1_024;
/// Own invalidations that wait to be applied ahead of their message.
const LOCAL_INVALIDATIONS_MAX: usize = 256;
/// Large datasets that are on their way at once: there is memory for each of them.
const LARGE_AT_ONCE: usize = 2;
/// So many slow answers in a row, and datasets are not asked for during [`SLOW_PAUSE`].
const SLOW_IN_ROW: u32 = 3;
const SLOW_PAUSE: Duration = Duration::from_millis(200);

/// One domain on the bus.
#[derive(Debug)]
pub(super) struct BusDomain {
    pub(super) name: Arc<str>,
    /// What it is called in the domain's registry. A domain that goes and comes back is another
    /// member: what the one before said last may still be on its way.
    pub(super) member: MemberName,
    pub(super) names: RedisNames,
    /// Asked by every read, changed by the driver; never held across a wait.
    replica: RwLock<Replica>,
    /// Invalidations that wait for the script's next turn, so that a burst of them is one entry.
    pub(super) pending: Mutex<VecDeque<PendingInvalidation>>,
    /// Batch lock: held while a batch of invalidations is sent, so that batches keep their order.
    pub(super) batch_lock: tokio::sync::Mutex<()>,
}

/// An invalidation and its caller.
pub(super) type PendingInvalidation =
    (Arc<[InvalidationScope]>, oneshot::Sender<Result<SentInvalidation, RedisFault>>);

/// What is shared.
#[derive(Debug)]
pub(super) struct BusCore {
    pub(super) is_standalone: bool,
    label: String,
    namespace: String,
    lease: Duration,
    grace: Duration,
    /// From where the heartbeats of all domains are counted. Each process has its own: a fleet's do
    /// not fall together.
    origin: Moment,
    pub(super) scripts: Scripts,
    pub(super) metrics: BusMetrics,
    domains: RwLock<BTreeMap<Arc<str>, Arc<BusDomain>>>,
    /// The domains are others than before.
    pub(super) domains_changed: Notify,
    pub(super) connections: watch::Sender<CurrentConnections>,
    /// What keeps them from being made, or from being of use.
    pub(super) current_fault: Mutex<Option<RedisFault>>,
    events: broadcast::Sender<BusEvent>,
    pub(super) local_invalidations: mpsc::Sender<(Arc<BusDomain>, PublishedEntries)>,
    /// Turns to read a large dataset.
    pub(super) large_reads: Arc<Semaphore>,
    slow_in_row: AtomicU32,
    paused_until_ms: AtomicU64,
    /// Tells the claims of this process apart.
    claims_made: AtomicU64,
}

impl BusDomain {
    pub(super) fn replica(&self) -> RwLockReadGuard<'_, Replica> {
        self.replica.read()
    }

    pub(super) fn replica_mut(&self) -> RwLockWriteGuard<'_, Replica> {
        self.replica.write()
    }
}

/// What the driver takes out at its end of [`BusCore::local_invalidations`].
pub(super) type LocalInvalidations = mpsc::Receiver<(Arc<BusDomain>, PublishedEntries)>;

impl BusCore {
    pub(super) fn new(
        settings: Option<&BusConfig>,
        metrics: BusMetrics,
    ) -> (Arc<Self>, LocalInvalidations) {
        let (local_invalidations, receiver) = mpsc::channel(LOCAL_INVALIDATIONS_MAX);
        let core = Self {
            is_standalone: settings.is_none(),
            label: settings.map_or_else(String::new, |settings| settings.label.clone()),
            namespace: settings.map_or_else(String::new, |settings| settings.namespace.clone()),
            lease: settings.map_or(Duration::from_secs(1), |settings| settings.lease),
            grace: settings.map_or(Duration::ZERO, |settings| settings.failover_grace),
            origin: clock::now(),
            scripts: Scripts::new(LIMITS),
            metrics,
            domains: RwLock::default(),
            domains_changed: Notify::new(),
            connections: watch::Sender::new(None),
            current_fault: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_MAX),
            local_invalidations,
            large_reads: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
            slow_in_row: AtomicU32::new(0),
            paused_until_ms: AtomicU64::new(0),
            claims_made: AtomicU64::new(0),
        };
        (Arc::new(core), receiver)
    }

    /// The domains of now.
    pub(super) fn domains(&self) -> BTreeMap<Arc<str>, Arc<BusDomain>> {
        self.domains.read().clone()
    }

    pub(super) fn domain(&self, name: &str) -> Option<Arc<BusDomain>> {
        self.domains.read().get(name).cloned()
    }

    /// Serves these domains from now on: those that stay keep their state.
    pub(super) fn set_domains<'n>(&self, names: impl IntoIterator<Item = &'n str>) {
        let mut domains = self.domains.write();
        let make = |name: &str| {
            domains.get(name).cloned().unwrap_or_else(|| Arc::new(self.new_domain(name)))
        };
        let now: BTreeMap<_, _> =
            names.into_iter().map(|name| (Arc::from(name), make(name))).collect();
        let before = std::mem::replace(&mut *domains, now);
        if self.is_standalone {
            // No driver looks after the gauges: the lease of a fleet of one never ends.
            before
                .keys()
                .filter(|name| !domains.contains_key(*name))
                .for_each(|name| self.metrics.remove_domain(name));
            domains.keys().for_each(|name| self.metrics.set_domain_gauges(name, true, 0));
        }
        drop(domains);
        self.domains_changed.notify_one();
    }

    fn new_domain(&self, name: &str) -> BusDomain {
        self.metrics.init_domain(name);
        let member = random_name(&self.label);
        let config = ReplicaConfig {
            failover_grace: self.grace,
            heartbeat_origin: Some(self.origin),
            ..ReplicaConfig::new(member.clone(), self.lease)
        };
        let replica = if self.is_standalone {
            Replica::standalone(config, random_epoch())
        } else {
            Replica::new(config)
        };
        BusDomain {
            name: name.into(),
            member,
            names: RedisNames::new(&self.namespace, name),
            replica: RwLock::new(replica),
            pending: Mutex::default(),
            batch_lock: tokio::sync::Mutex::default(),
        }
    }

    /// How long a heartbeat or a reading of the log may stay unanswered.
    pub(super) fn reply_timeout(&self) -> Duration {
        (self.lease / 4).clamp(Duration::from_millis(50), Duration::from_secs(1))
    }

    /// A request with a name for the epoch that it may have to begin.
    pub(super) fn new_request(call: ScriptCall) -> ScriptRequest {
        ScriptRequest { protocol: PROTOCOL, fresh_epoch: random_epoch(), call }
    }

    /// Runs one script within `bound`.
    pub(super) async fn call(
        &self,
        domain: &BusDomain,
        call: ScriptCall,
        ttl: Duration,
        bound: Duration,
    ) -> Result<ScriptReply, RedisFault> {
        let lane = match call {
            ScriptCall::Fetch { bytes_max, .. } if bytes_max > SHARED_BYTES_MAX => {
                ConnectionKind::Large(bytes_max)
            }
            ScriptCall::Store { .. }
            | ScriptCall::Fetch { .. }
            | ScriptCall::Claim { .. }
            | ScriptCall::Release { .. } => ConnectionKind::Datasets,
            _ => ConnectionKind::Protocol,
        };
        let answered = self.send_call(lane, domain, call, ttl, bound).await;
        if let Err(fault) = &answered {
            self.metrics.count_fault(fault);
        }
        match answered? {
            ScriptReply::NewerProtocol(protocol) => Err(RedisFault::NewerProtocol(protocol)),
            answer => Ok(answer),
        }
    }

    async fn send_call(
        &self,
        lane: ConnectionKind,
        domain: &BusDomain,
        call: ScriptCall,
        ttl: Duration,
        bound: Duration,
    ) -> Result<ScriptReply, RedisFault> {
        let links = self.connections()?;
        if lane == ConnectionKind::Protocol {
            return links
                .run(
                    lane,
                    &self.scripts.prepare(&domain.names, &Self::new_request(call), ttl),
                    bound,
                )
                .await;
        }
        if self.is_paused() {
            return Err(RedisFault::TimedOut);
        }
        let answered = links
            .run(lane, &self.scripts.prepare(&domain.names, &Self::new_request(call), ttl), bound)
            .await;
        if lane == ConnectionKind::Datasets {
            self.note_slowness(answered == Err(RedisFault::TimedOut));
        }
        answered
    }

    pub(super) fn next_claim(&self) -> u64 {
        self.claims_made.fetch_add(1, Ordering::Relaxed)
    }

    /// The connections of now. Without any a request is lost, whatever [`Self::current_fault`]
    /// says: that may be another domain's trouble, or one that a new connection does not have.
    pub(super) fn connections(&self) -> Result<Arc<RedisConnections>, RedisFault> {
        self.connections.borrow().clone().ok_or(RedisFault::Lost)
    }

    /// What keeps the bus from Redis now.
    pub(super) fn current_fault(&self) -> Option<RedisFault> {
        self.current_fault.lock().clone()
    }

    /// While Redis does not keep up, requests do not wait for it one after the other.
    fn is_paused(&self) -> bool {
        now_ms() < self.paused_until_ms.load(Ordering::Relaxed)
    }

    fn note_slowness(&self, slow: bool) {
        if !slow {
            self.slow_in_row.store(0, Ordering::Relaxed);
        } else if self.slow_in_row.fetch_add(1, Ordering::Relaxed) + 1 >= SLOW_IN_ROW {
            self.paused_until_ms.store(now_ms() + as_ms(SLOW_PAUSE), Ordering::Relaxed);
        }
    }

    /// Sends an event to all subscribers.
    pub(super) fn send_event(&self, domain: &BusDomain, kind: BusEventKind) {
        let _ = self.events.send(BusEvent {
            at: SystemTime::now(),
            domain: Some(Arc::clone(&domain.name)),
            kind,
        });
    }

    /// The same of what concerns all domains.
    pub(super) fn send_connection_event(&self, kind: BusEventKind) {
        let _ = self.events.send(BusEvent { at: SystemTime::now(), domain: None, kind });
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<BusEvent> {
        self.events.subscribe()
    }

    /// Does what concerns memory; hands back what concerns Redis.
    pub(super) fn apply_to_memory(
        &self,
        domain: &BusDomain,
        action: ReplicaAction,
    ) -> Option<ReplicaAction> {
        match action {
            ReplicaAction::Applied(entry) => {
                self.metrics.count_applied(&domain.name);
                self.send_event(domain, BusEventKind::InvalidationApplied(entry));
                None
            }
            ReplicaAction::EmptyMemory(reason) => {
                self.metrics.count_emptied(&domain.name, reason);
                self.send_event(domain, BusEventKind::MemoryEmptied(reason));
                None
            }
            action => Some(action),
        }
    }
}

fn as_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn now_ms() -> u64 {
    as_ms(clock::now().since(Moment::default()))
}

/// A name that no epoch had before.
pub(super) fn random_epoch() -> Epoch {
    Epoch(random())
}

/// A name that no member had before. It has no blank, since claims are told apart by one.
fn random_name(label: &str) -> MemberName {
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let label: String = label.chars().filter(fits).take(63).collect();
    MemberName(format!("{label}-{:016x}", random() >> 64).into())
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    // Without the operating system's randomness nothing here can be promised, TLS neither.
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    u128::from_ne_bytes(bytes)
}
