//! Checks whether a server can be reached and which certificate it shows, with better error texts
//! than the client library's.

use std::time::Duration;

use http::Uri;
use redis::ConnectionAddr;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tower_service::Service as _;

use super::super::config::{BusConfig, RedisServers, RedisUrl};
use super::super::fault::RedisFault;
use super::{ProbeError, SilentServer, display_address};
use crate::domain::ServerIdentity;
use crate::identity::{
    ConnectErrorKind, Connector, Inspection, TlsOptions, inspect_with_authorities,
};

/// Connects to `addr`, and inspects the server's side of a TLS handshake, if there is one.
pub(super) async fn reach(
    settings: &BusConfig,
    addr: &ConnectionAddr,
    limit: Duration,
) -> Result<Option<Inspection>, ProbeError> {
    let reached = timeout(limit, connect(settings, addr)).await;
    reached.unwrap_or_else(|_| {
        let limit = humantime::format_duration(limit);
        Err(ProbeError::Unreachable(format!(
            "`{}`: no connection within {limit}",
            display_address(addr)
        )))
    })
}

async fn connect(
    settings: &BusConfig,
    addr: &ConnectionAddr,
) -> Result<Option<Inspection>, ProbeError> {
    let no_address =
        || ProbeError::Unreachable(format!("`{}` is no address", display_address(addr)));
    let refused = |error: crate::identity::ConnectError| match error.kind {
        ConnectErrorKind::Connect => ProbeError::Unreachable(error.detail),
        _ => ProbeError::Tls(error.detail),
    };
    let uri = |scheme: &str| {
        format!("{scheme}://{}", display_address(addr)).parse::<Uri>().map_err(|_| no_address())
    };
    match addr {
        ConnectionAddr::Unix(path) => match UnixStream::connect(path).await {
            Ok(_) => Ok(None),
            Err(error) => Err(ProbeError::Unreachable(format!("`{}`: {error}", path.display()))),
        },
        ConnectionAddr::TcpTls { host, .. } => {
            let server = ServerIdentity::of_host(host).ok_or_else(no_address)?;
            let authorities = settings.authorities().map_err(ProbeError::Fault)?;
            let tls = TlsOptions { tls12: true };
            let origin = uri("https")?;
            let inspected =
                inspect_with_authorities(&origin, authorities.as_deref(), &server, tls).await;
            inspected.map(Some).map_err(refused)
        }
        _ => Connector::plain().call(uri("http")?).await.map(|_| None).map_err(refused),
    }
}

/// The cause of a fault, given the server's side of the TLS handshake.
pub(super) fn probe_error(
    fault: RedisFault,
    handshake: Option<&Inspection>,
    settings: &BusConfig,
) -> ProbeError {
    match (fault, handshake) {
        (RedisFault::Lost | RedisFault::Tls(_) | RedisFault::Unreadable, Some(handshake)) => {
            match &handshake.problem {
                Some(problem) => ProbeError::Tls(problem.clone()),
                None if handshake.asked_for_certificate && settings.identity.is_none() => {
                    ProbeError::NoCertificate
                }
                None => {
                    ProbeError::Tls("it ended the connection after the TLS handshake".to_owned())
                }
            }
        }
        (fault, _) => ProbeError::Fault(fault),
    }
}

/// The servers of the URL, each with the reason for which it did not name the servers to examine.
pub(super) async fn silent_servers(
    settings: &BusConfig,
    fault: &RedisFault,
    limit: Duration,
) -> Vec<SilentServer> {
    let named: Vec<&RedisUrl> = match &settings.servers {
        RedisServers::One(url) => vec![url],
        RedisServers::Sentinel { sentinels, .. } => sentinels.iter().collect(),
        RedisServers::Cluster(seeds) => seeds.iter().collect(),
    };
    let mut servers = Vec::new();
    for url in named {
        let Ok(info) = url.info() else { continue };
        let error = match reach(settings, info.addr(), limit).await {
            Ok(handshake) => probe_error(fault.clone(), handshake.as_ref(), settings),
            Err(error) => error,
        };
        servers.push(SilentServer { address: display_address(info.addr()), error });
    }
    servers
}
