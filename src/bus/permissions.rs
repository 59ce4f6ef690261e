//! What a sidecar's user must be allowed in Redis, and no more: the list that the README prints, that `bfb doctor` goes
//! through, and that the tests' users have.

use std::fmt::Write as _;

/// One command, as Redis's ACL names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// `hget`, `cluster|slots`.
    pub command: &'static str,
    /// Where it is needed.
    pub where_needed: Where,
}

/// Where a command is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// Everywhere.
    Everywhere,
    /// On a Cluster.
    Cluster,
    /// On a Cluster that has sharded pub/sub (Redis 7 and newer, Valkey).
    Sharded,
}

/// Every command that a sidecar sends, or that a script of it calls.
pub const PERMISSIONS: [Permission; 25] = [
    everywhere("info"),
    everywhere("eval"),
    everywhere("evalsha"),
    everywhere("subscribe"),
    everywhere("unsubscribe"),
    everywhere("publish"),
    everywhere("hmget"),
    everywhere("hget"),
    everywhere("hgetall"),
    everywhere("hset"),
    everywhere("hdel"),
    everywhere("zadd"),
    everywhere("zcard"),
    everywhere("zscore"),
    everywhere("zpopmin"),
    everywhere("xadd"),
    everywhere("xrange"),
    everywhere("get"),
    everywhere("set"),
    everywhere("del"),
    everywhere("pexpire"),
    Permission { command: "asking", where_needed: Where::Cluster },
    Permission { command: "cluster|slots", where_needed: Where::Cluster },
    Permission { command: "ssubscribe", where_needed: Where::Sharded },
    Permission { command: "spublish", where_needed: Where::Sharded },
];

const fn everywhere(command: &'static str) -> Permission {
    Permission { command, where_needed: Where::Everywhere }
}

/// The rules of a namespace's user, for `ACL SETUSER NAME on >PASSWORD …`.
pub fn rules(namespace: &str, needed: impl Fn(Where) -> bool) -> String {
    let mut rules = format!("resetchannels ~bfb:{{{namespace}/* &bfb:{{{namespace}/* -@all");
    for permission in PERMISSIONS.iter().filter(|permission| needed(permission.where_needed)) {
        let _ = write!(rules, " +{}", permission.command);
    }
    rules
}
