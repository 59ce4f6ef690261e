//! What the driver and the callers share: the domains with their state machines, the connections of
//! the moment, and the one way to run a script.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot, watch};

use super::clock;
use super::connection::{Links, Shared};
use super::fault::Fault;
use super::guards::guards;
use super::handle::SHARED_BYTES_MAX;
use super::happening::{Happening, What};
use super::metrics::Metrics;
use super::names::Names;
use super::scripts::{LIMITS, Scripts};
use super::server::Lane;
use super::settings::Settings;
use crate::coherence::{
    Action, Answer, Call, Config, Epoch, Moment, Name, PROTOCOL, Published, Request, Scope, Sidecar,
};

/// Happenings that a slow listener may be behind before it misses some.
const HAPPENINGS_MAX: usize = 1_024;
/// Own invalidations that wait to be applied ahead of their message.
const AHEAD_MAX: usize = 256;
/// Large datasets that are on their way at once: there is memory for each of them.
const LARGE_AT_ONCE: usize = 2;
/// So many slow answers in a row, and datasets are not asked for during [`REST`].
const SLOW_IN_ROW: u32 = 3;
const REST: Duration = Duration::from_millis(200);

/// One domain on the bus.
#[derive(Debug)]
pub(super) struct Domain {
    pub(super) name: Arc<str>,
    /// What it is called in the domain's registry. A domain that goes and comes back is another
    /// member: what the one before said last may still be on its way.
    pub(super) member: Name,
    pub(super) names: Names,
    /// Asked by every read, changed by the driver; never held across a wait.
    sidecar: RwLock<Sidecar>,
    /// Invalidations that wait for the script's next turn, so that a burst of them is one entry.
    pub(super) burst: Mutex<VecDeque<Waiting>>,
    /// Whose turn it is.
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// An invalidation and its caller.
pub(super) type Waiting = (Arc<[Scope]>, oneshot::Sender<Result<super::invalidate::Sent, Fault>>);

/// What is shared.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) alone: bool,
    label: String,
    namespace: String,
    lease: Duration,
    grace: Duration,
    /// From where the heartbeats of all domains are counted. Each process has its own: a fleet's do
    /// not fall together.
    origin: Moment,
    pub(super) scripts: Scripts,
    pub(super) metrics: Metrics,
    domains: RwLock<BTreeMap<Arc<str>, Arc<Domain>>>,
    /// The domains are others than before.
    pub(super) changed: Notify,
    pub(super) links: watch::Sender<Shared>,
    /// What keeps them from being made, or from being of use.
    pub(super) trouble: Mutex<Option<Fault>>,
    happenings: broadcast::Sender<Happening>,
    pub(super) ahead: mpsc::Sender<(Arc<Domain>, Published)>,
    /// Turns to read a large dataset.
    pub(super) large: Arc<Semaphore>,
    slow_in_row: AtomicU32,
    rest_until_ms: AtomicU64,
    /// Tells the claims of this process apart.
    claims: AtomicU64,
}

impl Domain {
    pub(super) fn sidecar(&self) -> RwLockReadGuard<'_, Sidecar> {
        self.sidecar.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sidecar_mut(&self) -> RwLockWriteGuard<'_, Sidecar> {
        self.sidecar.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the driver takes out at its end of [`Core::ahead`].
pub(super) type Ahead = mpsc::Receiver<(Arc<Domain>, Published)>;

impl Core {
    pub(super) fn new(settings: Option<&Settings>, metrics: Metrics) -> (Arc<Self>, Ahead) {
        let (ahead, taken) = mpsc::channel(AHEAD_MAX);
        let core = Self {
            alone: settings.is_none(),
            label: settings.map_or_else(String::new, |settings| settings.label.clone()),
            namespace: settings.map_or_else(String::new, |settings| settings.namespace.clone()),
            lease: settings.map_or(Duration::from_secs(1), |settings| settings.lease),
            grace: settings.map_or(Duration::ZERO, |settings| settings.failover_grace),
            origin: clock::now(),
            scripts: Scripts::new(LIMITS),
            metrics,
            domains: RwLock::default(),
            changed: Notify::new(),
            links: watch::Sender::new(None),
            trouble: Mutex::default(),
            happenings: broadcast::Sender::new(HAPPENINGS_MAX),
            ahead,
            large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
            slow_in_row: AtomicU32::new(0),
            rest_until_ms: AtomicU64::new(0),
            claims: AtomicU64::new(0),
        };
        (Arc::new(core), taken)
    }

    /// The domains of now.
    pub(super) fn domains(&self) -> BTreeMap<Arc<str>, Arc<Domain>> {
        self.domains.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn domain(&self, name: &str) -> Option<Arc<Domain>> {
        self.domains.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Serves these domains from now on: those that stay keep their state.
    pub(super) fn set_domains<'n>(&self, names: impl IntoIterator<Item = &'n str>) {
        let mut domains = self.domains.write().unwrap_or_else(PoisonError::into_inner);
        let make = |name: &str| {
            domains.get(name).cloned().unwrap_or_else(|| Arc::new(self.new_domain(name)))
        };
        let now: BTreeMap<_, _> =
            names.into_iter().map(|name| (Arc::from(name), make(name))).collect();
        let before = std::mem::replace(&mut *domains, now);
        if self.alone {
            // No driver looks after the gauges: the lease of a fleet of one never ends.
            before
                .keys()
                .filter(|name| !domains.contains_key(*name))
                .for_each(|name| self.metrics.forget(name));
            domains.keys().for_each(|name| self.metrics.stand(name, true, 0));
        }
        drop(domains);
        self.changed.notify_one();
    }

    fn new_domain(&self, name: &str) -> Domain {
        self.metrics.begin(name);
        let member = random_name(&self.label);
        let (together, guards) = (Some(self.origin), guards());
        let config = Config {
            grace: self.grace,
            together,
            guards,
            ..Config::new(member.clone(), self.lease)
        };
        let sidecar =
            if self.alone { Sidecar::alone(config, random_epoch()) } else { Sidecar::new(config) };
        Domain {
            name: name.into(),
            member,
            names: Names::new(&self.namespace, name),
            sidecar: RwLock::new(sidecar),
            burst: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// How long a heartbeat or a reading of the log may stay unanswered.
    pub(super) fn patience(&self) -> Duration {
        (self.lease / 4).clamp(Duration::from_millis(50), Duration::from_secs(1))
    }

    /// A request with a name for the epoch that it may have to begin.
    pub(super) fn request(call: Call) -> Request {
        Request { protocol: PROTOCOL, fresh: random_epoch(), call }
    }

    /// Runs one script within `bound`.
    pub(super) async fn ask(
        &self,
        domain: &Domain,
        call: Call,
        ttl: Duration,
        bound: Duration,
    ) -> Result<Answer, Fault> {
        let lane = match call {
            Call::Fetch { bytes_max, .. } if bytes_max > SHARED_BYTES_MAX => Lane::Large(bytes_max),
            Call::Store { .. }
            | Call::Fetch { .. }
            | Call::Vouch { .. }
            | Call::Claim { .. }
            | Call::Release { .. } => Lane::Datasets,
            _ => Lane::Protocol,
        };
        let answered = self.answered(lane, domain, call, ttl, bound).await;
        if let Err(fault) = &answered {
            self.metrics.fault(fault);
        }
        match answered? {
            Answer::Newer(protocol) => Err(Fault::Newer(protocol)),
            answer => Ok(answer),
        }
    }

    async fn answered(
        &self,
        lane: Lane,
        domain: &Domain,
        call: Call,
        ttl: Duration,
        bound: Duration,
    ) -> Result<Answer, Fault> {
        let links = self.links()?;
        if lane == Lane::Protocol {
            return links
                .run(lane, &self.scripts.ask(&domain.names, &Self::request(call), ttl), bound)
                .await;
        }
        if self.rests() {
            return Err(Fault::Slow);
        }
        let answered = links
            .run(lane, &self.scripts.ask(&domain.names, &Self::request(call), ttl), bound)
            .await;
        if lane == Lane::Datasets {
            self.note_pace(answered == Err(Fault::Slow));
        }
        answered
    }

    pub(super) fn next_claim(&self) -> u64 {
        self.claims.fetch_add(1, Ordering::Relaxed)
    }

    /// The connections of now. Without any a request is lost, whatever [`Self::cause`] says: that
    /// may be another domain's trouble, or one that a new connection does not have.
    pub(super) fn links(&self) -> Result<Arc<Links>, Fault> {
        self.links.borrow().clone().ok_or(Fault::Lost)
    }

    /// What keeps the bus from Redis now.
    pub(super) fn cause(&self) -> Option<Fault> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// While Redis does not keep up, requests do not wait for it one after the other.
    fn rests(&self) -> bool {
        now_ms() < self.rest_until_ms.load(Ordering::Relaxed)
    }

    fn note_pace(&self, slow: bool) {
        if !slow {
            self.slow_in_row.store(0, Ordering::Relaxed);
        } else if self.slow_in_row.fetch_add(1, Ordering::Relaxed) + 1 >= SLOW_IN_ROW {
            self.rest_until_ms.store(now_ms() + as_ms(REST), Ordering::Relaxed);
        }
    }

    /// Tells whoever listens.
    pub(super) fn tell(&self, domain: &Domain, what: What) {
        let _ = self.happenings.send(Happening {
            at: SystemTime::now(),
            domain: Some(Arc::clone(&domain.name)),
            what,
        });
    }

    /// The same of what concerns all domains.
    pub(super) fn tell_of_links(&self, what: What) {
        let _ = self.happenings.send(Happening { at: SystemTime::now(), domain: None, what });
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<Happening> {
        self.happenings.subscribe()
    }

    /// Does what concerns memory; hands back what concerns Redis.
    pub(super) fn memory(&self, domain: &Domain, action: Action) -> Option<Action> {
        match action {
            Action::Applied(entry) => {
                self.metrics.applied(&domain.name);
                self.tell(domain, What::Applied(entry));
                None
            }
            Action::EmptyMemory(why) => {
                self.metrics.emptied(&domain.name, why);
                self.tell(domain, What::Emptied(why));
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
fn random_name(label: &str) -> Name {
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let label: String = label.chars().filter(fits).take(63).collect();
    Name(format!("{label}-{:016x}", random() >> 64).into())
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    // Without the operating system's randomness nothing here can be promised, TLS neither.
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    u128::from_ne_bytes(bytes)
}
