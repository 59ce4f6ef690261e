//! One part from one source: the request, its retries and bounds, and the meaning of its answer.
//!
//! A [`Client`] belongs to one source and is shared by all collections. [`render_target`] makes the
//! request's target, [`fetch_together`] sends it. For HTTP, `http_client` puts together
//! `request_spec` and `exchange` (one HTTP exchange over `connections`), `answer` (its
//! classification, with `json`, `link_header` and `pages`), `retry`, and the `breaker` behind
//! `shared_breaker`. For databases, `database_client` reads the sources of one URL together, over
//! the connections of `postgres` or the driver behind `mongo`. A part is a 200 with JSON and no
//! next page, or what a database's rows are as JSON; anything else is a [`SourceError`] that names
//! the value found and the value expected, and never holds data. `collect` decides which part is
//! needed when.

mod account;
mod answer;
mod attempt_error;
mod breaker;
mod client;
mod config;
mod connections;
#[cfg(any(feature = "postgres", feature = "mongodb"))]
mod database;
#[cfg(any(feature = "postgres", feature = "mongodb"))]
mod database_client;
mod examination;
mod exchange;
mod http_client;
mod json;
mod link_header;
mod metrics;
#[cfg(feature = "mongodb")]
mod mongo;
mod outstanding;
mod pages;
mod part;
#[cfg(any(feature = "postgres", feature = "mongodb"))]
mod part_text;
#[cfg(feature = "postgres")]
mod postgres;
mod recording;
mod render;
mod request_spec;
mod reserved_body;
mod retry;
mod shared_breaker;
mod source_error;
mod trace;

pub use account::ClientState;
pub use breaker::BreakerState;
pub use client::{Client, fetch_together};
pub use config::{RecordingError, SourcesConfig};
pub use examination::{DatabaseExamination, DatabaseFacts, StatementFacts, examine_database};
pub(crate) use link_header::has_next_page;
pub use metrics::SourcesMetrics;
pub use outstanding::{Outstanding, OutstandingRequest};
pub use part::{Part, VALIDATOR_BYTES_MAX, Validator};
pub use recording::Recording;
pub use render::{RequestTarget, render, render_target};
pub use source_error::{Reason, SourceError};
pub use trace::TraceContext;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::identity::{self, Identity, TlsOptions};
use crate::resources::WorkMemory;

/// The state that the clients of all sources share.
#[derive(Debug, Clone)]
pub struct SharedSources {
    /// Our identity as it rotates; `None` where only `http://` sources are allowed.
    pub identity: Option<watch::Receiver<Arc<Identity>>>,
    /// How TLS is done.
    pub tls: TlsOptions,
    /// The counters of TLS.
    pub identity_metrics: identity::IdentityMetrics,
    /// The counters of this module.
    pub metrics: SourcesMetrics,
    /// `--record` or `--replay`.
    pub recording: Recording,
}

/// One request to a source.
#[derive(Debug, Clone, Copy)]
pub struct PartRequest<'a> {
    /// The rendered target.
    pub target: &'a RequestTarget,
    /// The part to confirm: its strong `ETag` goes out as `If-None-Match`.
    pub known_part: Option<&'a Part>,
    /// Send `Cache-Control: no-cache` (snapshot rounds, a consumer's `no-cache`).
    pub no_cache: bool,
    /// When the dataset must be complete.
    pub deadline: Instant,
    /// The trace that the request belongs to.
    pub trace: &'a TraceContext,
    /// The memory from which the answer's body is taken.
    pub memory: &'a WorkMemory,
    /// Counts the request while it is on its way.
    pub outstanding: &'a Outstanding,
}

/// A source's response.
#[derive(Debug, Clone)]
pub enum SourceAnswer {
    /// A part (fresh bytes).
    Part(Part),
    /// The known part is still current: a 304, or the same bytes again where its validator proves
    /// nothing.
    Unchanged,
    /// 404 or no row, where the file maps it to `not-found`.
    NotFound,
}

/// The result of asking one source.
#[derive(Debug)]
pub struct Fetched {
    /// Its part, or why there is none. `None`: it was not reached, because another source of its
    /// transaction failed.
    pub result: Option<Result<SourceAnswer, SourceError>>,
    /// Every request that was made.
    pub attempts: Vec<Attempt>,
    /// Whether it belongs to one instant, with the others that were read together.
    pub at_one_instant: bool,
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

/// The bytes that a part reserves for each of its own: the body as it arrives, and its copy in the
/// dataset. Code that drops a part gives as much back.
pub const BODY_COPIES: u64 = 2;
