//! A Redis Cluster of three primaries, each a real server: the holders of slots, moving a slot,
//! killing a node.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::client::TEST_TIMEOUT;
use super::redis::Redis;

const SLOTS: [Range<u16>; 3] = [0..5_461, 5_461..10_923, 10_923..16_384];

/// The three.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Redis>,
}

impl Cluster {
    /// All slots are held, and all nodes agree on it. A node that is out of reach is noticed after
    /// `node_timeout`.
    pub(crate) fn start(node_timeout: Duration) -> Self {
        Self::start_with(node_timeout, &[])
    }

    /// The same with more options for each server.
    pub(crate) fn start_with(node_timeout: Duration, options: &[&str]) -> Self {
        let timeout = node_timeout.as_millis().to_string();
        let options = [&["--cluster-node-timeout", &timeout], options].concat();
        let nodes: Vec<_> = SLOTS.iter().map(|_| Redis::start_node(&options)).collect();
        for (at, (node, slots)) in nodes.iter().zip(SLOTS).enumerate() {
            node.take_slots(slots);
            // Nodes that meet with the same epoch of the configuration would have to settle it
            // first.
            node.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
        }
        for other in &nodes[1..] {
            let ip = other.addr().ip().to_string();
            let port = other.addr().port().to_string();
            let bus = other.cluster_port().to_string();
            nodes[0].command::<()>(&["CLUSTER", "MEET", &ip, &port, &bus]);
        }
        let cluster = Self { nodes };
        cluster.until_whole();
        cluster
    }

    /// `redis-cluster://…`, naming the first node only: the client finds the others.
    pub(crate) fn url(&self) -> String {
        format!("redis-cluster://{}", self.nodes[0].addr())
    }

    /// Waits until every node sees every slot held and every other node.
    pub(crate) fn until_whole(&self) {
        let whole = |node: &Redis| {
            let info = node.command::<String>(&["CLUSTER", "INFO"]);
            let known = node.command::<String>(&["CLUSTER", "NODES"]);
            info.contains("cluster_state:ok")
                && known.matches(" connected").count() == self.nodes.len()
        };
        let until = Instant::now() + TEST_TIMEOUT;
        while !self.nodes.iter().all(whole) {
            assert!(Instant::now() < until, "the cluster never came up");
            std::thread::yield_now();
        }
    }

    /// Which node holds the slot of a key, as the nodes see it.
    pub(crate) fn holder(&self, key: &str) -> usize {
        let slot = self.slot(key);
        let holds = |node: &Redis| {
            let known = node.command::<String>(&["CLUSTER", "NODES"]);
            let own = known.lines().find(|line| line.contains("myself")).unwrap().to_owned();
            own.split_whitespace().skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let Ok(first) = first.parse::<u16>() else { return false };
                last.parse().is_ok_and(|last| (first..=last).contains(&slot))
            })
        };
        self.nodes.iter().position(holds).expect("a node holds every slot")
    }

    /// The slot of a key.
    pub(crate) fn slot(&self, key: &str) -> u16 {
        self.nodes[0].command(&["CLUSTER", "KEYSLOT", key])
    }

    /// Moves the keys in the slot of a key to another node, as `redis-cli --cluster reshard` does,
    /// but for the last step: the old node redirects each request to the new one for this once
    /// (`ASK`).
    pub(crate) fn begin_move(&self, key: &str, to: usize) {
        let slot = self.slot(key).to_string();
        let from = &self.nodes[self.holder(key)];
        let to = &self.nodes[to];
        to.command::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        from.command::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
        let host = to.addr().ip().to_string();
        let port = to.addr().port().to_string();
        loop {
            let keys: Vec<String> = from.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            if keys.is_empty() {
                break;
            }
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg(&host).arg(&port).arg("").arg(0).arg(5_000).arg("KEYS").arg(keys);
            migrate.exec(&mut from.control()).unwrap();
        }
    }

    /// The last step: from now on the old node redirects every request for good (`MOVED`).
    pub(crate) fn finish_move(&self, key: &str, to: usize) {
        let slot = self.slot(key).to_string();
        // The new node first: the others must not inform it that the slot still belongs to the old
        // one.
        let (new, others): (Vec<_>, Vec<_>) = (0..self.nodes.len()).partition(|at| *at == to);
        for at in new.into_iter().chain(others) {
            self.nodes[at].command::<()>(&[
                "CLUSTER",
                "SETSLOT",
                &slot,
                "NODE",
                &id(&self.nodes[to]),
            ]);
        }
    }
}

fn id(node: &Redis) -> String {
    node.command(&["CLUSTER", "MYID"])
}
