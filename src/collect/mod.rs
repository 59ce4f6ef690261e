//! All parts of one key, or nothing; and, where the domain asks for it, from one instant.
//!
//! A [`Collector`] is a plan made once from a domain and run for each key. It promises *Complete*
//! (every part, or one failure that names its source) and *Snapshot* (`rounds.rs`). How one source
//! is asked, retried and bounded is the business of `sources`; what becomes of a dataset is the
//! business of whoever asked.

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

/// What the caller of a collection wants beyond the key.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// Ask the sources with `Cache-Control: no-cache`.
    pub no_cache: bool,
    /// The trace that the requests belong to.
    pub trace: TraceContext,
    /// The parts of an earlier dataset of this key: sources are asked whether theirs is still
    /// current.
    pub previous_parts: Option<Arc<[Part]>>,
    /// When it must have ended; by itself, the domain's deadline from its start.
    pub deadline: Option<Instant>,
}

impl CollectOptions {
    /// For nobody in particular: a trace of its own, nothing known.
    pub fn without_caller() -> Self {
        Self {
            no_cache: false,
            trace: TraceContext::from_headers(&HeaderMap::new()),
            previous_parts: None,
            deadline: None,
        }
    }
}

/// Why there is no dataset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// A source whose `missing` is `not-found` answered 404.
    #[error("{source_name} knows no such key")]
    NotFound {
        /// The source that said so.
        source_name: Arc<str>,
    },
    /// At least one part could not be had.
    #[error("{}", join_failures(.failures))]
    Failed {
        /// Never empty; several only where they failed at the same time.
        failures: Vec<SourceError>,
        /// Whether the deadline of the dataset had passed.
        deadline_passed: bool,
    },
    /// There was no room for it.
    #[error("{detail}")]
    Overloaded {
        /// What is full.
        detail: String,
    },
}

impl CollectError {
    /// The process holds as much memory as it may.
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

    /// The domain it collects.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// The clients, in the order of the domain's sources.
    pub fn clients(&self) -> &[Arc<Client>] {
        &self.clients
    }

    /// Collects one dataset, in the memory of `work`. Dropping the future cancels every request
    /// still under way.
    pub async fn collect(
        &self,
        key: &str,
        options: CollectOptions,
        work: CollectContext<'_>,
    ) -> (Result<Dataset, CollectError>, Timeline) {
        let started = Instant::now();
        let deadline = options.deadline.unwrap_or(started + self.domain.deadline);
        let mut run = rounds::CollectionRun::new(self, key, options, work, deadline);
        // The clients keep the deadline themselves; a moment later it is kept for them.
        let result =
            match tokio::time::timeout_at(deadline + DEADLINE_GRACE, run.collect_dataset()).await {
                Ok(result) => result,
                Err(_) => Err(run.deadline_error()),
            };
        let timeline = run.into_timeline(started);
        self.metrics.observe(&result, timeline.rounds());
        (result, timeline)
    }

    /// What a caller is told whose deadline passed while the collection that it waited for had no
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

/// How much longer than the deadline a client may take to say that the deadline has passed.
pub const DEADLINE_GRACE: Duration = Duration::from_millis(20);
