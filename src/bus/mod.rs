//! The bus: the coherence protocol over Redis.
//!
//! It carries what the state machines of [`crate::coherence`] decide: [`scripts`](Scripts) that run inside Redis, pub/sub with
//! every gap noticed, the lease's clock, connecting again. A fault of Redis is never a request's error here: what a read asks
//! is answered from the state machine at once, and what asks Redis is bounded in time. It leaves datasets and their bytes to
//! others.
//!
//! # What it needs of Redis
//!
//! Redis 6.2 or newer, or Valkey; a user with `~bfb:* &bfb:* +hello +ping +info +eval +evalsha +subscribe +unsubscribe
//! +publish +hmget +hset +hget +hgetall +hdel +del +zadd +zcard +zscore +zpopmin +xadd +xrange +get +set +pexpire +pttl`; on a
//! cluster also `+ssubscribe +sunsubscribe +spublish +cluster`. No `allkeys-…` eviction.

mod answers;
mod clock;
mod connection;
mod core;
mod driver;
mod fault;
mod format;
mod guards;
mod handle;
mod happening;
mod inbox;
mod invalidate;
mod metrics;
mod names;
mod scripts;
mod settings;

pub use answers::answer;
pub use clock::now;
pub use driver::Driver;
pub use fault::Fault;
pub use format::{hint, news};
pub use handle::{Bus, Claimed, DomainBus, DomainStanding, READ_MAX, STORE_MAX, Standing};
pub use happening::{Happening, What};
pub use invalidate::{Acknowledgement, NotAcknowledged, Sent};
pub use metrics::Metrics;
pub use names::Names;
pub use scripts::{Ask, LIMITS, Scripts, invalidate_script};
pub use settings::{ConnectionUrl, Servers, Settings, WrongUrl};
