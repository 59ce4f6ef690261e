//! The policy of the cache: whether an entry may be served, served stale, or stored. Each answer
//! combines the coherence protocol at this moment with the rules of the domain file in force.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::entry::{CacheEntry, EntryContent};
use super::read_options::{After, ReadOptions};
use crate::bus::DomainBus;
use crate::domain::{CacheRules, Domain};

/// An expired dataset is kept this long at most for its validators alone.
const VALIDATORS_RETENTION_MAX: Duration = Duration::from_mins(1);

/// The policy of one domain; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    domain: Arc<Domain>,
    bus: DomainBus,
    /// Whether anything of this domain is kept anywhere.
    is_cacheable: bool,
}

impl Policy {
    /// `has_tier`: there is a tier that entries can be kept in.
    pub(super) fn new(domain: Arc<Domain>, bus: DomainBus, has_tier: bool) -> Self {
        let is_cacheable = has_tier && !domain.cache.ttl.is_zero();
        Self { domain, bus, is_cacheable }
    }

    pub(super) fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    pub(super) fn bus(&self) -> &DomainBus {
        &self.bus
    }

    /// The rules in force.
    pub(super) fn rules(&self) -> &CacheRules {
        &self.domain.cache
    }

    /// Whether anything of this domain is kept.
    pub(super) fn is_cacheable(&self) -> bool {
        self.is_cacheable
    }

    /// Whether an entry is served to this caller without a question to the sources (RFC 9111, 4.2):
    /// its time to live, by the rules in force, is not over, and the caller accepts its age.
    pub(super) fn is_fresh(&self, entry: &CacheEntry, options: &ReadOptions, now: Instant) -> bool {
        entry.fresh_until(self.rules()) > now && !options.is_too_old(entry, now)
    }

    /// Whether memory may answer with an entry: the lease holds, and nothing has outdated it.
    pub(super) fn is_valid(&self, entry: &CacheEntry, key: &str) -> bool {
        self.bus.query_replica(|replica, now| {
            replica.may_serve(now)
                && entry.fence().is_some_and(|fence| replica.is_valid(fence, key, entry.tags()))
        })
    }

    /// Whether no invalidation that was applied here outdates an entry, with or without the lease.
    pub(super) fn is_current(&self, entry: &CacheEntry, key: &str) -> bool {
        entry.fence().is_some_and(|fence| self.bus.is_valid(fence, key, entry.tags()))
    }

    /// Whether an expired dataset may stand in for failing sources (RFC 5861, section 4). A cached
    /// "no such dataset" may not.
    pub(super) fn may_be_stale(&self, entry: &CacheEntry, key: &str, now: Instant) -> bool {
        let until = entry.fresh_until(self.rules()) + self.rules().stale_if_error;
        let is_dataset = matches!(entry.content, EntryContent::Dataset(_));
        is_dataset && self.is_cacheable && until > now && self.is_valid(entry, key)
    }

    /// Whether the invalidations that a caller names are applied here.
    pub(super) fn has_applied(&self, after: &After) -> bool {
        match after {
            After::Tokens(tokens) => tokens.iter().all(|token| self.bus.has_applied(token.0)),
            After::Unknown => false,
        }
    }

    /// How long an entry is retained beyond its freshness of `fresh`: for failing sources, and for
    /// its validators. A cached "no such dataset" is of no use once it has expired.
    pub(super) fn retention(&self, content: &EntryContent, fresh: Duration) -> Duration {
        match content {
            EntryContent::Dataset(_) => {
                self.rules().stale_if_error.max(fresh.min(VALIDATORS_RETENTION_MAX))
            }
            EntryContent::NotFound => Duration::ZERO,
        }
    }
}
