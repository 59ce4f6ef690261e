//! Examines a Redis for `bfb doctor`: the server's product and version, the permissions of our
//! user, the server's configuration, its round-trip time, and the state of each domain's log.
//!
//! It returns facts and does not judge them: the findings are `cli::doctor`'s. It leaves nothing
//! behind in Redis: scripts and commands run on a domain that has a random name, and change nothing
//! or are undone.

mod command_refusals;
mod log_status;
mod reach;
mod script_probe;
mod server_info;

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use redis::ConnectionAddr;
use tokio::time::timeout;

pub use command_refusals::CommandRefusals;
pub use log_status::{LogStatus, RegisteredMember};
pub use script_probe::ScriptProbe;
pub use server_info::{BufferLimit, RedisServerConfig, RedisServerInfo};

use super::cluster_nodes::ClusterNodes;
use super::cluster_slots::{NodeAddress, Slots, slot};
use super::config::{BusConfig, RedisServers};
use super::connections::single_endpoint;
use super::core::random_epoch;
use super::endpoint::{Endpoint, RedisConnection};
use super::fault::RedisFault;
use super::permissions::RedisKind;
use super::push_channel::push_channel;
use super::redis_names::RedisNames;
use super::redis_server::REPLY_LIMITS;
use super::sentinel::find_primary;
use crate::identity::Inspection;

/// The most servers that are examined at once.
const AT_ONCE: usize = 4;

/// The facts of an examination.
#[derive(Debug)]
pub struct Examination {
    /// The kind of Redis that the URL names.
    pub kind: RedisKind,
    /// The one server, the primary that the sentinels name, or every primary of a Cluster. Empty if
    /// none was found.
    pub servers: Vec<ExaminedServer>,
    /// The servers of the URL that did not name the servers to examine.
    pub silent_servers: Vec<SilentServer>,
    /// The log of each domain, or the fault of reading it; `None` if there is no log yet.
    pub logs: Vec<(String, Result<Option<LogStatus>, RedisFault>)>,
}

/// A server of the URL that did not name the servers to examine.
#[derive(Debug)]
pub struct SilentServer {
    /// `HOST:PORT`.
    pub address: String,
    /// Why it did not.
    pub error: ProbeError,
}

/// Why a server could not be examined.
#[derive(Debug)]
pub enum ProbeError {
    /// There is no connection; the error as text.
    Unreachable(String),
    /// TLS failed; the error as text.
    Tls(String),
    /// The server requires a client certificate, and none is configured.
    NoCertificate,
    /// The connection succeeded, and then this fault occurred.
    Fault(RedisFault),
}

/// The facts of one server.
#[derive(Debug)]
pub struct ExaminedServer {
    /// `HOST:PORT`, or the path of its socket.
    pub address: String,
    /// The server's side of a TLS handshake.
    pub tls: Option<Inspection>,
    /// The error that ended the examination of this server.
    pub error: Option<ProbeError>,
    /// Its version and configuration.
    pub info: Option<RedisServerInfo>,
    /// The commands of a sidecar that it refused.
    pub refusals: CommandRefusals,
    /// The median of several round trips.
    pub round_trip: Option<Duration>,
    /// The result of running every script; only where no command was refused.
    pub script_probe: Option<ScriptProbe>,
}

/// A server to examine.
struct ProbeTarget {
    address: String,
    endpoint: Endpoint,
    /// Its address in the Cluster, with the Cluster's slots.
    cluster_part: Option<(NodeAddress, Slots)>,
}

/// Examines the Redis that `settings` names. Each step takes at most `limit`.
pub async fn examine(settings: &BusConfig, domains: &[&str], limit: Duration) -> Examination {
    let mut kind = if matches!(settings.servers, RedisServers::Cluster(_)) {
        RedisKind::Cluster
    } else {
        RedisKind::One
    };
    let probe_targets =
        match timeout(limit, find_targets(settings)).await.unwrap_or(Err(RedisFault::TimedOut)) {
            Ok(targets) => targets,
            Err(fault) => {
                let silent = reach::silent_servers(settings, &fault, limit).await;
                return Examination {
                    kind,
                    servers: Vec::new(),
                    silent_servers: silent,
                    logs: Vec::new(),
                };
            }
        };
    let examinations = probe_targets.iter().map(|target| examine_server(settings, target, limit));
    let servers: Vec<ExaminedServer> = stream::iter(examinations).buffered(AT_ONCE).collect().await;
    if kind == RedisKind::Cluster
        && servers.iter().filter_map(|server| server.info.as_ref()).any(|info| !info.is_sharded())
    {
        kind = RedisKind::OldCluster;
    }
    let mut logs = Vec::new();
    for domain in domains {
        let names = RedisNames::new(&settings.namespace, domain);
        let read = timeout(limit, read_log(&probe_targets, &servers, &names))
            .await
            .unwrap_or(Err(RedisFault::TimedOut));
        logs.push(((*domain).to_owned(), read));
    }
    Examination { kind, servers, silent_servers: Vec::new(), logs }
}

async fn find_targets(settings: &BusConfig) -> Result<Vec<ProbeTarget>, RedisFault> {
    let single = |endpoint: Endpoint| ProbeTarget {
        address: display_address(endpoint.addr()),
        endpoint,
        cluster_part: None,
    };
    match &settings.servers {
        RedisServers::One(url) => Ok(vec![single(single_endpoint(settings, url)?)]),
        RedisServers::Sentinel { sentinels, service } => {
            Ok(vec![single(find_primary(settings, sentinels, service).await?)])
        }
        RedisServers::Cluster(seeds) => {
            let (push_sender, _) = push_channel();
            let (nodes, slots) = ClusterNodes::find(settings, seeds, &push_sender).await?;
            let target = |address: NodeAddress| {
                let endpoint = nodes.endpoint(&address)?;
                Ok(ProbeTarget {
                    address: address.to_string(),
                    endpoint,
                    cluster_part: Some((address, slots.clone())),
                })
            };
            slots.primaries().into_iter().map(target).collect()
        }
    }
}

fn display_address(addr: &ConnectionAddr) -> String {
    match addr {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }
            if host.contains(':') =>
        {
            format!("[{host}]:{port}")
        }
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            format!("{host}:{port}")
        }
        other => other.to_string(),
    }
}

async fn examine_server(
    settings: &BusConfig,
    target: &ProbeTarget,
    limit: Duration,
) -> ExaminedServer {
    let mut found = ExaminedServer {
        address: target.address.clone(),
        tls: None,
        error: None,
        info: None,
        refusals: CommandRefusals::default(),
        round_trip: None,
        script_probe: None,
    };
    let tls = reach::reach(settings, target.endpoint.addr(), limit).await;
    found.tls = tls.as_ref().ok().cloned().flatten();
    if let Err(error) = tls {
        found.error = Some(error);
        return found;
    }
    let queried = async {
        let mut connection = target.endpoint.connect(REPLY_LIMITS, |_| {}, |_| {}).await?;
        query_server(&mut connection, target, settings, &mut found).await
    };
    if let Err(fault) = timeout(limit, queried).await.unwrap_or(Err(RedisFault::TimedOut)) {
        found.error = Some(reach::probe_error(fault, found.tls.as_ref(), settings));
    }
    found
}

async fn query_server(
    connection: &mut RedisConnection,
    target: &ProbeTarget,
    settings: &BusConfig,
    found: &mut ExaminedServer,
) -> Result<(), RedisFault> {
    found.info = server_info::query(connection).await?;
    let kind = match &found.info {
        _ if target.cluster_part.is_none() => RedisKind::One,
        Some(info) if !info.is_sharded() => RedisKind::OldCluster,
        _ => RedisKind::Cluster,
    };
    let names = throwaway_names(&settings.namespace, target);
    found.refusals = command_refusals::probe_commands(connection, &names, kind).await?;
    found.round_trip = script_probe::round_trip(connection, &names).await.ok();
    if found.refusals.is_empty() {
        found.script_probe = Some(script_probe::run(connection, &names).await);
    }
    Ok(())
}

/// The names of a domain that does not exist, on a slot of this server.
fn throwaway_names(namespace: &str, target: &ProbeTarget) -> RedisNames {
    loop {
        let names = RedisNames::new(namespace, &format!("bfb-doctor-{:032x}", random_epoch().0));
        let is_on_server = target
            .cluster_part
            .as_ref()
            .is_none_or(|(at, slots)| slots.owner(slot(&names.meta())) == Some(at));
        if is_on_server {
            return names;
        }
    }
}

async fn read_log(
    targets: &[ProbeTarget],
    servers: &[ExaminedServer],
    names: &RedisNames,
) -> Result<Option<LogStatus>, RedisFault> {
    let holds = |target: &ProbeTarget| {
        target
            .cluster_part
            .as_ref()
            .is_none_or(|(at, slots)| slots.owner(slot(&names.meta())) == Some(at))
    };
    let index = targets.iter().position(holds).ok_or(RedisFault::Lost)?;
    let target = &targets[index];
    let server = &servers[index];
    if server.error.is_some() {
        return Err(RedisFault::Lost);
    }
    let mut connection = target.endpoint.connect(REPLY_LIMITS, |_| {}, |_| {}).await?;
    log_status::read(&mut connection, names, server.info.as_ref()).await
}
