//! Puts the parts together, supervises them, drains.
//!
//! [`Sidecar::start`] reads files and binds ports, so that whatever is wrong is known before anyone
//! is answered; [`Sidecar::run`] answers until it is told to stop, then drains. The only module
//! that knows everyone.

mod config;
mod drain;
mod files;
mod plans;
mod reload;

use std::path::PathBuf;
use std::sync::Arc;

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin, Health, Listeners, LogLevel, Phase, Reloads, Told};
use crate::bus::{self, Bus};
use crate::cache::{CacheMetrics, Memory, Samples, Seal, SealError};
use crate::domain::Loaded;
use crate::identity::{self, Identity, IdentityError};
use crate::resources::ComputePool;
use crate::serve::{
    self, Activity, Address, BindError, Consumers, Drain, Listener, Port, Reporter, Table,
};

pub use config::{Caching, Config};
pub use files::check_tape;
pub use plans::{Plans, Reading, caching, load_identity, read_domains, shared};

/// Why a sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The domain files have problems.
    #[error("{} problems in the domain files", .0.problems().len())]
    Domain(Box<Loaded>),
    /// The identity's files are not one.
    #[error("`--identity {}` cannot be used: {error}", dir.display())]
    Identity {
        /// The folder.
        dir: PathBuf,
        /// Why not.
        error: IdentityError,
    },
    /// The file of seal keys holds none.
    #[error("`--seal-key {}` cannot be used: {error}", file.display())]
    Seal {
        /// The file.
        file: PathBuf,
        /// Why not.
        error: SealError,
    },
    /// A file of the fleet's Redis cannot be had.
    #[error("`--{flag} {}` cannot be used: {source}", file.display())]
    RedisFile {
        /// Whose file it is.
        flag: &'static str,
        /// Which.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The folder of `--record` or `--replay`.
    #[error("`--{flag} {}` is no folder that can be used: {source}", folder.display())]
    Tape {
        /// Which flag.
        flag: &'static str,
        /// Its folder.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The folder of `--record` is open to others.
    #[error(
        "`--record {}` is open to others (mode {mode:04o}), and what is recorded is personal data; \
         expected a folder for \
         its owner alone\nhint: `chmod 700 {}`, or name a folder that is not there yet",
        folder.display(), folder.display()
    )]
    OpenRecord {
        /// The folder.
        folder: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// An address is taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// An address that others can reach.
    #[error("`--{flag} {address}` is not a loopback address; `--allow-remote` allows it")]
    Remote {
        /// Which flag.
        flag: &'static str,
        /// Its address.
        address: Address,
    },
    /// A program that `check` compiled does not compile: a fault of ours.
    #[error("a shape does not compile: {0}")]
    Shape(String),
}

/// The permissions of the admin port's socket, whatever `--socket-mode` gives consumers: who
/// reaches it can read data, invalidate, and change the log.
const ADMIN_SOCKET_MODE: u32 = 0o600;

/// A sidecar whose ports are open.
#[derive(Debug)]
pub struct Sidecar {
    config: Config,
    loaded: Loaded,
    plans: Plans,
    consumers: Vec<Listener>,
    admin: Listener,
    probes: Option<Listener>,
    answering: Consumers,
    told: Arc<Told>,
    table: watch::Sender<Arc<Table>>,
    identity: Option<watch::Sender<Arc<Identity>>>,
    identity_metrics: identity::Metrics,
    reloads: watch::Sender<Reloads>,
    reload_metrics: reload::Metrics,
    driver: Option<bus::Driver>,
    memory: Memory,
    compute: ComputePool,
    seal: Option<(Seal, CacheMetrics)>,
    samples: Option<Samples>,
    serve_metrics: serve::Metrics,
    phase: watch::Sender<Phase>,
    activity: Activity,
}

impl Sidecar {
    /// Reads the files, opens the ports.
    pub async fn start(mut config: Config, log: LogLevel) -> Result<Self, StartError> {
        let loaded = domains_of(&config)?;
        let mut registry = registry(&config);
        let identity_metrics = identity::Metrics::register(&mut registry);
        let identity = plans::load_identity(config.identity.as_ref())?.map(watch::Sender::new);
        let shared = plans::shared(
            config.tls,
            &config.tape,
            identity.as_ref(),
            identity_metrics.clone(),
            &mut registry,
        );
        files::check(&config)?;
        let seal = files::load_seal(config.caching.seal_key.as_deref())?;
        let mut caching =
            plans::caching(&config.caching, config.bus.is_some(), seal.clone(), &mut registry);
        let following = seal.map(|seal| (seal, caching.metrics.clone()));
        let samples = plans::verifying(&config, &mut caching, &mut registry);
        let (account, compute) = (caching.account.clone(), caching.compute.clone());
        let (memory, verifier) = (caching.memory.clone(), caching.verifier.clone());
        let (happenings, listeners) = (caching.events.clone(), Listeners::register(&mut registry));
        let (bus, driver) = connect(config.bus.clone(), bus::Metrics::register(&mut registry));
        let mut plans = Plans::new(shared, caching, bus.clone(), &mut registry);
        let serve_metrics = serve::Metrics::register(&mut registry);
        let caches = plans.update(loaded.domains());
        let table = caches.and_then(|caches| Table::new(caches, &serve_metrics));
        let table =
            watch::Sender::new(Arc::new(table.map_err(|error| StartError::Shape(error.message))?));
        let reload_metrics = reload::Metrics::register(&mut registry);
        let (reloads, phase) =
            (watch::Sender::new(Reloads::default()), watch::Sender::new(Phase::Starting));
        let activity = Activity::default();
        let told = Arc::new(Told {
            registry,
            health: Health::new(phase.subscribe()),
            table: table.subscribe(),
            identity: identity.as_ref().map(watch::Sender::subscribe),
            identity_metrics: identity_metrics.clone(),
            reloads: reloads.subscribe(),
            memory: memory.clone(),
            account,
            verifier,
            bus,
            bus_loss: config.caching.bus_loss,
            happenings,
            listeners,
            activity: activity.clone(),
            log,
            hosts: config.settings.hosts.clone(),
        });
        let reporter = Reporter::new(config.keys.clone(), config.spans.take());
        let answering = Consumers::new(
            table.subscribe(),
            config.settings.clone(),
            serve_metrics.clone(),
            reporter,
        );
        Ok(Self {
            consumers: config.bind_consumers().await?,
            admin: Listener::bind(&config.local("admin", &config.admin)?, ADMIN_SOCKET_MODE)
                .await?,
            probes: config.bind_probes().await?,
            config,
            loaded,
            plans,
            answering,
            told,
            table,
            identity,
            identity_metrics,
            reloads,
            reload_metrics,
            driver,
            memory,
            compute,
            seal: following,
            samples,
            serve_metrics,
            phase,
            activity,
        })
    }

    /// Where consumers are answered.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.consumers.iter().map(Listener::address)
    }

    /// Where the admin port is.
    pub fn admin_address(&self) -> &Address {
        self.admin.address()
    }

    /// Where the probes are, if they have an address of their own.
    pub fn probes_address(&self) -> Option<&Address> {
        self.probes.as_ref().map(Listener::address)
    }

    /// Answers until it is told to stop, then drains; told again, it drains no longer. `apply_log`
    /// sets the log's level. Returns early if a part of the sidecar ends that should not.
    pub async fn run(
        mut self,
        mut told_to: ToldTo,
        apply_log: impl Fn(&str) + Send + 'static,
    ) -> Result<(), RunError> {
        let (drain, drained) = watch::channel(Drain::Serving);
        let connections = TaskTracker::new();
        let (phase, activity, limit) =
            (self.phase.clone(), self.activity.clone(), self.config.drain);
        let compute = self.compute.clone();
        let (leave, left) = (CancellationToken::new(), TaskTracker::new());
        if let Some(driver) = self.driver.take() {
            left.spawn(driver.run(leave.clone().cancelled_owned()));
        }
        let (bus, bus_loss) = (self.told.bus.clone(), self.config.caching.bus_loss);
        let becomes_ready = async {
            plans::first_heartbeat(&bus, bus_loss).await;
            phase.send_replace(Phase::Ready);
            std::future::pending::<std::convert::Infallible>().await
        };
        let mut parts = self.spawn_parts(&drained, &connections, told_to.reload, apply_log);
        let ended = tokio::select! {
            _ = told_to.stop.recv() => Ok(()),
            never = becomes_ready => match never {},
            Some(ended) = parts.join_next() => Err(RunError(format!("a part of the sidecar ended: \
                 {ended:?}"))),
        };
        phase.send_replace(Phase::Draining);
        let again = async {
            told_to.stop.recv().await;
        };
        // A second of quiet counts from the signal on: the consumer may be about to ask its last.
        serve::until_quiet(&drain, &activity, serve::QUIET, limit, again).await;
        parts.abort_all();
        // Nobody is answered any more: a program that still runs holds the process up for nobody.
        compute.close();
        // The lease is given up before the registry is left, and nobody is answered any more.
        leave.cancel();
        drain::leave(&left).await;
        drain::close(&drain, &connections).await;
        ended
    }

    /// Everything that runs for as long as the sidecar does. Connections have an owner of their
    /// own: they outlive it.
    fn spawn_parts(
        self,
        drained: &watch::Receiver<Drain>,
        connections: &TaskTracker,
        reload: Arc<Notify>,
        apply_log: impl Fn(&str) + Send + 'static,
    ) -> JoinSet<()> {
        let port = |activity: &Activity, metrics: &serve::PortMetrics| Port {
            activity: activity.clone(),
            drain: drained.clone(),
            metrics: metrics.clone(),
            tasks: connections.clone(),
        };
        let mut parts = JoinSet::new();
        parts.spawn(self.memory.sweep());
        parts.spawn(admin::follow_log(self.told.log.clone(), apply_log));
        if let (Some(identity), Some(paths)) = (self.identity, self.config.identity) {
            parts.spawn(identity::follow(paths, identity, self.identity_metrics));
        }
        if let Some((seal, metrics)) = self.seal {
            parts.spawn(seal.follow(metrics));
        }
        if let Some(samples) = self.samples {
            parts.spawn(samples.verify());
        }
        let following = reload::Following {
            loaded: self.loaded,
            plans: self.plans,
            table: self.table,
            reloads: self.reloads,
            metrics: self.reload_metrics,
            serve_metrics: self.serve_metrics.clone(),
        };
        parts.spawn(following.follow(self.config.paths, self.config.reading, reload));
        let limits = self.config.limits;
        // Probes and the admin port are no consumers: a drain does not wait for them.
        let aside = Activity::default();
        let admin = port(&aside, &self.serve_metrics.admin_port);
        let probes = port(&aside, &self.serve_metrics.probes_port);
        parts.spawn(serve::accept(
            self.admin,
            Admin::new(self.told.clone()),
            limits.aside(),
            admin,
        ));
        if let Some(listener) = self.probes {
            parts.spawn(serve::accept(
                listener,
                Admin::probes(self.told.clone()),
                limits.aside(),
                probes,
            ));
        }
        for listener in self.consumers {
            parts.spawn(serve::accept(
                listener,
                self.answering.clone(),
                limits,
                port(&self.activity, &self.serve_metrics.port),
            ));
        }
        parts
    }
}

/// A registry with what belongs to no part of the sidecar.
fn registry(config: &Config) -> Registry {
    let mut registry = Registry::with_prefix("bfb");
    registry.register("build", "The build", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    if let Some(spans) = &config.spans {
        spans.register(&mut registry);
    }
    registry
}

/// The domains that are configured, if all of them are as they should be.
fn domains_of(config: &Config) -> Result<Loaded, StartError> {
    let loaded = plans::read_domains(&config.paths, config.reading);
    if loaded.problems().is_empty() {
        Ok(loaded)
    } else {
        Err(StartError::Domain(Box::new(loaded)))
    }
}

/// The bus, and the task that carries it where there is a Redis.
fn connect(settings: Option<bus::Settings>, metrics: bus::Metrics) -> (Bus, Option<bus::Driver>) {
    match settings {
        None => (Bus::alone([], metrics), None),
        Some(settings) => {
            let (bus, driver) = Bus::connect(settings, [], metrics);
            (bus, Some(driver))
        }
    }
}

/// How a running sidecar is told things.
#[derive(Debug)]
pub struct ToldTo {
    /// Stop: first drain, told again at once.
    pub stop: mpsc::Receiver<()>,
    /// Read the domain files again now.
    pub reload: Arc<Notify>,
}

/// A part of the sidecar ended that should not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RunError(String);
