//! The options of a read: the `Cache-Control` and `Bfb-After` of its request.

use std::time::Duration;

use tokio::time::Instant;

use super::entry::CacheEntry;
use super::token::InvalidationToken;
use crate::collect;

/// The options of a read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// Ask the sources again, in a flight begun after the caller came.
    pub no_cache: bool,
    /// Keep nothing for this caller's sake.
    pub no_store: bool,
    /// Nothing older.
    pub max_age: Option<Duration>,
    /// From a cache, or not at all.
    pub only_if_cached: bool,
    /// At least as new as an invalidation.
    pub after: After,
    /// The options of the collection, if this caller starts one.
    pub collect: collect::CollectOptions,
}

impl ReadOptions {
    pub(super) fn is_too_old(&self, entry: &CacheEntry, now: Instant) -> bool {
        self.max_age.is_some_and(|max| entry.age(now) > max)
    }
}

/// `Bfb-After`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// All of these invalidations: none where it was not sent.
    Tokens(Vec<InvalidationToken>),
    /// Something that is no token: it names an invalidation that surely was not applied.
    Unknown,
}
