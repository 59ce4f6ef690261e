//! The counters of collection.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{CollectError, Dataset};

/// The counters of one domain; clones share them.
#[derive(Debug, Clone)]
pub struct CollectMetrics(Arc<CollectCounters>);

#[derive(Debug)]
struct CollectCounters {
    complete: Counter,
    not_found: Counter,
    bad_key: Counter,
    failed: Counter,
    rounds: Counter,
}

/// The metric families from which each domain takes its counters.
#[derive(Debug, Clone, Default)]
pub struct CollectMetricFamilies {
    collections: Family<CollectResultLabels, Counter>,
    rounds: Family<CollectDomainLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CollectResultLabels {
    domain: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CollectDomainLabels {
    domain: String,
}

impl CollectMetricFamilies {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let families = Self::default();
        registry.register(
            "collections",
            "Collections of a dataset, by result",
            families.collections.clone(),
        );
        registry.register(
            "collection_rounds",
            "Rounds of questions to all sources",
            families.rounds.clone(),
        );
        families
    }

    /// The counters of one domain.
    pub fn for_domain(&self, domain: &str) -> CollectMetrics {
        let result = |result| {
            self.collections
                .get_or_create(&CollectResultLabels { domain: domain.to_owned(), result })
                .clone()
        };
        CollectMetrics(Arc::new(CollectCounters {
            complete: result("complete"),
            not_found: result("not-found"),
            bad_key: result("bad-key"),
            failed: result("failed"),
            rounds: self
                .rounds
                .get_or_create(&CollectDomainLabels { domain: domain.to_owned() })
                .clone(),
        }))
    }
}

impl CollectMetrics {
    pub(super) fn observe(&self, result: &Result<Dataset, CollectError>, rounds: u32) {
        match result {
            Ok(_) => &self.0.complete,
            Err(CollectError::NotFound { .. }) => &self.0.not_found,
            Err(CollectError::BadKey { .. }) => &self.0.bad_key,
            Err(CollectError::Failed { .. } | CollectError::Overloaded { .. }) => &self.0.failed,
        }
        .inc();
        self.0.rounds.inc_by(u64::from(rounds));
    }
}
