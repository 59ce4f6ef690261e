//! From checked domains to plans that can run: clients of sources outlive a reload that leaves them
//! as they are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::bus::Bus;
use crate::cache::{Cache, CacheContext};
use crate::collect::{CollectMetricFamilies, Collector};
use crate::domain::{self, Domains, Loaded, ProgramProblem, World};
use crate::settings::BusLoss;
use crate::shape::{CompileError, Program};
use crate::sources::{Client, SharedSources};

/// How domain files are read: what differs between environments.
#[derive(Debug, Clone, Copy, Default)]
pub struct DomainFileOptions {
    /// Whether `http://` is allowed (`--insecure-upstreams`).
    pub allow_http: bool,
    /// Whether there is no identity to ask `https://` sources with, and no recording that stands in
    /// for them.
    pub no_identity: bool,
}

/// Reads domain files with the process's environment, the file system, and our jq.
pub fn read_domains(paths: &[PathBuf], reading: DomainFileOptions) -> Loaded {
    reading.with_world(|world| domain::load(paths, world))
}

impl DomainFileOptions {
    /// Reads them again where any has changed: a file that is broken now keeps its old version.
    pub(super) fn reload_if_changed(self, loaded: &Loaded, paths: &[PathBuf]) -> Option<Loaded> {
        self.with_world(|world| {
            (!loaded.is_current(paths, world)).then(|| loaded.reload(paths, world))
        })
    }

    fn with_world<T>(self, read: impl FnOnce(World<'_>) -> T) -> T {
        read(World {
            variable: &|name| std::env::var(name).ok(),
            read: &domain::read_text,
            program: &|text| {
                let problem = |error: CompileError| {
                    let CompileError { at, message, expected, hint } = error;
                    ProgramProblem { at, message, expected, hint }
                };
                Program::compile(text).map(|_| ()).map_err(problem)
            },
            allow_http: self.allow_http,
            allow_https: !self.no_identity,
        })
    }
}

/// The caches of the domains in force, and the shared parts that new ones are built from.
#[derive(Debug)]
pub struct DomainCaches {
    shared: SharedSources,
    caching: CacheContext,
    families: CollectMetricFamilies,
    info: Family<InfoLabels, Gauge>,
    clients: Vec<Arc<Client>>,
    bus: Bus,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InfoLabels {
    domain: String,
    plan: String,
}

/// How long a start, or a reload, waits for the first heartbeat. A Redis that is away keeps no pod
/// from becoming ready.
const FIRST_HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits for the first heartbeat of each domain, where answers depend on its lease, and not for
/// long.
pub(super) async fn wait_for_heartbeat(bus: &Bus, bus_loss: BusLoss) {
    if bus_loss != BusLoss::Stale {
        let _ = tokio::time::timeout(FIRST_HEARTBEAT_TIMEOUT, bus.wait_for_all_leases()).await;
    }
}

impl DomainCaches {
    /// None yet.
    pub fn new(
        shared: SharedSources,
        caching: CacheContext,
        bus: Bus,
        registry: &mut Registry,
    ) -> Self {
        let info = Family::<InfoLabels, Gauge>::default();
        registry.register("domain_info", "The plan of each domain", info.clone());
        let families = CollectMetricFamilies::register(registry);
        Self { shared, caching, families, info, clients: Vec::new(), bus }
    }

    /// The caches of `domains`, each with its plan. A source that has not changed keeps its client:
    /// connections, breaker and budget. A domain whose plan has not changed keeps its datasets.
    pub fn update(&mut self, domains: &Domains) -> Result<Vec<Cache>, CompileError> {
        self.info.clear();
        self.bus.set_domains(domains.keys().map(AsRef::as_ref));
        // Two domains may have equal sources; each has a client of its own, with its own bounds.
        let mut old_clients = std::mem::take(&mut self.clients);
        let mut caches = Vec::with_capacity(domains.len());
        for domain in domains.values() {
            let clients = Client::for_domain(domain, &mut old_clients, &self.shared);
            self.clients.extend(clients.iter().cloned());
            let labels =
                InfoLabels { domain: domain.name.to_string(), plan: domain.plan.to_string() };
            self.info.get_or_create(&labels).set(1);
            let collector = Arc::new(Collector::new(
                domain.clone(),
                clients,
                self.families.for_domain(&domain.name),
            ));
            // It was named a moment ago.
            let Some(bus) = self.bus.domain(&domain.name) else { continue };
            caches.push(Cache::new(collector, bus, self.caching.clone())?);
        }
        Ok(caches)
    }

    /// [`wait_for_heartbeat`] of the domains that are served now.
    pub(super) async fn wait_for_heartbeat(&self) {
        wait_for_heartbeat(&self.bus, self.caching.bus_loss).await;
    }
}
