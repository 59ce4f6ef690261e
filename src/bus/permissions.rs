//! The permissions that a sidecar's user needs in Redis, and no more. `docs/redis.md` lists them,
//! `bfb doctor` probes them, and the users of the tests have exactly these.

use std::fmt::Write as _;

/// The kinds of Redis, which need different commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisKind {
    /// One server, or the primary that sentinels name.
    One,
    /// A Cluster of 7.0 or newer, or of Valkey: its pub/sub is sharded.
    Cluster,
    /// A Cluster before 7.0.
    OldCluster,
}

/// One command, as Redis's ACL names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// `hget`, `cluster|slots`.
    pub command: &'static str,
    on: &'static [RedisKind],
}

use RedisKind::{Cluster, OldCluster, One};

/// Every command that a sidecar or one of its scripts runs.
pub const PERMISSIONS: [Permission; 30] = [
    Permission::new("eval", &[One, Cluster, OldCluster]),
    Permission::new("evalsha", &[One, Cluster, OldCluster]),
    Permission::new("info", &[One, Cluster, OldCluster]),
    Permission::new("subscribe", &[One, Cluster, OldCluster]),
    Permission::new("unsubscribe", &[One]),
    Permission::new("publish", &[One, OldCluster]),
    Permission::new("hmget", &[One, Cluster, OldCluster]),
    Permission::new("hget", &[One, Cluster, OldCluster]),
    Permission::new("hgetall", &[One, Cluster, OldCluster]),
    Permission::new("hlen", &[One, Cluster, OldCluster]),
    Permission::new("hstrlen", &[One, Cluster, OldCluster]),
    Permission::new("hset", &[One, Cluster, OldCluster]),
    Permission::new("hdel", &[One, Cluster, OldCluster]),
    Permission::new("zadd", &[One, Cluster, OldCluster]),
    Permission::new("zcard", &[One, Cluster, OldCluster]),
    Permission::new("zscore", &[One, Cluster, OldCluster]),
    Permission::new("zpopmin", &[One, Cluster, OldCluster]),
    Permission::new("xadd", &[One, Cluster, OldCluster]),
    Permission::new("xrange", &[One, Cluster, OldCluster]),
    Permission::new("get", &[One, Cluster, OldCluster]),
    Permission::new("strlen", &[One, Cluster, OldCluster]),
    Permission::new("set", &[One, Cluster, OldCluster]),
    Permission::new("del", &[One, Cluster, OldCluster]),
    Permission::new("unlink", &[One, Cluster, OldCluster]),
    Permission::new("pexpire", &[One, Cluster, OldCluster]),
    Permission::new("pttl", &[One, Cluster, OldCluster]),
    Permission::new("cluster|slots", &[Cluster, OldCluster]),
    Permission::new("asking", &[Cluster, OldCluster]),
    Permission::new("ssubscribe", &[Cluster]),
    Permission::new("spublish", &[Cluster]),
];

impl Permission {
    const fn new(command: &'static str, on: &'static [RedisKind]) -> Self {
        Self { command, on }
    }

    /// Whether a sidecar needs it on a Redis of this kind.
    pub fn is_needed_on(&self, kind: RedisKind) -> bool {
        self.on.contains(&kind)
    }
}

/// The rules of the user of a namespace, for `ACL SETUSER NAME on >PASSWORD …`.
pub fn acl_rules(namespace: &str, kind: RedisKind) -> String {
    let mut rules = format!("resetchannels ~bfb:{{{namespace}/* &bfb:{{{namespace}/* -@all");
    for permission in PERMISSIONS.iter().filter(|permission| permission.is_needed_on(kind)) {
        let _ = write!(rules, " +{}", permission.command);
    }
    rules
}
