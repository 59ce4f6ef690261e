//! The state that the driver and the callers share: the domains with their replicas, the current
//! connections, and the one function that runs a script ([`BusCore::call`]).

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
/// Invalidations of this process that wait to be applied ahead of their message.
const LOCAL_INVALIDATIONS_MAX: usize = 256;
/// Large datasets that are read at once: there is memory for each of them.
const LARGE_AT_ONCE: usize = 2;
/// After so many slow answers in a row Redis is not asked for datasets during [`SLOW_PAUSE`].
const SLOW_IN_ROW: u32 = 3;
const SLOW_PAUSE: Duration = Duration::from_millis(200);

/// One domain on the bus.
#[derive(Debug)]
pub(super) struct BusDomain {
    pub(super) name: Arc<str>,
    /// This process's name in the domain's registry. A domain that is removed and added again is
    /// another member: the last call of the one before may still be in flight.
    pub(super) member: MemberName,
    pub(super) names: RedisNames,
    /// Queried by every read, changed by the driver; the lock is never held across an `.await`.
    replica: RwLock<Replica>,
    /// Pending invalidations: they wait for the batch lock, so that those that come together become
    /// one entry.
    pub(super) pending: Mutex<VecDeque<PendingInvalidation>>,
    /// Held while a batch of invalidations is sent, so that batches keep their order.
    pub(super) batch_lock: tokio::sync::Mutex<()>,
}

/// An invalidation and its caller.
pub(super) type PendingInvalidation =
    (Arc<[InvalidationScope]>, oneshot::Sender<Result<SentInvalidation, RedisFault>>);

/// The shared state of one process's bus.
#[derive(Debug)]
pub(super) struct BusCore {
    pub(super) is_standalone: bool,
    label: String,
    namespace: String,
    lease: Duration,
    grace: Duration,
    /// The moment from which the heartbeats of all domains are counted. Each process has its own,
    /// so that the heartbeats of a fleet do not fall together.
    origin: Moment,
    pub(super) scripts: Scripts,
    pub(super) metrics: BusMetrics,
    domains: RwLock<BTreeMap<Arc<str>, Arc<BusDomain>>>,
    /// Notified when the set of domains has changed.
    pub(super) domains_changed: Notify,
    pub(super) connections: watch::Sender<CurrentConnections>,
    /// The Redis fault that keeps the connections from being made or from being of use.
    pub(super) current_fault: Mutex<Option<RedisFault>>,
    events: broadcast::Sender<BusEvent>,
    pub(super) local_invalidations: mpsc::Sender<(Arc<BusDomain>, PublishedEntries)>,
    /// Permits to read a large dataset.
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

/// The driver's end of [`BusCore::local_invalidations`].
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

    /// The current domains.
    pub(super) fn domains(&self) -> BTreeMap<Arc<str>, Arc<BusDomain>> {
        self.domains.read().clone()
    }

    pub(super) fn domain(&self, name: &str) -> Option<Arc<BusDomain>> {
        self.domains.read().get(name).cloned()
    }

    /// Serves these domains from now on. Domains that stay keep their state.
    pub(super) fn set_domains<'n>(&self, names: impl IntoIterator<Item = &'n str>) {
        let mut domains = self.domains.write();
        let make = |name: &str| {
            domains.get(name).cloned().unwrap_or_else(|| Arc::new(self.new_domain(name)))
        };
        let now: BTreeMap<_, _> =
            names.into_iter().map(|name| (Arc::from(name), make(name))).collect();
        let before = std::mem::replace(&mut *domains, now);
        if self.is_standalone {
            // Without a driver nobody else sets the gauges: the lease of a fleet of one never ends.
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

    /// A request for a call, with a random name for the epoch that it may have to begin.
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
        let kind = match call {
            ScriptCall::Fetch { bytes_max, .. } if bytes_max > SHARED_BYTES_MAX => {
                ConnectionKind::Large(bytes_max)
            }
            ScriptCall::Store { .. }
            | ScriptCall::Fetch { .. }
            | ScriptCall::Claim { .. }
            | ScriptCall::Release { .. } => ConnectionKind::Datasets,
            _ => ConnectionKind::Protocol,
        };
        let answered = self.send_call(kind, domain, call, ttl, bound).await;
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
        kind: ConnectionKind,
        domain: &BusDomain,
        call: ScriptCall,
        ttl: Duration,
        bound: Duration,
    ) -> Result<ScriptReply, RedisFault> {
        let connections = self.connections()?;
        let request = Self::new_request(call);
        let invocation = self.scripts.prepare(&domain.names, &request, ttl);
        if kind == ConnectionKind::Protocol {
            return connections.run(kind, &invocation, bound).await;
        }
        if self.is_paused() {
            return Err(RedisFault::TimedOut);
        }
        let answered = connections.run(kind, &invocation, bound).await;
        if kind == ConnectionKind::Datasets {
            self.note_slowness(answered == Err(RedisFault::TimedOut));
        }
        answered
    }

    pub(super) fn next_claim(&self) -> u64 {
        self.claims_made.fetch_add(1, Ordering::Relaxed)
    }

    /// The current connections. Without any the fault is `Lost`, whatever [`Self::current_fault`]
    /// says: that may be the fault of another domain, or one that a new connection does not have.
    pub(super) fn connections(&self) -> Result<Arc<RedisConnections>, RedisFault> {
        self.connections.borrow().clone().ok_or(RedisFault::Lost)
    }

    /// The Redis fault of this moment, if there is one.
    pub(super) fn current_fault(&self) -> Option<RedisFault> {
        self.current_fault.lock().clone()
    }

    /// Whether Redis is not asked for datasets at present. While it does not keep up, requests
    /// should not wait for it one after the other.
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

    /// Sends an event that concerns all domains.
    pub(super) fn send_connection_event(&self, kind: BusEventKind) {
        let _ = self.events.send(BusEvent { at: SystemTime::now(), domain: None, kind });
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<BusEvent> {
        self.events.subscribe()
    }

    /// Performs an action that concerns memory; returns an action that concerns Redis.
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

/// A random name for an epoch; no epoch had it before.
pub(super) fn random_epoch() -> Epoch {
    Epoch(random())
}

/// A random name for a member; no member had it before. It has no blank, because the scripts
/// separate a claim's fields by blanks.
fn random_name(label: &str) -> MemberName {
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let label: String = label.chars().filter(fits).take(63).collect();
    MemberName(format!("{label}-{:016x}", random() >> 64).into())
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    // Without the operating system's randomness neither unique names nor TLS can be had.
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    u128::from_ne_bytes(bytes)
}
