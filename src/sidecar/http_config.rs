//! The ports of a sidecar: where they are, who may reach them.

use std::net::SocketAddr;

use super::SidecarStartError;
use crate::http::{ListenAddress, Listener, PortLimits};
use crate::settings::SocketMode;

/// The permissions of the admin port's socket, whatever `--socket-mode` gives consumers: who
/// reaches it can read data, invalidate, and change the log.
const ADMIN_SOCKET_MODE: u32 = 0o600;

/// The ports.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where consumers are answered.
    pub listen: Vec<ListenAddress>,
    /// Whether `[::1]` may be missing: it came from the default, and not every machine has IPv6.
    pub ipv6_optional: bool,
    /// The permissions of consumers' Unix sockets.
    pub socket_mode: SocketMode,
    /// Where the admin port is.
    pub admin: ListenAddress,
    /// Where probes and metrics are for others (`--probes`).
    pub probes: Option<SocketAddr>,
    /// Whether addresses that others can reach are allowed.
    pub allow_remote: bool,
    /// The bounds of every port.
    pub limits: PortLimits,
}

/// The open ports.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) consumers: Vec<Listener>,
    pub(super) admin: Listener,
    pub(super) probes: Option<Listener>,
    /// The bounds of every port.
    pub(super) limits: PortLimits,
}

impl HttpConfig {
    /// Opens the ports.
    pub(super) async fn build(self) -> Result<Listeners, SidecarStartError> {
        let consumers = self.bind_consumers().await?;
        let admin_address = self.check_local("admin", &self.admin)?;
        let admin = Listener::bind(admin_address, ADMIN_SOCKET_MODE).await?;
        let probes = self.bind_probes().await?;
        Ok(Listeners { consumers, admin, probes, limits: self.limits })
    }

    fn check_local<'a>(
        &self,
        flag: &'static str,
        address: &'a ListenAddress,
    ) -> Result<&'a ListenAddress, SidecarStartError> {
        if self.allow_remote || address.is_local() {
            Ok(address)
        } else {
            Err(SidecarStartError::RemoteAddress { flag, address: address.clone() })
        }
    }

    async fn bind_consumers(&self) -> Result<Vec<Listener>, SidecarStartError> {
        let mut listeners = Vec::with_capacity(self.listen.len());
        for address in &self.listen {
            let address = self.check_local("listen", address)?;
            match Listener::bind(address, self.socket_mode.0).await {
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

    async fn bind_probes(&self) -> Result<Option<Listener>, SidecarStartError> {
        // Probes are made for others to reach: they hold no key, no data and no write.
        let Some(probes) = self.probes else { return Ok(None) };
        Ok(Some(Listener::bind(&ListenAddress::Tcp(probes), self.socket_mode.0).await?))
    }
}

fn is_in_use(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrInUse
}
