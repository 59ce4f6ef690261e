//! Groups of flags that several commands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

use crate::bus::{BusConfig, RedisServers};
use crate::cache::{BusLoss, MemorySize, SampleRate};
use crate::coherence::LEASE_MAX;
use crate::http::ListenAddress;
use crate::identity::{IdentityPaths, TlsOptions};
use crate::resources::{self, MemoryLimit, MemoryLimitError};
use crate::sidecar::{self, DomainFileOptions};
use crate::sources::Recording;

/// How upstreams are reached.
#[derive(Debug, Clone, Args)]
pub(super) struct UpstreamArgs {
    /// Our identity: a folder with `tls.crt`, `tls.key` and `ca.crt`; re-read when it changes
    #[arg(long, env = "BFB_IDENTITY", value_name = "DIR")]
    identity: Option<PathBuf>,
    /// Where `ca.crt` is instead
    #[arg(long, env = "BFB_CA", value_name = "FILE", requires = "identity")]
    ca: Option<PathBuf>,
    /// Also speak TLS 1.2
    #[arg(long, env = "BFB_TLS12", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    tls12: bool,
    /// Allow `http://` sources (development)
    #[arg(
        long = "insecure-upstreams",
        env = "BFB_INSECURE_UPSTREAMS",
        action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new()
    )]
    allow_http: bool,
    /// Write every upstream answer into a folder (it holds personal data)
    #[arg(long, env = "BFB_RECORD", value_name = "DIR", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Answer from a folder that was recorded; no upstream is asked
    #[arg(long, env = "BFB_REPLAY", value_name = "DIR")]
    replay: Option<PathBuf>,
}

impl UpstreamArgs {
    pub(super) fn identity(&self) -> Option<IdentityPaths> {
        self.identity.clone().map(|dir| IdentityPaths { dir, ca: self.ca.clone() })
    }

    pub(super) fn domain_file_options(&self) -> DomainFileOptions {
        let no_identity = self.identity.is_none() && self.replay.is_none();
        DomainFileOptions { allow_http: self.allow_http, no_identity }
    }

    pub(super) fn tls(&self) -> TlsOptions {
        TlsOptions { tls12: self.tls12 }
    }

    pub(super) fn recording(&self) -> Recording {
        match (&self.record, &self.replay) {
            (Some(dir), _) => Recording::Record(dir.clone()),
            (_, Some(dir)) => Recording::Replay(dir.clone()),
            (None, None) => Recording::Off,
        }
    }
}

/// What is kept.
#[derive(Debug, Clone, Args)]
pub(super) struct CachingArgs {
    /// How much memory datasets may take; `0` keeps none there
    #[arg(long, env = "BFB_MEMORY", value_name = "SIZE", default_value = "64MiB")]
    memory: MemorySize,
    /// How much memory the process may hold for all its work, datasets among it
    /// (default: the container's limit less an eighth, else 256MiB)
    #[arg(long, env = "BFB_MEMORY_LIMIT", value_name = "SIZE")]
    memory_limit: Option<MemorySize>,
    /// Store nothing: every request collects (debugging)
    #[arg(long, env = "BFB_NO_CACHE", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    no_cache: bool,
    /// Seal what is kept in Redis with the keys of this file (64 hexadecimal digits a line: the
    /// first seals, all open); re-read when it changes
    #[arg(long, env = "BFB_SEAL_KEY", value_name = "FILE", requires = "redis")]
    seal_key: Option<PathBuf>,
    /// Compare this share of the hits (`0.01`, `1%`) with the sources in the background, and count
    /// wrong answers
    #[arg(
        long,
        env = "BFB_VERIFY",
        value_name = "RATE",
        default_value = "0",
        hide_default_value = true
    )]
    verify: SampleRate,
}

impl CachingArgs {
    /// What it means to a sidecar.
    pub(super) fn to_config(
        &self,
        bus_loss: BusLoss,
    ) -> Result<sidecar::CachingConfig, MemoryLimitError> {
        let limit =
            MemoryLimit::new(self.memory_limit.map(|size| size.0), resources::cgroup_limit());
        Ok(sidecar::CachingConfig {
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
    /// The fleet's Redis: `redis://HOST:PORT`, `rediss://…`, `unix:///PATH`,
    /// `redis-sentinel://…/SERVICE`, `redis-cluster://…`; without it a sidecar is a fleet of one
    #[arg(long, env = "BFB_REDIS", value_name = "URL", hide_env_values = true)]
    pub(super) redis: Option<RedisServers>,
    /// A file with `user:password`; re-read when the connection is made anew
    #[arg(long, env = "BFB_REDIS_AUTH", value_name = "FILE", requires = "redis")]
    redis_auth: Option<PathBuf>,
    /// The authorities of Redis's certificate
    #[arg(long, env = "BFB_REDIS_CA", value_name = "FILE", requires = "redis")]
    redis_ca: Option<PathBuf>,
    /// Our identity towards Redis: a folder with `tls.crt` and `tls.key`
    #[arg(long, env = "BFB_REDIS_IDENTITY", value_name = "DIR", requires = "redis")]
    redis_identity: Option<PathBuf>,
    /// Who shares a cache: whoever is in a namespace shares its data and may invalidate it
    #[arg(long, env = "BFB_NAMESPACE", value_name = "NAME", default_value = "default", value_parser = namespace)]
    namespace: String,
    /// How long memory may be served from without having heard from Redis
    #[arg(long, env = "BFB_LEASE", value_name = "TIME", default_value = "3s", value_parser = lease)]
    lease: Duration,
    /// How long a deposed Redis primary may go on answering
    #[arg(long, env = "BFB_FAILOVER_GRACE", value_name = "TIME", default_value = "0s", value_parser = time)]
    failover_grace: Duration,
    /// What holds while Redis has not been heard from for a lease
    #[arg(long, env = "BFB_BUS_LOSS", value_enum, default_value = "bypass")]
    pub(super) bus_loss: BusLoss,
}

/// A time as people write it.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a time such as `500ms`, `25s` or `5m`".to_owned())
}

/// A filter of the log.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    crate::log_filter::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// What may stand in the names of Redis's keys: a brace would move the slot of a Cluster.
fn namespace(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_valid = (1..=63).contains(&text.len()) && text.chars().all(fits);
    is_valid
        .then(|| text.to_owned())
        .ok_or_else(|| "expected 1 to 63 of the characters `a-z A-Z 0-9 - _ .`".to_owned())
}

/// Shorter than this, heartbeats would be most of what Redis does.
const LEASE_MIN: Duration = Duration::from_millis(200);

fn lease(text: &str) -> Result<Duration, String> {
    let lease = humantime::parse_duration(text)
        .ok()
        .filter(|lease| (LEASE_MIN..=LEASE_MAX).contains(lease));
    lease.ok_or_else(|| "expected a time from 200ms to 5m, such as `3s`".to_owned())
}

impl FleetArgs {
    pub(super) fn bus_config(&self) -> Option<BusConfig> {
        let place = self.redis.clone()?;
        Some(BusConfig {
            auth: self.redis_auth.clone(),
            ca: self.redis_ca.clone(),
            identity: self.redis_identity.clone(),
            namespace: self.namespace.clone(),
            failover_grace: self.failover_grace,
            label: std::env::var("HOSTNAME").unwrap_or_else(|_| "sidecar".to_owned()),
            ..BusConfig::new(place, self.lease)
        })
    }
}

/// The consumers' addresses: of a sidecar to start, or of the one to speak to.
#[derive(Debug, Clone, Args)]
pub(super) struct ListenArgs {
    /// Where consumers are answered: `IP:PORT` or `unix:/path`; may be given several times
    /// (default: port 7070 of `127.0.0.1` and, where IPv6 exists, of `[::1]`)
    #[arg(long, env = "BFB_LISTEN", value_name = "ADDRESS", value_delimiter = ',')]
    listen: Vec<ListenAddress>,
}

/// The admin port of a sidecar to start, or of the one to speak to.
#[derive(Debug, Clone, Args)]
pub(super) struct AdminArgs {
    /// The admin port: `IP:PORT` or `unix:/path`
    #[arg(long, env = "BFB_ADMIN", value_name = "ADDRESS", default_value = "127.0.0.1:7071")]
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
