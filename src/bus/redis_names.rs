//! The names of the bus's keys and channels in Redis: all are `bfb:{NAMESPACE/DOMAIN}:…`, so that a
//! domain lives on one slot of a Redis Cluster.

use crate::coherence::DatasetPlace;

/// The names of one domain's keys and channels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RedisNames {
    prefix: String,
}

impl RedisNames {
    /// The names of a domain in a namespace.
    pub fn new(namespace: &str, domain: &str) -> Self {
        Self { prefix: format!("bfb:{{{namespace}/{domain}}}:") }
    }

    /// The key of the hash with the log's epoch, life, `seq`, settled mark and registry.
    pub fn meta(&self) -> String {
        format!("{}meta", self.prefix)
    }

    /// The key of the stream of entries.
    pub fn log(&self) -> String {
        format!("{}log", self.prefix)
    }

    /// The key of the sorted set of stamps.
    pub fn stamps(&self) -> String {
        format!("{}stamps", self.prefix)
    }

    /// The key of a dataset.
    pub fn dataset(&self, place: &DatasetPlace) -> String {
        format!("{}dataset:{}:{}", self.prefix, place.plan, place.key)
    }

    /// The key of the claim on a dataset.
    pub fn claim(&self, place: &DatasetPlace) -> String {
        format!("{}claim:{}:{}", self.prefix, place.plan, place.key)
    }

    /// The channel on which the script publishes entries.
    pub fn invalidations_channel(&self) -> String {
        format!("{}news", self.prefix)
    }

    /// The channel on which other programs publish hints.
    pub fn hints_channel(&self) -> String {
        format!("{}invalidate", self.prefix)
    }
}
