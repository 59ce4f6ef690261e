//! Groups of flags that several commands share. A flag without a text of its own here is one of
//! the table of settings: [`table_flags`](super::table_flags).

use std::path::PathBuf;

use clap::Args;

use crate::bus::{BusConfig, RedisServers};
use crate::cache::CacheConfig;
use crate::http::ListenAddress;
use crate::identity::{IdentityConfig, IdentityPaths, TlsOptions};
use crate::resources::{self, MemoryLimit, MemoryLimitError};
use crate::settings::{BusLoss, FailoverGrace, Lease, MemorySize, Namespace, SampleRate};
use crate::sidecar::DomainFileOptions;
use crate::sources::Recording;

/// How upstreams are reached.
#[derive(Debug, Clone, Args)]
pub(super) struct UpstreamArgs {
    #[arg(long)]
    identity: Option<PathBuf>,
    #[arg(long, requires = "identity")]
    ca: Option<PathBuf>,
    #[arg(long)]
    tls12: bool,
    #[arg(long = "insecure-upstreams")]
    allow_http: bool,
    #[arg(long, conflicts_with = "replay")]
    record: Option<PathBuf>,
    #[arg(long)]
    replay: Option<PathBuf>,
}

impl UpstreamArgs {
    pub(super) fn identity(&self) -> IdentityConfig {
        let paths = self.identity.clone().map(|dir| IdentityPaths { dir, ca: self.ca.clone() });
        IdentityConfig { paths, tls: TlsOptions { tls12: self.tls12 } }
    }

    pub(super) fn domain_file_options(&self) -> DomainFileOptions {
        let no_identity = self.identity.is_none() && self.replay.is_none();
        DomainFileOptions { allow_http: self.allow_http, no_identity }
    }

    pub(super) fn recording(&self) -> Recording {
        match (&self.record, &self.replay) {
            (Some(dir), _) => Recording::Record(dir.clone()),
            (_, Some(dir)) => Recording::Replay(dir.clone()),
            (None, None) => Recording::Off,
        }
    }
}

/// The cache.
#[derive(Debug, Clone, Args)]
pub(super) struct CachingArgs {
    #[arg(long)]
    memory: MemorySize,
    #[arg(long)]
    memory_limit: Option<MemorySize>,
    #[arg(long)]
    no_cache: bool,
    #[arg(long, requires = "redis")]
    seal_key: Option<PathBuf>,
    #[arg(long, hide_default_value = true)]
    verify: SampleRate,
}

impl CachingArgs {
    /// The configuration that these flags make.
    pub(super) fn to_config(&self, bus_loss: BusLoss) -> Result<CacheConfig, MemoryLimitError> {
        let limit =
            MemoryLimit::new(self.memory_limit.map(|size| size.0), resources::cgroup_limit());
        Ok(CacheConfig {
            memory: self.memory,
            work_bytes: limit.for_work(self.memory.0)?,
            off: self.no_cache,
            bus_loss,
            seal_key: self.seal_key.clone(),
            verify: self.verify,
        })
    }
}

/// The fleet: who shares a cache, and how it is kept right.
#[derive(Debug, Clone, Args)]
pub(super) struct FleetArgs {
    #[arg(long, hide_env_values = true)]
    redis: Option<RedisServers>,
    #[arg(long, requires = "redis")]
    redis_auth: Option<PathBuf>,
    #[arg(long, requires = "redis")]
    redis_ca: Option<PathBuf>,
    #[arg(long, requires = "redis")]
    redis_identity: Option<PathBuf>,
    #[arg(long)]
    namespace: Namespace,
    #[arg(long)]
    lease: Lease,
    #[arg(long)]
    failover_grace: FailoverGrace,
    #[arg(long, value_enum)]
    pub(super) bus_loss: BusLoss,
}

impl FleetArgs {
    pub(super) fn bus_config(&self) -> Option<BusConfig> {
        let place = self.redis.clone()?;
        Some(BusConfig {
            auth: self.redis_auth.clone(),
            ca: self.redis_ca.clone(),
            identity: self.redis_identity.clone(),
            namespace: self.namespace.clone().into_string(),
            failover_grace: self.failover_grace.duration(),
            label: std::env::var("HOSTNAME").unwrap_or_else(|_| "sidecar".to_owned()),
            ..BusConfig::new(place, self.lease.duration())
        })
    }
}

/// The consumers' addresses: of a sidecar to start, or of the one to speak to.
#[derive(Debug, Clone, Args)]
pub(super) struct ListenArgs {
    #[arg(long, value_delimiter = ',')]
    listen: Vec<ListenAddress>,
}

/// The admin port of a sidecar to start, or of the one to speak to.
#[derive(Debug, Clone, Args)]
pub(super) struct AdminArgs {
    #[arg(long)]
    pub(super) admin: ListenAddress,
}

impl ListenArgs {
    /// The addresses, and whether they are the defaults.
    pub(super) fn addresses(&self) -> (Vec<ListenAddress>, bool) {
        if self.listen.is_empty() {
            let port = |ip: std::net::IpAddr| ListenAddress::Tcp((ip, 7070).into());
            let v4 = port(std::net::Ipv4Addr::LOCALHOST.into());
            let v6 = port(std::net::Ipv6Addr::LOCALHOST.into());
            (vec![v4, v6], true)
        } else {
            (self.listen.clone(), false)
        }
    }
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum OutputFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coherence::LEASE_MAX;

    #[test]
    fn no_flag_allows_a_lease_that_other_sidecars_would_ignore() {
        assert_eq!(*Lease::BOUNDS.end(), LEASE_MAX);
    }
}
