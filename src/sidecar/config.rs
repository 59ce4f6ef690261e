//! What a sidecar is told: one field a decision, whatever flag or variable it came from.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{DomainFileOptions, SidecarStartError};
use crate::bus;
use crate::identity::{IdentityPaths, TlsOptions};
use crate::serve::{ConsumersConfig, KeyLogPolicy, ListenAddress, Listener, PortLimits, Spans};
use crate::settings::{BusLoss, MemorySize, SampleRate};
use crate::sources::Recording;

/// A sidecar's configuration.
#[derive(Debug)]
pub struct SidecarConfig {
    /// Domain files, or folders of them.
    pub paths: Vec<PathBuf>,
    /// Where consumers are answered.
    pub listen: Vec<ListenAddress>,
    /// Whether `[::1]` may be missing: it came from the default, and not every machine has IPv6.
    pub ipv6_optional: bool,
    /// The permissions of Unix sockets.
    pub socket_mode: u32,
    /// Where the admin port is.
    pub admin: ListenAddress,
    /// Where probes and metrics are for others (`--probes`).
    pub probes: Option<SocketAddr>,
    /// Whether addresses that others can reach are allowed.
    pub allow_remote: bool,
    /// Our identity towards upstreams.
    pub identity: Option<IdentityPaths>,
    /// How TLS is done.
    pub tls: TlsOptions,
    /// How the domain files are read.
    pub domain_files: DomainFileOptions,
    /// `--record` or `--replay`.
    pub recording: Recording,
    /// What is kept, and how.
    pub caching: CachingConfig,
    /// The fleet's Redis; without it a sidecar is a fleet of one.
    pub bus: Option<bus::BusConfig>,
    /// How consumers are answered.
    pub consumers: ConsumersConfig,
    /// The bounds of every port.
    pub limits: PortLimits,
    /// Which keys may be logged.
    pub key_log: KeyLogPolicy,
    /// Where traces go.
    pub spans: Option<Spans>,
    /// How long a drain may take.
    pub drain: Duration,
}

/// What a sidecar keeps.
#[derive(Debug, Clone)]
pub struct CachingConfig {
    /// How much memory datasets may take.
    pub memory: MemorySize,
    /// How many bytes all work may hold, those datasets among it.
    pub work_bytes: u64,
    /// `--no-cache`: nothing is kept.
    pub off: bool,
    /// What holds while Redis is out of reach.
    pub bus_loss: BusLoss,
    /// The keys with which datasets in Redis are sealed.
    pub seal_key: Option<PathBuf>,
    /// The share of the hits that is compared with the sources.
    pub verify: SampleRate,
}

impl CachingConfig {
    /// Nothing at all, and no bound on memory: for a command that collects once and ends.
    pub fn none() -> Self {
        let work_bytes = u64::MAX / 2;
        Self {
            memory: MemorySize(0),
            work_bytes,
            off: true,
            bus_loss: BusLoss::Bypass,
            seal_key: None,
            verify: SampleRate::default(),
        }
    }
}

impl SidecarConfig {
    pub(super) fn check_local(
        &self,
        flag: &'static str,
        address: &ListenAddress,
    ) -> Result<ListenAddress, SidecarStartError> {
        if self.allow_remote || address.is_local() {
            Ok(address.clone())
        } else {
            Err(SidecarStartError::RemoteAddress { flag, address: address.clone() })
        }
    }

    pub(super) async fn bind_consumers(&self) -> Result<Vec<Listener>, SidecarStartError> {
        let mut listeners = Vec::with_capacity(self.listen.len());
        for address in &self.listen {
            match Listener::bind(&self.check_local("listen", address)?, self.socket_mode).await {
                Ok(listener) => listeners.push(listener),
                Err(error)
                    if self.ipv6_optional
                        && address.is_ipv6_loopback()
                        && !is_in_use(&error.source) =>
                {
                    tracing::debug!(%error, "this machine has no IPv6 loopback");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(listeners)
    }

    pub(super) async fn bind_probes(&self) -> Result<Option<Listener>, SidecarStartError> {
        // Probes are made for others to reach: they hold no key, no data and no write.
        let Some(probes) = self.probes else { return Ok(None) };
        Ok(Some(Listener::bind(&ListenAddress::Tcp(probes), self.socket_mode).await?))
    }
}

fn is_in_use(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrInUse
}
