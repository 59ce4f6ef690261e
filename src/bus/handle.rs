//! The handle of the bus: one [`Bus`] a process, built from a [`BusConfig`], and its status. The
//! handle of one domain is [`DomainBus`].

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::broadcast;

use super::clock;
use super::config::{BusConfig, RedisFileError};
use super::core::{BusCore, BusDomain};
use super::domain_bus::DomainBus;
use super::driver::Driver;
use super::events::BusEvent;
use super::fault::RedisFault;
use super::metrics::BusMetrics;
use crate::coherence::{Fence, MemberName, Moment};

/// The bus of one process.
#[derive(Debug, Clone)]
pub struct Bus {
    core: Arc<BusCore>,
}

/// The status of the bus, for `GET /status`.
#[derive(Debug, Clone)]
pub struct BusStatus {
    /// There is no Redis: a fleet of one.
    pub is_standalone: bool,
    /// The connections stand.
    pub connected: bool,
    /// The Redis fault of this moment.
    pub fault: Option<RedisFault>,
    /// The status of each domain.
    pub domains: Vec<DomainBusStatus>,
}

/// The status of one domain.
#[derive(Debug, Clone)]
pub struct DomainBusStatus {
    /// Its name.
    pub domain: Arc<str>,
    /// This process's name in the domain's registry.
    pub member: MemberName,
    /// The place in the log up to which everything is applied.
    pub applied: Option<Fence>,
    /// Entries that are known and not applied.
    pub lag: u64,
    /// Memory may be served from.
    pub lease_held: bool,
    /// How much of the lease is left; `None` without Redis, where the lease does not end.
    pub lease_left: Option<Duration>,
    /// The protocol of the log, if it is newer than ours.
    pub newer_protocol: Option<u32>,
}

impl BusConfig {
    /// Builds the bus over this Redis and the driver that runs it; without a configuration, the bus
    /// of a fleet of one.
    pub fn build(
        config: Option<Self>,
        registry: &mut Registry,
    ) -> Result<(Bus, Option<Driver>), RedisFileError> {
        let metrics = BusMetrics::register(registry);
        let Some(config) = config else { return Ok((Bus::standalone([], metrics), None)) };
        config.check_files()?;
        let (bus, driver) = Bus::connect(config, [], metrics);
        Ok((bus, Some(driver)))
    }
}

impl Bus {
    /// A fleet of one: no Redis, a lease that never ends.
    pub fn standalone<'n>(domains: impl IntoIterator<Item = &'n str>, metrics: BusMetrics) -> Self {
        let (core, _) = BusCore::new(None, metrics);
        core.set_domains(domains);
        Self { core }
    }

    /// A bus over Redis, and the driver that runs it. Redis need not be reachable yet.
    pub fn connect<'n>(
        config: BusConfig,
        domains: impl IntoIterator<Item = &'n str>,
        metrics: BusMetrics,
    ) -> (Self, Driver) {
        let (core, local_invalidations) = BusCore::new(Some(&config), metrics);
        core.set_domains(domains);
        let driver = Driver::new(Arc::clone(&core), config, local_invalidations);
        (Self { core }, driver)
    }

    /// Serves these domains from now on. A domain that stays keeps its lease and its memory; one
    /// that goes deregisters.
    pub fn set_domains<'n>(&self, domains: impl IntoIterator<Item = &'n str>) {
        self.core.set_domains(domains);
    }

    /// The handle of one domain.
    pub fn domain(&self, name: &str) -> Option<DomainBus> {
        let domain = self.core.domain(name)?;
        Some(DomainBus { core: Arc::clone(&self.core), domain })
    }

    /// Subscribes to the events from now on. A slow subscriber misses some, and is notified of
    /// that.
    pub fn subscribe(&self) -> broadcast::Receiver<BusEvent> {
        self.core.subscribe()
    }

    /// Returns once every domain's lease is held.
    pub async fn wait_for_all_leases(&self) {
        let mut events = self.subscribe();
        let is_held = |domain: &Arc<BusDomain>| domain.replica().may_serve(clock::now());
        while !self.core.domains().values().all(is_held) {
            // A receiver that was too slow has missed events, so it checks the leases again.
            if matches!(events.recv().await, Err(broadcast::error::RecvError::Closed)) {
                return;
            }
        }
    }

    /// The status of the bus at this moment.
    pub fn status(&self) -> BusStatus {
        let now = clock::now();
        BusStatus {
            is_standalone: self.core.is_standalone,
            connected: self.core.connections().is_ok(),
            fault: self.core.current_fault(),
            domains: self
                .core
                .domains()
                .values()
                .map(|domain| self.domain_status(domain, now))
                .collect(),
        }
    }

    fn domain_status(&self, domain: &BusDomain, now: Moment) -> DomainBusStatus {
        let replica = domain.replica();
        let left = replica.lease_until().map(|until| until.since(now));
        DomainBusStatus {
            domain: Arc::clone(&domain.name),
            member: domain.member.clone(),
            applied: replica.applied(),
            lag: replica.lag(),
            lease_held: replica.may_serve(now),
            lease_left: left.filter(|_| !self.core.is_standalone),
            newer_protocol: replica.newer_protocol(),
        }
    }
}
