//! The result of a read: an entry and its cache status, or the error.

use std::sync::Arc;

use super::entry::CacheEntry;
use crate::collect::{CollectError, Timeline};

/// An answer.
#[derive(Debug, Clone)]
pub struct ServedAnswer {
    /// The entry, collected for this request or before.
    pub entry: Arc<CacheEntry>,
    /// Where it came from.
    pub status: CacheStatus,
    /// The collection, if there was one.
    pub timeline: Option<Timeline>,
}

/// Where an answer came from, as `Cache-Status` shows it (RFC 9211).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// From memory, fresh for so many seconds.
    Memory {
        /// Seconds.
        ttl: i64,
    },
    /// From Redis, fresh for so many seconds.
    Redis {
        /// Seconds.
        ttl: i64,
    },
    /// From memory, expired, because sources failed.
    SourceFailed {
        /// Seconds, below zero.
        ttl: i64,
    },
    /// Collected because it was not there.
    Miss {
        /// It was kept.
        stored: bool,
    },
    /// Collected by a flight that was there.
    Collapsed,
    /// Collected because the request demanded it.
    Request {
        /// It was kept.
        stored: bool,
    },
    /// Collected because nothing is cached.
    Bypass,
    /// From memory although the lease is lost (`--bus-loss stale`).
    BusLost {
        /// Seconds.
        ttl: i64,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub enum ReadError {
    /// The collection failed.
    Collect(CollectError, Option<Timeline>),
    /// `only-if-cached`, and it is not.
    NotCached,
    /// The lease is lost, and `--bus-loss fail` was chosen.
    BusLost,
}
