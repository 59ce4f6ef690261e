//! Puts the parts together, supervises them, drains.
//!
//! [`Sidecar::start`] reads files and binds ports, so that whatever is wrong is known before anyone
//! is answered; [`Sidecar::run`] answers until it is told to stop, then drains. The only module
//! that knows everyone.

mod assembly;
mod config;
mod file_checks;
mod reload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, watch};

use crate::admin::{
    self, Admin, AdminState, EventListeners, LogLevel, Phase, ProcessHealth, ReloadStatus,
};
use crate::bus::{self, Bus};
use crate::cache::{CacheMetrics, Memory, SampleVerifier, Seal, SealError};
use crate::domain::Loaded;
use crate::identity::{self, Identity, IdentityError};
use crate::resources::ComputePool;
use crate::serve::{
    self, Activity, BindError, Consumers, ListenAddress, Listener, Reporter, Routes,
};
use crate::supervisor::{Control, DrainTimes, GracefulTask, Supervisor, TaskEnded};

pub use assembly::{
    DomainCaches, DomainFileOptions, build_cache, build_sources, load_identity, read_domains,
};
pub use config::{CachingConfig, SidecarConfig};
pub use file_checks::check_recording_folder;

/// Why a sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum SidecarStartError {
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
    RecordingFolder {
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
    RecordingReadableByOthers {
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
    RemoteAddress {
        /// Which flag.
        flag: &'static str,
        /// Its address.
        address: ListenAddress,
    },
    /// A program that `check` compiled does not compile: a fault of ours.
    #[error("a shape does not compile: {0}")]
    Shape(String),
}

/// How long Redis may take to hear that this sidecar goes.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The permissions of the admin port's socket, whatever `--socket-mode` gives consumers: who
/// reaches it can read data, invalidate, and change the log.
const ADMIN_SOCKET_MODE: u32 = 0o600;

/// A sidecar whose ports are open.
#[derive(Debug)]
pub struct Sidecar {
    config: SidecarConfig,
    loaded: Loaded,
    domain_caches: DomainCaches,
    consumer_listeners: Vec<Listener>,
    admin_listener: Listener,
    probes_listener: Option<Listener>,
    consumers: Consumers,
    admin_state: Arc<AdminState>,
    routes: watch::Sender<Arc<Routes>>,
    identity: Option<watch::Sender<Arc<Identity>>>,
    identity_metrics: identity::IdentityMetrics,
    reloads: watch::Sender<ReloadStatus>,
    reload_metrics: reload::ReloadMetrics,
    driver: Option<bus::Driver>,
    memory: Memory,
    compute: ComputePool,
    seal: Option<(Seal, CacheMetrics)>,
    samples: Option<SampleVerifier>,
    serve_metrics: serve::ServeMetrics,
    phase: watch::Sender<Phase>,
    activity: Activity,
}

impl Sidecar {
    /// Reads the files, opens the ports.
    pub async fn start(
        mut config: SidecarConfig,
        log: LogLevel,
    ) -> Result<Self, SidecarStartError> {
        let loaded = load_domains(&config)?;
        let mut registry = build_registry(&config);
        let identity_metrics = identity::IdentityMetrics::register(&mut registry);
        let identity = assembly::load_identity(config.identity.as_ref())?.map(watch::Sender::new);
        let shared_sources = assembly::build_sources(
            config.tls,
            &config.recording,
            identity.as_ref(),
            identity_metrics.clone(),
            &mut registry,
        );
        file_checks::check_files(&config)?;
        let seal = file_checks::load_seal(config.caching.seal_key.as_deref())?;
        let mut shared_cache = assembly::build_cache(
            &config.caching,
            config.bus.is_some(),
            seal.clone(),
            &mut registry,
        );
        let watched_seal = seal.map(|seal| (seal, shared_cache.metrics.clone()));
        let samples = assembly::build_verifier(&config, &mut shared_cache, &mut registry);
        let (account, compute) = (shared_cache.account.clone(), shared_cache.compute.clone());
        let (memory, verifier) = (shared_cache.memory.clone(), shared_cache.verifier.clone());
        let (happenings, listeners) =
            (shared_cache.events.clone(), EventListeners::register(&mut registry));
        let (bus, driver) =
            connect_bus(config.bus.clone(), bus::BusMetrics::register(&mut registry));
        let mut domain_caches =
            DomainCaches::new(shared_sources, shared_cache, bus.clone(), &mut registry);
        let serve_metrics = serve::ServeMetrics::register(&mut registry);
        let caches = domain_caches.update(loaded.domains());
        let routes = caches.and_then(|caches| Routes::new(caches, &serve_metrics));
        let routes = watch::Sender::new(Arc::new(
            routes.map_err(|error| SidecarStartError::Shape(error.message))?,
        ));
        let reload_metrics = reload::ReloadMetrics::register(&mut registry);
        let (reloads, phase) =
            (watch::Sender::new(ReloadStatus::default()), watch::Sender::new(Phase::Starting));
        let activity = Activity::default();
        let admin_state = Arc::new(AdminState {
            registry,
            health: ProcessHealth::new(phase.subscribe()),
            routes: routes.subscribe(),
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
            hosts: config.consumers.hosts.clone(),
        });
        let reporter = Reporter::new(config.key_log.clone(), config.spans.take());
        let consumers = Consumers::new(
            routes.subscribe(),
            config.consumers.clone(),
            serve_metrics.clone(),
            reporter,
        );
        Ok(Self {
            consumer_listeners: config.bind_consumers().await?,
            admin_listener: Listener::bind(
                &config.check_local("admin", &config.admin)?,
                ADMIN_SOCKET_MODE,
            )
            .await?,
            probes_listener: config.bind_probes().await?,
            config,
            loaded,
            domain_caches,
            consumers,
            admin_state,
            routes,
            identity,
            identity_metrics,
            reloads,
            reload_metrics,
            driver,
            memory,
            compute,
            seal: watched_seal,
            samples,
            serve_metrics,
            phase,
            activity,
        })
    }

    /// Where consumers are answered.
    pub fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.consumer_listeners.iter().map(Listener::address)
    }

    /// Where the admin port is.
    pub fn admin_address(&self) -> &ListenAddress {
        self.admin_listener.address()
    }

    /// Where the probes are, if they have an address of their own.
    pub fn probes_address(&self) -> Option<&ListenAddress> {
        self.probes_listener.as_ref().map(Listener::address)
    }

    /// Answers until it is told to stop, then drains; told again, it drains no longer. `apply_log`
    /// sets the log's level. Returns early if a part of the sidecar ends that should not.
    pub async fn run(
        mut self,
        mut control: Control,
        apply_log: impl Fn(&str) + Send + 'static,
    ) -> Result<(), SidecarRunError> {
        let phase = self.phase.clone();
        let compute = self.compute.clone();
        // A second of quiet counts from the signal on: the consumer may be about to ask its last.
        let drain = DrainTimes { least: serve::QUIET_PERIOD, most: self.config.drain };
        let fleet = self.driver.take().map(|driver| GracefulTask::spawn(|end| driver.run(end)));
        let bus = self.admin_state.bus.clone();
        let bus_loss = self.config.caching.bus_loss;
        let become_ready = async {
            assembly::wait_for_heartbeat(&bus, bus_loss).await;
            phase.send_replace(Phase::Ready);
        };
        let mut supervisor = Supervisor::new(self.activity.clone());
        self.spawn_tasks(&mut supervisor, control.reload(), apply_log);
        let ended = supervisor.run_until_stopped(&mut control, become_ready).await;
        phase.send_replace(Phase::Draining);
        supervisor.drain(&mut control, drain).await;
        supervisor.stop_tasks();
        // Nobody is answered any more: a program that still runs holds the process up for nobody.
        compute.close();
        // The lease is given up before the registry is left, and nobody is answered any more.
        if let Some(fleet) = fleet {
            leave_fleet(&fleet).await;
        }
        supervisor.close_connections().await;
        ended.map_err(SidecarRunError)
    }

    /// Everything that runs for as long as the sidecar does.
    fn spawn_tasks(
        self,
        supervisor: &mut Supervisor,
        reload: Arc<Notify>,
        apply_log: impl Fn(&str) + Send + 'static,
    ) {
        supervisor.spawn(self.memory.sweep());
        supervisor.spawn(admin::follow_log(self.admin_state.log.clone(), apply_log));
        if let (Some(identity), Some(paths)) = (self.identity, self.config.identity) {
            supervisor.spawn(identity::follow(paths, identity, self.identity_metrics));
        }
        if let Some((seal, metrics)) = self.seal {
            supervisor.spawn(seal.reload_on_change(metrics));
        }
        if let Some(samples) = self.samples {
            supervisor.spawn(samples.verify());
        }
        let reloader = reload::Reloader {
            loaded: self.loaded,
            domain_caches: self.domain_caches,
            routes: self.routes,
            reloads: self.reloads,
            metrics: self.reload_metrics,
            serve_metrics: self.serve_metrics.clone(),
        };
        supervisor.spawn(reloader.run(self.config.paths, self.config.domain_files, reload));
        let limits = self.config.limits;
        // Probes and the admin port are no consumers: a drain does not wait for them.
        let admin = Admin::new(self.admin_state.clone());
        let port = supervisor.auxiliary_port(&self.serve_metrics.admin_port);
        supervisor.spawn(serve::accept(self.admin_listener, admin, limits.auxiliary(), port));
        if let Some(listener) = self.probes_listener {
            let probes = Admin::probes(self.admin_state.clone());
            let port = supervisor.auxiliary_port(&self.serve_metrics.probes_port);
            supervisor.spawn(serve::accept(listener, probes, limits.auxiliary(), port));
        }
        for listener in self.consumer_listeners {
            let port = supervisor.port(&self.serve_metrics.consumers_port);
            supervisor.spawn(serve::accept(listener, self.consumers.clone(), limits, port));
        }
    }
}

/// Gives up the lease and leaves the registry of the fleet.
async fn leave_fleet(fleet: &GracefulTask) {
    fleet.end();
    if !fleet.ended_within(LEAVE_TIMEOUT).await {
        tracing::warn!(
            "the fleet's Redis could not be told that this sidecar goes; its registration lapses"
        );
    }
}

/// A registry with what belongs to no part of the sidecar.
fn build_registry(config: &SidecarConfig) -> Registry {
    let mut registry = Registry::with_prefix("bfb");
    registry.register("build", "The build", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    if let Some(spans) = &config.spans {
        spans.register(&mut registry);
    }
    registry
}

/// The domains that are configured, if all of them are as they should be.
fn load_domains(config: &SidecarConfig) -> Result<Loaded, SidecarStartError> {
    let loaded = assembly::read_domains(&config.paths, config.domain_files);
    if loaded.problems().is_empty() {
        Ok(loaded)
    } else {
        Err(SidecarStartError::Domain(Box::new(loaded)))
    }
}

/// The bus, and the task that carries it where there is a Redis.
fn connect_bus(
    settings: Option<bus::BusConfig>,
    metrics: bus::BusMetrics,
) -> (Bus, Option<bus::Driver>) {
    match settings {
        None => (Bus::standalone([], metrics), None),
        Some(settings) => {
            let (bus, driver) = Bus::connect(settings, [], metrics);
            (bus, Some(driver))
        }
    }
}

/// A part of the sidecar ended that should not.
#[derive(Debug, thiserror::Error)]
#[error("a part of the sidecar ended: {0}")]
pub struct SidecarRunError(TaskEnded);
