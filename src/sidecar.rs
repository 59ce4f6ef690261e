//! Puts the parts together, supervises them, drains.
//!
//! [`Sidecar::start`] reads files and binds ports, so that errors are known before the
//! first request; [`Sidecar::run`] answers until it is told to stop, then drains. The only module
//! that imports all parts.

mod assembly;
mod config;
mod http_config;
mod reload;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, watch};

use crate::admin::{self, Admin, AdminState, EventListeners, LogLevel, Phase, ProcessHealth};
use crate::bus::{self, BusConfig, RedisFileError};
use crate::cache::{CacheContext, CacheParts, SampleVerifier, SealKeyError};
use crate::domain::Loaded;
use crate::http::{
    Activity, BindError, ListenAddress, Listener, PortMetrics, QUIET_PERIOD, accept,
};
use crate::identity::{IdentityConfigError, RotatingIdentity};
use crate::serve::{Consumers, ServeMetrics};
use crate::sources::RecordingError;
use crate::supervisor::{Control, DrainTimes, GracefulTask, Supervisor, TaskEnded};
use http_config::Listeners;
use reload::Reloader;

pub use assembly::{DomainCaches, DomainFileOptions, read_domains};
pub use config::{DomainsConfig, SidecarConfig};
pub use http_config::HttpConfig;

/// Why a sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum SidecarStartError {
    /// The domain files have problems.
    #[error("{} problems in the domain files", .0.problems().len())]
    Domain(Box<Loaded>),
    /// The identity's files are not one.
    #[error(transparent)]
    Identity(#[from] IdentityConfigError),
    /// The file of seal keys holds none.
    #[error(transparent)]
    Seal(#[from] SealKeyError),
    /// A file of the fleet's Redis cannot be had.
    #[error(transparent)]
    RedisFile(#[from] RedisFileError),
    /// The folder of `--record` or `--replay`.
    #[error(transparent)]
    Recording(#[from] RecordingError),
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

/// A sidecar whose ports are open.
#[derive(Debug)]
pub struct Sidecar {
    listeners: Listeners,
    consumers: Consumers,
    port_metrics: SidecarPortMetrics,
    admin_state: Arc<AdminState>,
    reloader: Reloader,
    domains: DomainsConfig,
    identity: RotatingIdentity,
    cache: CacheContext,
    samples: Option<SampleVerifier>,
    driver: Option<bus::Driver>,
    phase: watch::Sender<Phase>,
    activity: Activity,
    drain: Duration,
}

impl Sidecar {
    /// Builds the parts, one after the other, and opens the ports at the end.
    pub async fn start(config: SidecarConfig, log: LogLevel) -> Result<Self, SidecarStartError> {
        let loaded = config.domains.load()?;
        let mut registry = build_registry();
        let reporter = config.telemetry.build(&mut registry);
        let identity = config.identity.build(&mut registry)?;
        let sources = config.sources.build(&identity, &mut registry)?;
        let lease = config.bus.as_ref().map(|bus| bus.lease);
        let (bus, driver) = BusConfig::build(config.bus, &mut registry)?;
        let CacheParts { context: cache, samples } = config.cache.build(lease, &mut registry)?;
        let listeners = EventListeners::register(&mut registry);
        let domain_caches = DomainCaches::new(sources, cache.clone(), bus.clone(), &mut registry);
        let serve_metrics = ServeMetrics::register(&mut registry);
        let port_metrics = SidecarPortMetrics::register(&mut registry);
        let reloader = Reloader::new(loaded, domain_caches, serve_metrics.clone(), &mut registry)?;
        let phase = watch::Sender::new(Phase::Starting);
        let activity = Activity::default();
        let admin_state = Arc::new(AdminState {
            registry,
            health: ProcessHealth::new(phase.subscribe()),
            caches: reloader.caches.subscribe(),
            identity: identity.subscribe(),
            identity_metrics: identity.metrics.clone(),
            reloads: reloader.reloads.subscribe(),
            memory: cache.memory.clone(),
            account: cache.account.clone(),
            verifier: cache.verifier.clone(),
            bus,
            bus_loss: cache.bus_loss,
            collection_events: cache.events.clone(),
            listeners,
            activity: activity.clone(),
            log,
            hosts: config.consumers.hosts.clone(),
        });
        let routes = reloader.routes.subscribe();
        let consumers = Consumers::new(routes, config.consumers, serve_metrics, reporter);
        Ok(Self {
            listeners: config.http.build().await?,
            consumers,
            port_metrics,
            admin_state,
            reloader,
            domains: config.domains,
            identity,
            cache,
            samples,
            driver,
            phase,
            activity,
            drain: config.drain,
        })
    }

    /// Where consumers are answered.
    pub fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.listeners.consumers.iter().map(Listener::address)
    }

    /// Where the admin port is.
    pub fn admin_address(&self) -> &ListenAddress {
        self.listeners.admin.address()
    }

    /// Where the probes are, if they have an address of their own.
    pub fn probes_address(&self) -> Option<&ListenAddress> {
        self.listeners.probes.as_ref().map(Listener::address)
    }

    /// Answers until it is told to stop, then drains; told again, it drains no longer. `apply_log`
    /// sets the log's level. Returns early if a part of the sidecar ends that should not.
    pub async fn run(
        mut self,
        mut control: Control,
        apply_log: impl Fn(&str) + Send + 'static,
    ) -> Result<(), SidecarRunError> {
        let phase = self.phase.clone();
        let compute = self.cache.compute.clone();
        // A second of quiet counts from the signal on: the consumer may be about to ask its last.
        let drain = DrainTimes { least: QUIET_PERIOD, most: self.drain };
        let fleet = self.driver.take().map(|driver| GracefulTask::spawn(|end| driver.run(end)));
        let bus = self.admin_state.bus.clone();
        let bus_loss = self.cache.bus_loss;
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
        // No request is left: a jq program that still runs would only delay the end.
        compute.close();
        // The lease is given up before the sidecar leaves the registry, and no request is left.
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
        supervisor.spawn(self.cache.memory.sweep());
        supervisor.spawn(admin::follow_log(self.admin_state.log.clone(), apply_log));
        if let Some(rotation) = self.identity.follow() {
            supervisor.spawn(rotation);
        }
        if let Some(seal) = self.cache.seal {
            supervisor.spawn(seal.reload_on_change(self.cache.metrics));
        }
        if let Some(samples) = self.samples {
            supervisor.spawn(samples.verify());
        }
        supervisor.spawn(self.reloader.run(self.domains, reload));
        let Listeners { consumers, admin, probes, limits } = self.listeners;
        // Probes and the admin port are no consumers: a drain does not wait for them.
        let handler = Admin::new(self.admin_state.clone());
        let port = supervisor.auxiliary_port(&self.port_metrics.admin);
        supervisor.spawn(accept(admin, handler, limits.auxiliary(), port));
        if let Some(listener) = probes {
            let handler = Admin::probes(self.admin_state.clone());
            let port = supervisor.auxiliary_port(&self.port_metrics.probes);
            supervisor.spawn(accept(listener, handler, limits.auxiliary(), port));
        }
        for listener in consumers {
            let port = supervisor.port(&self.port_metrics.consumers);
            supervisor.spawn(accept(listener, self.consumers.clone(), limits, port));
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

/// The counters of the sidecar's ports.
#[derive(Debug)]
struct SidecarPortMetrics {
    consumers: PortMetrics,
    admin: PortMetrics,
    probes: PortMetrics,
}

impl SidecarPortMetrics {
    fn register(registry: &mut Registry) -> Self {
        Self {
            consumers: PortMetrics::register(registry),
            admin: PortMetrics::register(registry.sub_registry_with_prefix("admin")),
            probes: PortMetrics::register(registry.sub_registry_with_prefix("probes")),
        }
    }
}

/// A registry with the metrics that belong to no part of the sidecar.
fn build_registry() -> Registry {
    let mut registry = Registry::with_prefix("bfb");
    registry.register("build", "The build", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    registry
}

/// A part of the sidecar ended that should not.
#[derive(Debug, thiserror::Error)]
#[error("a part of the sidecar ended: {0}")]
pub struct SidecarRunError(TaskEnded);
