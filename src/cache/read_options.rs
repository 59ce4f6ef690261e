//! The options of a read: the `Cache-Control` and `Bfb-After` of its request.

use std::time::Duration;

use tokio::time::Instant;

use super::entry::CacheEntry;
use super::token::InvalidationToken;
use crate::collect;

/// The options of a read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// `no-cache`: the sources are asked again, in a flight that begins after the caller came.
    pub no_cache: bool,
    /// `no-store`: nothing is stored for this caller's sake.
    pub no_store: bool,
    /// `max-age`: the oldest age that the caller accepts.
    pub max_age: Option<Duration>,
    /// `only-if-cached`: the sources are not asked.
    pub only_if_cached: bool,
    /// `Bfb-After`: the invalidations that the answer must reflect.
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
    /// A text that is no token: it counts as an invalidation that was not applied.
    Unknown,
}
