//! The bus: the coherence protocol over Redis.
//!
//! It carries what the state machines of [`crate::coherence`] decide: [`scripts`](Scripts) that run
//! inside Redis, pub/sub with every gap noticed, the lease's clock, connecting again. A fault of
//! Redis is never a request's error here: what a read asks is answered from the state machine at
//! once, and what asks Redis is bounded in time. It leaves datasets and their bytes to others.
//!
//! # What it needs of Redis
//!
//! Redis 6.2 or newer, or Valkey, and a user who may do what [`PERMISSIONS`] lists ([`rules`]
//! writes it as Redis's ACL has it); no `allkeys-…` eviction.
//!
//! One server is reached by its address, or through sentinels; a new primary is another life. On a
//! Cluster each domain lives on one slot, and its server is reached for itself, by
//! [`Servers::Cluster`]'s own client: one that is lost holds up no domain but its own.

mod answers;
mod clock;
mod connection;
mod core;
mod driver;
mod endpoint;
pub mod examine;
mod fault;
mod format;
mod frames;
mod guards;
mod handle;
mod happening;
mod inbox;
mod invalidate;
mod metrics;
mod names;
mod nodes;
mod permissions;
mod reply_stream;
mod scripts;
mod sentinel;
mod server;
mod settings;
mod slots;

pub use answers::answer;
pub use clock::now;
pub use driver::Driver;
pub use fault::{Access, Fault};
pub use format::{hint, news};
pub use frames::{Frame, Frames, ReplyExcess, ReplyLimits};
pub use handle::{
    Bus, Claimed, DomainBus, DomainStanding, LARGE_READ_MAX, Lookup, READ_MAX, ReadTurn, STORE_MAX,
    Standing,
};
pub use happening::{Happening, What};
pub use invalidate::{Acknowledgement, NotAcknowledged, Sent};
pub use metrics::Metrics;
pub use names::Names;
pub use permissions::{Kind, PERMISSIONS, Permission, rules};
pub use scripts::{Ask, LIMITS, Scripts, invalidate_script};
pub use settings::{ConnectionUrl, Servers, Settings, WrongUrl};
