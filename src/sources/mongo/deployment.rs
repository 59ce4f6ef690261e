//! What the driver knows of the servers behind a URL, from the events of its monitors.

use std::sync::Arc;

use mongodb::event::EventHandler;
use mongodb::event::sdam::{SdamEvent, TopologyDescription};
use mongodb::options::ServerAddress;
use mongodb::{ServerInfo, ServerType};
use parking_lot::Mutex;

use super::mongo_error::server_trouble;
use crate::sources::attempt_error::AttemptError;

/// The first version of the protocol that reads snapshots outside of transactions (MongoDB 5.0).
const SNAPSHOT_WIRE_VERSION: i32 = 13;

/// What is known of a deployment; follows the driver's events.
#[derive(Debug, Clone, Default)]
pub(super) struct Deployment(Arc<Mutex<DeploymentFacts>>);

/// Held to copy a word in or out.
#[derive(Debug, Clone, Default)]
struct DeploymentFacts {
    kind: Option<DeploymentKind>,
    takes_snapshots: bool,
    trouble: Option<AttemptError>,
}

/// What a deployment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sources) enum DeploymentKind {
    /// One server that belongs to no replica set.
    Standalone,
    /// A replica set.
    ReplicaSet,
    /// A sharded cluster.
    Sharded,
}

impl DeploymentKind {
    /// What it is, in words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Standalone => "no replica set",
            Self::ReplicaSet => "replica set",
            Self::Sharded => "sharded cluster",
        }
    }
}

impl Deployment {
    /// The handler that keeps it current.
    pub(super) fn handler(&self) -> EventHandler<SdamEvent> {
        let facts = Arc::clone(&self.0);
        EventHandler::callback(move |event| {
            if let SdamEvent::TopologyDescriptionChanged(change) = event {
                let mut facts = facts.lock();
                let before = facts.kind;
                *facts = DeploymentFacts::of(&change.new_description);
                // A server that is away for a moment is still what it was.
                facts.kind = facts.kind.or(before);
            }
        })
    }

    /// What it is, once a server has answered.
    pub(super) fn kind(&self) -> Option<DeploymentKind> {
        self.0.lock().kind
    }

    /// Whether its servers read snapshots.
    pub(super) fn takes_snapshots(&self) -> bool {
        self.0.lock().takes_snapshots
    }

    /// Why its servers cannot be asked, if the monitors met an error at the last try.
    pub(super) fn trouble(&self) -> Option<AttemptError> {
        self.0.lock().trouble.clone()
    }
}

impl DeploymentFacts {
    fn of(topology: &TopologyDescription) -> Self {
        let servers = topology.servers();
        let mut facts = Self { takes_snapshots: true, ..Self::default() };
        for server in servers.values() {
            let kind = kind_of(server);
            facts.kind = facts.kind.or(kind);
            if kind.is_some() {
                let version = server.max_wire_version().unwrap_or(0);
                facts.takes_snapshots &= version >= SNAPSHOT_WIRE_VERSION;
            }
        }
        facts.takes_snapshots &= facts.kind.is_some_and(|kind| kind != DeploymentKind::Standalone);
        if !topology.has_readable_server(None) {
            facts.trouble = first_trouble(&servers);
        }
        facts
    }
}

type Servers<'t> = std::collections::HashMap<&'t ServerAddress, ServerInfo<'t>>;

fn first_trouble(servers: &Servers<'_>) -> Option<AttemptError> {
    servers.values().find_map(|server| server.error()).map(server_trouble)
}

fn kind_of(server: &ServerInfo<'_>) -> Option<DeploymentKind> {
    match server.server_type() {
        ServerType::Standalone => Some(DeploymentKind::Standalone),
        ServerType::Mongos => Some(DeploymentKind::Sharded),
        ServerType::RsPrimary
        | ServerType::RsSecondary
        | ServerType::RsArbiter
        | ServerType::RsOther
        | ServerType::RsGhost => Some(DeploymentKind::ReplicaSet),
        _ => None,
    }
}
