//! The cache of collected datasets: memory, Redis, and the flights that fill them.
//!
//! A [`Cache`] is one domain's. It decides on each read: a hit in memory, an expired entry where
//! sources fail, or a flight. Each file owns one thing, and knows only those above it:
//!
//! | file | owns |
//! | --- | --- |
//! | `config.rs` | the configuration that all caches of a sidecar share |
//! | `entry.rs` | one cached answer, its times and its renderings |
//! | `read_options.rs`, `served.rs` | the options and the result of a read |
//! | `policy.rs` | whether an entry is fresh, valid or cacheable |
//! | `memory.rs` | the memory tier |
//! | `redis_tier.rs` | the tier in Redis: claims, envelopes, seals |
//! | `programs.rs`, `tags.rs` | the domain's jq programs; the tags that they compute |
//! | `flight.rs`, `flight_table.rs` | one flight; the flights in flight, by key |
//! | `sharing.rs`, `patience.rs` | how long a caller waits for which flight |
//! | `fetcher.rs` | the work of a flight, top to bottom: look up, claim, collect, tag, store |
//! | `read.rs` | the decision on a read |
//! | `events.rs`, `verify.rs` | events for listeners, samples for the verifier: values |
//!
//! The domain's state machine on the [`crate::bus`] decides each time whether a dataset may be
//! served, joined or stored. Sources are not known here: a flight runs the plan of `collect`.

mod config;
mod entry;
mod events;
mod fetcher;
mod flight;
mod flight_table;
mod memory;
mod metrics;
mod patience;
mod policy;
mod programs;
mod read;
mod read_options;
mod redis_tier;
mod served;
mod sharing;
mod tags;
mod token;
mod verify;

pub use config::{CacheConfig, CacheParts, SealKeyError};
pub use entry::{CacheEntry, EntryContent, EtagDigest, RenderedAnswer};
pub use events::{CollectionEvent, CollectionEventKind, CollectionEvents};
pub use flight::NotStoredReason;
pub use memory::Memory;
pub use metrics::CacheMetrics;
pub use programs::{ProgramError, SHAPE_OUTPUT_BYTES_MAX};
pub use read::{Cache, CacheContext};
pub use read_options::{After, ReadOptions};
pub use redis_tier::{CLAIM_TTL, RedisEntry, Seal, SealError, decoded_weight};
pub use served::{CacheStatus, ReadError, ServedAnswer};
pub use tags::{TagsRefusal, TagsRefusals};
pub use token::InvalidationToken;
pub use verify::{HitVerifier, SampleVerifier, VerifierStatus, verifier};
