//! What the bus calls its keys and channels in Redis: all `bfb:{NAMESPACE/DOMAIN}:…`, so that a
//! domain lives on one slot of a Redis Cluster.

use crate::coherence::DatasetPlace;

/// The names of one domain's keys and channels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RedisNames {
    prefix: String,
}

impl RedisNames {
    /// The names under which a namespace keeps a domain.
    pub fn new(namespace: &str, domain: &str) -> Self {
        Self { prefix: format!("bfb:{{{namespace}/{domain}}}:") }
    }

    /// The hash with the log's epoch, life, seq, settled mark and registry.
    pub fn meta(&self) -> String {
        format!("{}meta", self.prefix)
    }

    /// The stream of entries.
    pub fn log(&self) -> String {
        format!("{}log", self.prefix)
    }

    /// The sorted set of stamps.
    pub fn stamps(&self) -> String {
        format!("{}stamps", self.prefix)
    }

    /// Where Redis keeps a dataset.
    pub fn dataset(&self, place: &DatasetPlace) -> String {
        format!("{}dataset:{}:{}", self.prefix, place.plan, place.key)
    }

    /// Who collects it.
    pub fn claim(&self, place: &DatasetPlace) -> String {
        format!("{}claim:{}:{}", self.prefix, place.plan, place.key)
    }

    /// The channel on which the script publishes entries.
    pub fn invalidations_channel(&self) -> String {
        format!("{}news", self.prefix)
    }

    /// The channel for hints.
    pub fn hints_channel(&self) -> String {
        format!("{}invalidate", self.prefix)
    }
}
