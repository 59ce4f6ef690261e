//! Asking a Redis for real whether it will do, for `bfb doctor`: who it is, what its user may do,
//! how it is set, how long it takes, and where the log of each domain stands.
//!
//! It finds out and does not judge. Nothing is left behind: what is tried is tried on a domain that
//! has a random name, with commands that change nothing or are undone.

mod allowed;
mod facts;
mod log;
mod reach;
mod trial;

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use redis::ConnectionAddr;
use tokio::time::timeout;

pub use allowed::Refusals;
pub use facts::{BufferLimit, Config, Facts};
pub use log::{Log, Registered};
pub use trial::Trial;

use super::connection::one;
use super::core::random_epoch;
use super::endpoint::{Connection, Endpoint};
use super::fault::Fault;
use super::inbox::inbox;
use super::names::Names;
use super::nodes::Nodes;
use super::permissions::Kind;
use super::sentinel::primary;
use super::server::ANSWERS;
use super::settings::{Servers, Settings};
use super::slots::{Address, Slots, slot};
use crate::identity::Inspection;

/// Servers that are looked at at once.
const AT_ONCE: usize = 4;

/// What was found.
#[derive(Debug)]
pub struct Examination {
    /// What the URL names.
    pub kind: Kind,
    /// The one server, the primary that the sentinels name, or every primary of a Cluster. None: it
    /// could not be found.
    pub servers: Vec<Examined>,
    /// Those that were asked which servers there are, and could not say.
    pub silent: Vec<Silent>,
    /// The log of each domain, or why it cannot be read; nothing if there is none yet.
    pub logs: Vec<(String, Result<Option<Log>, Fault>)>,
}

/// One that could not say which servers there are.
#[derive(Debug)]
pub struct Silent {
    /// `HOST:PORT`.
    pub address: String,
    /// Why.
    pub trouble: Trouble,
}

/// Why a server could not be asked.
#[derive(Debug)]
pub enum Trouble {
    /// There is no connection; in words.
    Unreachable(String),
    /// TLS failed; in words.
    Tls(String),
    /// It asks for a certificate, and there was none to give.
    NoCertificate,
    /// There was a connection, and then this.
    Fault(Fault),
}

/// One server.
#[derive(Debug)]
pub struct Examined {
    /// `HOST:PORT`, or the path of its socket.
    pub address: String,
    /// Its side of a TLS handshake.
    pub tls: Option<Inspection>,
    /// Why no more is known of it.
    pub trouble: Option<Trouble>,
    /// How it is set.
    pub facts: Option<Facts>,
    /// What it refused of what a sidecar sends.
    pub refused: Refusals,
    /// The median of some round trips.
    pub round_trip: Option<Duration>,
    /// What came of trying every script; only where nothing was refused.
    pub trial: Option<Trial>,
}

/// A server that is to be looked at.
struct Target {
    address: String,
    endpoint: Endpoint,
    /// Of a Cluster.
    part: Option<(Address, Slots)>,
}

/// Asks the Redis that `settings` names. Each step takes at most `limit`.
pub async fn examine(settings: &Settings, domains: &[&str], limit: Duration) -> Examination {
    let mut kind =
        if matches!(settings.place, Servers::Cluster(_)) { Kind::Cluster } else { Kind::One };
    let targets = match timeout(limit, targets(settings)).await.unwrap_or(Err(Fault::Slow)) {
        Ok(targets) => targets,
        Err(fault) => {
            let silent = reach::silent(settings, &fault, limit).await;
            return Examination { kind, servers: Vec::new(), silent, logs: Vec::new() };
        }
    };
    let looks = targets.iter().map(|target| look(settings, target, limit));
    let servers: Vec<Examined> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    if kind == Kind::Cluster
        && servers
            .iter()
            .filter_map(|server| server.facts.as_ref())
            .any(|facts| !facts.is_sharded())
    {
        kind = Kind::OldCluster;
    }
    let mut logs = Vec::new();
    for domain in domains {
        let names = Names::new(&settings.namespace, domain);
        let read =
            timeout(limit, read_log(&targets, &servers, &names)).await.unwrap_or(Err(Fault::Slow));
        logs.push(((*domain).to_owned(), read));
    }
    Examination { kind, servers, silent: Vec::new(), logs }
}

async fn targets(settings: &Settings) -> Result<Vec<Target>, Fault> {
    let alone =
        |endpoint: Endpoint| Target { address: name(endpoint.addr()), endpoint, part: None };
    match &settings.place {
        Servers::One(url) => Ok(vec![alone(one(settings, url)?)]),
        Servers::Sentinel { sentinels, service } => {
            Ok(vec![alone(primary(settings, sentinels, service).await?)])
        }
        Servers::Cluster(seeds) => {
            let (outlet, _) = inbox();
            let (nodes, slots) = Nodes::find(settings, seeds, &outlet).await?;
            let target = |address: Address| {
                let endpoint = nodes.endpoint(&address)?;
                Ok(Target {
                    address: address.to_string(),
                    endpoint,
                    part: Some((address, slots.clone())),
                })
            };
            slots.primaries().into_iter().map(target).collect()
        }
    }
}

fn name(addr: &ConnectionAddr) -> String {
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

async fn look(settings: &Settings, target: &Target, limit: Duration) -> Examined {
    let mut found = Examined {
        address: target.address.clone(),
        tls: None,
        trouble: None,
        facts: None,
        refused: Refusals::default(),
        round_trip: None,
        trial: None,
    };
    let seen = reach::reach(settings, target.endpoint.addr(), limit).await;
    found.tls = seen.as_ref().ok().cloned().flatten();
    if let Err(trouble) = seen {
        found.trouble = Some(trouble);
        return found;
    }
    let asked = async {
        let mut connection = target.endpoint.connect(ANSWERS, |_| {}, |_| {}).await?;
        ask(&mut connection, target, settings, &mut found).await
    };
    if let Err(fault) = timeout(limit, asked).await.unwrap_or(Err(Fault::Slow)) {
        found.trouble = Some(reach::trouble(fault, found.tls.as_ref(), settings));
    }
    found
}

async fn ask(
    connection: &mut Connection,
    target: &Target,
    settings: &Settings,
    found: &mut Examined,
) -> Result<(), Fault> {
    found.facts = facts::ask(connection).await?;
    let kind = match &found.facts {
        _ if target.part.is_none() => Kind::One,
        Some(facts) if !facts.is_sharded() => Kind::OldCluster,
        _ => Kind::Cluster,
    };
    let names = throwaway(&settings.namespace, target);
    found.refused = allowed::ask(connection, &names, kind).await?;
    found.round_trip = trial::round_trip(connection, &names).await.ok();
    if found.refused.is_empty() {
        found.trial = Some(trial::run(connection, &names).await);
    }
    Ok(())
}

/// The names of a domain that nobody has, on a slot of this server.
fn throwaway(namespace: &str, target: &Target) -> Names {
    loop {
        let names = Names::new(namespace, &format!("bfb-doctor-{:032x}", random_epoch().0));
        let here = target
            .part
            .as_ref()
            .is_none_or(|(at, slots)| slots.owner(slot(&names.meta())) == Some(at));
        if here {
            return names;
        }
    }
}

async fn read_log(
    targets: &[Target],
    servers: &[Examined],
    names: &Names,
) -> Result<Option<Log>, Fault> {
    let holds = |target: &Target| {
        target.part.as_ref().is_none_or(|(at, slots)| slots.owner(slot(&names.meta())) == Some(at))
    };
    let at = targets.iter().position(holds).ok_or(Fault::Lost)?;
    let (target, server) = (&targets[at], &servers[at]);
    if server.trouble.is_some() {
        return Err(Fault::Lost);
    }
    let mut connection = target.endpoint.connect(ANSWERS, |_| {}, |_| {}).await?;
    log::read(&mut connection, names, server.facts.as_ref()).await
}
