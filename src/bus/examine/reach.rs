//! Whether a server is there at all, and whose certificate it shows: in words, since the client
//! library has few.

use std::time::Duration;

use http::Uri;
use redis::ConnectionAddr;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tower_service::Service as _;

use super::super::fault::Fault;
use super::super::settings::{ConnectionUrl, Servers, Settings};
use super::{Silent, Trouble, name};
use crate::domain::ServerIdentity;
use crate::identity::{ConnectErrorKind, Connector, Inspection, TlsOptions, inspect_under};

/// Connects, and looks at its side of a TLS handshake, if there is one.
pub(super) async fn reach(
    settings: &Settings,
    addr: &ConnectionAddr,
    limit: Duration,
) -> Result<Option<Inspection>, Trouble> {
    let reached = timeout(limit, connected(settings, addr)).await;
    reached.unwrap_or_else(|_| {
        let limit = humantime::format_duration(limit);
        Err(Trouble::Unreachable(format!("`{}`: no connection within {limit}", name(addr))))
    })
}

async fn connected(
    settings: &Settings,
    addr: &ConnectionAddr,
) -> Result<Option<Inspection>, Trouble> {
    let nowhere = || Trouble::Unreachable(format!("`{}` is no address", name(addr)));
    let refused = |error: crate::identity::ConnectError| match error.kind {
        ConnectErrorKind::Connect => Trouble::Unreachable(error.detail),
        _ => Trouble::Tls(error.detail),
    };
    let uri =
        |scheme: &str| format!("{scheme}://{}", name(addr)).parse::<Uri>().map_err(|_| nowhere());
    match addr {
        ConnectionAddr::Unix(path) => match UnixStream::connect(path).await {
            Ok(_) => Ok(None),
            Err(error) => Err(Trouble::Unreachable(format!("`{}`: {error}", path.display()))),
        },
        ConnectionAddr::TcpTls { host, .. } => {
            let server = ServerIdentity::of_host(host).ok_or_else(nowhere)?;
            let authorities = settings.authorities().map_err(Trouble::Fault)?;
            let tls = TlsOptions { tls12: true };
            let seen = inspect_under(&uri("https")?, authorities.as_deref(), &server, tls).await;
            seen.map(Some).map_err(refused)
        }
        _ => Connector::plain().call(uri("http")?).await.map(|_| None).map_err(refused),
    }
}

/// What a fault means after a look at the server's certificate.
pub(super) fn trouble(fault: Fault, seen: Option<&Inspection>, settings: &Settings) -> Trouble {
    match (fault, seen) {
        (Fault::Lost | Fault::Tls(_) | Fault::Unreadable, Some(seen)) => match &seen.problem {
            Some(problem) => Trouble::Tls(problem.clone()),
            None if seen.asked_for_certificate && settings.identity.is_none() => {
                Trouble::NoCertificate
            }
            None => Trouble::Tls("it ended the connection after the TLS handshake".to_owned()),
        },
        (fault, _) => Trouble::Fault(fault),
    }
}

/// Why those whom the URL names do not say which servers there are.
pub(super) async fn silent(settings: &Settings, fault: &Fault, limit: Duration) -> Vec<Silent> {
    let named: Vec<&ConnectionUrl> = match &settings.place {
        Servers::One(url) => vec![url],
        Servers::Sentinel { sentinels, .. } => sentinels.iter().collect(),
        Servers::Cluster(seeds) => seeds.iter().collect(),
    };
    let mut silent = Vec::new();
    for url in named {
        let Ok(info) = url.info() else { continue };
        let why = match reach(settings, info.addr(), limit).await {
            Ok(seen) => trouble(fault.clone(), seen.as_ref(), settings),
            Err(trouble) => trouble,
        };
        silent.push(Silent { address: name(info.addr()), trouble: why });
    }
    silent
}
