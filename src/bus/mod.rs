//! The bus: the coherence protocol over Redis.
//!
//! It carries what the state machines of [`crate::coherence`] decide: [`scripts`](Scripts) that run
//! inside Redis, pub/sub with every gap noticed, the lease's clock, connecting again. A fault of
//! Redis is never a request's error here: what a read asks is answered from the state machine at
//! once, and what asks Redis is bounded in time. It leaves datasets and their bytes to others.
//!
//! # What it needs of Redis
//!
//! Redis 6.2 or newer, or Valkey, and a user who may do what [`PERMISSIONS`] lists ([`acl_rules`]
//! writes it as Redis's ACL has it); no `allkeys-…` eviction.
//!
//! One server is reached by its address, or through sentinels; a new primary is another life. On a
//! Cluster each domain lives on one slot, and its server is reached for itself, by
//! [`RedisServers::Cluster`]'s own client: one that is lost holds up no domain but its own.

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
