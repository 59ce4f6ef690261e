//! One part from one source: the request, its retries and bounds, and what its answer means.

mod failure;
mod part;
mod trace;

pub use failure::{Failure, Reason};
pub use part::{Part, Validator};
pub use trace::TraceContext;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::{Source, SourceIndex, UrlTemplate};
use crate::identity::{self, Identity, TlsOptions};

/// What every client of a source shares.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Our identity as it rotates; `None` where only `http://` sources are allowed.
    pub identity: Option<watch::Receiver<Arc<Identity>>>,
    /// How TLS is done.
    pub tls: TlsOptions,
    /// The counters of TLS.
    pub identity_metrics: identity::Metrics,
    /// The counters of this module.
    pub metrics: Metrics,
    /// `--record` or `--replay`.
    pub tape: Tape,
}

/// Whether upstream answers are recorded to, or replayed from, a folder.
#[derive(Debug, Clone, Default)]
pub enum Tape {
    /// Neither.
    #[default]
    Off,
    /// `--record DIR`.
    Record(std::path::PathBuf),
    /// `--replay DIR`: no upstream is asked.
    Replay(std::path::PathBuf),
}

/// The counters of this module.
#[derive(Debug, Clone, Default)]
pub struct Metrics {}

impl Metrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let _ = registry;
        Self::default()
    }
}

/// One question to a source.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The rendered path and query.
    pub target: &'a PathAndQuery,
    /// The part to confirm: its strong ETag goes out as `If-None-Match`.
    pub known: Option<&'a Part>,
    /// Send `Cache-Control: no-cache` (snapshot rounds, a consumer's `no-cache`).
    pub no_cache: bool,
    /// When the dataset must be complete.
    pub deadline: Instant,
    /// The trace that the request belongs to.
    pub trace: &'a TraceContext,
}

/// What a source said.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A part (fresh bytes).
    Part(Part),
    /// The known part is still current: a 304, or the same bytes again where its validator proves nothing.
    Unchanged,
    /// 404, and the file says that it means `not-found`.
    NotFound,
}

/// One request as it went, for `--explain`, `Server-Timing` and spans.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// When it was sent (or began to wait for a slot).
    pub started: Instant,
    /// How long it took.
    pub took: Duration,
    /// The status that came, if one came.
    pub status: Option<u16>,
    /// Why it failed, if it did.
    pub reason: Option<Reason>,
    /// The span id sent in `traceparent`.
    pub span_id: u64,
}

/// The client of one source: connections, slots, breaker and retry budget.
#[derive(Debug)]
pub struct Client {}

impl Client {
    /// A client for `source`.
    pub fn new(source: Source, shared: &Shared) -> Self {
        let _ = (source, shared);
        unimplemented!()
    }

    /// The source it asks.
    pub fn source(&self) -> &Source {
        unimplemented!()
    }

    /// Asks, retries within its bounds, and never outlives the deadline. Every request made is pushed to `attempts`.
    pub async fn fetch(&self, ask: Ask<'_>, attempts: &mut Vec<Attempt>) -> Result<Answer, Failure> {
        let _ = (ask, attempts);
        unimplemented!()
    }
}

/// Renders a request target: percent-encodes the key and the referenced scalars so that none can leave its place.
pub fn render<'p>(
    source: &str,
    template: &UrlTemplate,
    key: &str,
    part: impl Fn(SourceIndex) -> Option<&'p Part>,
) -> Result<PathAndQuery, Failure> {
    let _ = (source, template, key, &part);
    unimplemented!()
}

/// A strong ETag as it goes into `If-None-Match`.
pub type StrongETag = HeaderValue;
