//! All parts of one key, or nothing; and, where the domain asks for it, from one instant.
//!
//! A [`Collector`] is a plan made once from a domain and run for each key. It promises *Complete*
//! (every part, or one failure that names its source) and *Snapshot* (`rounds.rs`). Requests to one
//! source, their retries and bounds are left to `sources`; keeping a dataset is left to `cache`.

mod context;
mod dataset;
mod encoding;
mod metrics;
mod part_table;
mod rounds;
mod stored;
mod timeline;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use crate::domain::{Domain, SourceIndex};
use crate::resources::NO_MEMORY;
use crate::sources::{Client, Part, Reason, SourceError, TraceContext};

pub use crate::sources::Outstanding;

pub use context::{CollectContext, UnansweredSources};
pub use dataset::{Dataset, DatasetId};
pub use metrics::{CollectMetricFamilies, CollectMetrics};
pub use stored::StoredDataset;
pub use timeline::{StepOutcome, Timeline, TimelineStep};

/// The plan of one domain, ready to run.
#[derive(Debug)]
pub struct Collector {
    domain: Arc<Domain>,
    clients: Vec<Arc<Client>>,
    metrics: CollectMetrics,
}

/// The options of a collection, beside the key.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// Send `Cache-Control: no-cache` to the sources.
    pub no_cache: bool,
    /// The trace that the requests belong to.
    pub trace: TraceContext,
    /// The parts of an earlier dataset of this key, whose validators are sent to the sources.
    pub previous_parts: Option<Arc<[Part]>>,
    /// When it must have ended; `None`: the domain's deadline, counted from its start.
    pub deadline: Option<Instant>,
}

impl CollectOptions {
    /// The options of a collection without a caller: a trace of its own, no earlier parts.
    pub fn without_caller() -> Self {
        Self {
            no_cache: false,
            trace: TraceContext::from_headers(&HeaderMap::new()),
            previous_parts: None,
            deadline: None,
        }
    }
}

/// The reason for which there is no dataset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// A source whose `missing` is `not-found` answered 404.
    #[error("{source_name} knows no such key")]
    NotFound {
        /// The source that answered 404.
        source_name: Arc<str>,
    },
    /// At least one part could not be fetched.
    #[error("{}", join_failures(.failures))]
    Failed {
        /// Never empty; several only where they failed at the same time.
        failures: Vec<SourceError>,
        /// Whether the deadline of the dataset had passed.
        deadline_passed: bool,
    },
    /// The key is of another type than a database compares it with.
    #[error("{source_name}: {detail}")]
    BadKey {
        /// The source in the database.
        source_name: Arc<str>,
        /// What was expected.
        detail: String,
    },
    /// The process is full.
    #[error("{detail}")]
    Overloaded {
        /// What is full, as text.
        detail: String,
    },
}

impl CollectError {
    /// The error where the process holds as much memory as it may.
    pub fn no_memory() -> Self {
        Self::Overloaded { detail: NO_MEMORY.to_owned() }
    }
}

fn join_failures(failures: &[SourceError]) -> String {
    failures.iter().map(SourceError::to_string).collect::<Vec<_>>().join("; ")
}

impl Collector {
    /// The plan of `domain`; `clients` stand in the order of its sources.
    pub fn new(domain: Arc<Domain>, clients: Vec<Arc<Client>>, metrics: CollectMetrics) -> Self {
        debug_assert_eq!(domain.sources.len(), clients.len(), "a client a source");
        Self { domain, clients, metrics }
    }

    /// The domain that it collects.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// The clients, in the order of the domain's sources.
    pub fn clients(&self) -> &[Arc<Client>] {
        &self.clients
    }

    /// Collects one dataset, in the memory of `work`. Dropping the future cancels every request in
    /// flight.
    pub async fn collect(
        &self,
        key: &str,
        options: CollectOptions,
        work: CollectContext<'_>,
    ) -> (Result<Dataset, CollectError>, Timeline) {
        let started = Instant::now();
        let deadline = options.deadline.unwrap_or(started + self.domain.deadline);
        let mut run = rounds::CollectionRun::new(self, key, options, work, deadline);
        // The clients keep the deadline themselves; the grace lets them name the source that missed
        // it.
        let result =
            match tokio::time::timeout_at(deadline + DEADLINE_GRACE, run.collect_dataset()).await {
                Ok(result) => result,
                Err(_) => Err(run.deadline_error()),
            };
        let timeline = run.into_timeline(started);
        self.metrics.observe(&result, timeline.rounds());
        (result, timeline)
    }

    /// The error of a caller whose deadline passed while the collection that it waited for had no
    /// answer of these sources. If there are none, no source has failed.
    pub fn deadline_error(&self, unanswered: &[SourceIndex]) -> CollectError {
        let deadline = format!("the dataset's deadline of {} ms", self.domain.deadline.as_millis());
        let failure = |source: &SourceIndex| SourceError {
            source_name: self.source_name(*source).clone(),
            reason: Reason::Timeout,
            detail: format!("gave no answer within {deadline}"),
            retry: false,
            retry_after: None,
        };
        let failures: Vec<_> = unanswered.iter().map(failure).collect();
        if failures.is_empty() {
            return CollectError::Overloaded {
                detail: format!("no collection could end within {deadline}"),
            };
        }
        CollectError::Failed { failures, deadline_passed: true }
    }

    fn source_name(&self, source: SourceIndex) -> &Arc<str> {
        &self.domain.sources[source.0].name
    }
}

/// How much longer than the deadline a client may take to report that the deadline has passed.
pub const DEADLINE_GRACE: Duration = Duration::from_millis(20);
