//! The bus: the coherence protocol over Redis.
//!
//! It carries out what the replicas of [`crate::coherence`] decide: [`scripts`](Scripts) that run
//! inside Redis, pub/sub with every gap noticed, the lease's clock, reconnecting. A Redis fault is
//! never a read's error here: the replica answers at once whether memory may be used, and every
//! call to Redis is bounded in time. Datasets and their bytes are left to `cache`.
//!
//! # What it needs of Redis
//!
//! Redis 6.2 or newer, or Valkey, and a user with the permissions that [`PERMISSIONS`] lists
//! ([`acl_rules`] writes them as rules of Redis's ACL), and no `allkeys-…` eviction.
//!
//! One server is reached by its address, or through sentinels; a new primary is another life. On a
//! Cluster each domain lives on one slot, and each server has connections of its own: a server that
//! is lost holds up only the domains whose slots it holds.
//!
//! # When Redis refuses a script
//!
//! A refusal (`NOPERM`, `OOM`, `READONLY`, `ERR unknown command`, …) becomes a
//! [`RedisFault::Refused`] or a [`RedisFault::NoPermission`] in `bus/fault.rs`, and a reply that is
//! none of the script's a [`RedisFault::Unreadable`], with the same consequences. A refused script
//! never fails a read:
//!
//! - *Fetch, claim, store*: Redis counts as having no dataset. The flight collects from the sources
//!   without a claim, and its dataset is kept in memory only. Nothing is logged.
//! - *Heartbeat*: the lease is not renewed. Once it has ended, the replica does not let memory
//!   answer, and every read is collected from the sources (`bfb_lease_held` is 0,
//!   `bfb_bypass_seconds_total` grows) until a heartbeat is answered again; one is sent every
//!   quarter of the lease. After `READONLY` or `NOAUTH` the connections are made anew.
//! - *Reading of the log*: it is repeated when it is overdue. *Hint*: it is dropped and counted
//!   (`bfb_bus_hints_dropped_total`).
//! - *Invalidation*: `POST /invalidate` fails with the refusal; a transient one is tried again for
//!   two seconds first.
//!
//! `bfb_redis_faults_total{kind="refused"}` or `{kind="no_permission"}` counts every refusal. A
//! refused heartbeat is logged by `bus/driver/fault_log.rs`: the warning `trouble with redis` once
//! for each cause, and `connected to redis: heartbeats are answered` when it is over. `/readyz` and
//! `/status` of the admin port name the cause meanwhile.

mod acknowledgement;
mod clock;
mod cluster_nodes;
mod cluster_slots;
mod config;
mod connections;
mod core;
mod domain_bus;
mod driver;
mod endpoint;
mod entry_format;
mod events;
pub mod examine;
mod fault;
mod handle;
mod invalidate;
mod metrics;
mod permissions;
mod push_channel;
mod redis_names;
mod redis_server;
mod replies;
mod reply_stream;
mod resp_frames;
#[cfg(any(test, feature = "removable-guards"))]
mod script_guards;
mod scripts;
mod sentinel;

pub use acknowledgement::{Acknowledgement, NotAcknowledged, SentInvalidation};
pub use clock::now;
pub use config::{BusConfig, InvalidRedisUrl, RedisFileError, RedisServers, RedisUrl};
pub use domain_bus::{
    ClaimOutcome, DomainBus, LARGE_READ_MAX, Lookup, READ_MAX, ReadPermit, STORE_MAX,
};
pub use driver::Driver;
pub use entry_format::{parse_hint, parse_published};
pub use events::{BusEvent, BusEventKind};
pub use fault::{Access, RedisFault};
pub use handle::{Bus, BusStatus, DomainBusStatus};
pub use metrics::BusMetrics;
pub use permissions::{PERMISSIONS, Permission, RedisKind, acl_rules};
pub use redis_names::RedisNames;
pub use replies::parse_reply;
pub use resp_frames::{ReplyExcess, ReplyLimits, RespFrame, RespFrames};
pub use scripts::{LIMITS, ScriptInvocation, Scripts, invalidate_script};
