//! The consumer's side: datasets over HTTP on localhost.
//!
//! [`Consumers`] answers one request; `connection.rs` and `listen.rs` bring requests to it, with
//! bounds on everything that a consumer can send. Errors become HTTP in [`problem`] and nowhere
//! else.

mod answer;
mod candidate;
mod connection;
mod drain;
mod eviction;
mod frames;
mod host;
mod listen;
mod metrics;
mod observed;
mod openapi;
mod port;
pub mod problem;
mod progress;
mod render;
mod report;
mod request;
mod request_bytes;
mod spans;
mod table;
mod wish;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::cache::ReadError;
use crate::collect::Timeline;
use crate::sources::TraceContext;
use problem::Problem;
use table::Published;
use wish::CacheWish;

pub use connection::Answering;
pub use drain::{QUIET, until_quiet};
pub use host::AllowedHosts;
pub use listen::{Address, BindError, Listener, accept, accept_tls};
pub use metrics::{Metrics, PortMetrics};
pub use port::{Activity, Drain, Limits, Port};
pub use report::{KeyLog, Reporter};
pub(crate) use request::WaitNotice;
pub use request::{BodyError, RequestBody};
pub use spans::{SpanError, Spans};
pub(crate) use table::decode_key;
pub use table::{MAX_KEY_BYTES, Table};

/// How the consumer's side behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who may be addressed.
    pub hosts: AllowedHosts,
    /// `--explain`: every answer carries `Server-Timing`, without being asked with `Bfb-Explain`.
    pub explain: bool,
    /// `--request-cache-control honour`: obey the consumer's `Cache-Control`.
    pub honour_cache_control: bool,
    /// The most requests under way at once.
    pub requests_max: usize,
}

/// Answers consumers. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Consumers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: watch::Receiver<Arc<Table>>,
    settings: Settings,
    slots: Semaphore,
    metrics: Metrics,
    reporter: Reporter,
}

/// What became of a request, for the log, the metrics and the trace.
struct Handled {
    response: Result<Response<Bytes>, Problem>,
    published: Option<Arc<Published>>,
    key: Option<String>,
    timeline: Option<Timeline>,
}

impl Consumers {
    /// Answers from whatever table is current when a request comes.
    pub fn new(
        table: watch::Receiver<Arc<Table>>,
        settings: Settings,
        metrics: Metrics,
        reporter: Reporter,
    ) -> Self {
        let slots = Semaphore::new(settings.requests_max);
        Self(Arc::new(Inner { table, settings, slots, metrics, reporter }))
    }

    /// Answers one request; `on_tcp` says whether its `Host` matters.
    pub async fn answer<B>(&self, request: Request<B>, on_tcp: bool) -> Response<Bytes> {
        let started = Instant::now();
        let trace = self.0.reporter.trace(request.headers());
        let table = self.0.table.borrow().clone();
        let handled = self.handle(&request, on_tcp, &table, &trace).await;
        let trace_id = trace.trace_id_hex();
        let explain = self.explains(request.headers());
        self.0.reporter.report(&trace, started, &handled.as_report());
        let Handled { response, published, timeline, .. } = handled;
        let mut response = response.unwrap_or_else(|problem| problem.into_response(&trace_id));
        if explain {
            // Where no source was asked, there is only the time that the answer took.
            let timeline = timeline.unwrap_or_else(|| Timeline::without_steps(started));
            answer::add_server_timing(response.headers_mut(), &timeline);
        }
        let metrics = published.as_ref().map_or(&table.nowhere, |published| &published.metrics);
        metrics.observe(response.status().as_u16(), started.elapsed());
        without_body_on_head(request.method(), response)
    }

    /// Whether an answer says where the time went.
    fn explains(&self, headers: &HeaderMap) -> bool {
        let asks = |value: &HeaderValue| value.as_bytes().trim_ascii() == b"1";
        self.0.settings.explain || headers.get_all("bfb-explain").iter().any(asks)
    }

    /// Refuses a request for which there is no memory.
    fn refuse_unread(&self, headers: &HeaderMap, detail: String) -> Response<Bytes> {
        self.0.metrics.overloaded.inc();
        let trace_id = self.0.reporter.trace(headers).trace_id_hex();
        let mut response = Problem::Overloaded { detail }.into_response(&trace_id);
        if self.explains(headers) {
            let timeline = Timeline::without_steps(Instant::now());
            answer::add_server_timing(response.headers_mut(), &timeline);
        }
        self.0.table.borrow().nowhere.observe(response.status().as_u16(), Duration::ZERO);
        response
    }

    async fn handle<B>(
        &self,
        request: &Request<B>,
        on_tcp: bool,
        table: &Table,
        trace: &TraceContext,
    ) -> Handled {
        if on_tcp && !self.0.settings.hosts.allow(request) {
            return Handled::refused(Problem::Misdirected);
        }
        let path = request.uri().path();
        if path == "/openapi.json" {
            return Handled::refused_or(plain_read(request).map(|()| json(table.openapi.clone())));
        }
        let Some((published, segment)) = table.find(path) else {
            return Handled::refused(Problem::NoSuchPath);
        };
        let published = published.clone();
        match self.checked(request, &published, segment) {
            Ok((key, cache)) => self.dataset(request.headers(), published, key, cache, trace).await,
            Err(problem) => Handled { published: Some(published), ..Handled::refused(problem) },
        }
    }

    /// What can be known before anyone is asked.
    fn checked<B>(
        &self,
        request: &Request<B>,
        to: &Published,
        segment: &str,
    ) -> Result<(String, CacheWish), Problem> {
        plain_read(request)?;
        let key =
            table::decode_key(segment, to.domain()).map_err(|detail| Problem::BadKey { detail })?;
        let honour = self.0.settings.honour_cache_control;
        let cache =
            if honour { CacheWish::from_headers(request.headers()) } else { CacheWish::default() };
        Ok((key, cache))
    }

    async fn dataset(
        &self,
        headers: &HeaderMap,
        published: Arc<Published>,
        key: String,
        asked: CacheWish,
        trace: &TraceContext,
    ) -> Handled {
        let Ok(_slot) = self.0.slots.try_acquire() else {
            self.0.metrics.overloaded.inc();
            let detail = format!("{} requests are under way", self.0.settings.requests_max);
            return Handled {
                published: Some(published),
                ..Handled::refused(Problem::Overloaded { detail })
            };
        };
        let deadline = Instant::now() + published.domain().deadline;
        let (response, timeline) =
            match published.cache.read(&key, &asked.into_wish(headers, trace)).await {
                Ok(served) => {
                    let rendered = render::render(&published, &key, &served.entry, deadline).await;
                    let answer =
                        |rendered| answer::complete(&published, &key, &served, &rendered, headers);
                    (rendered.and_then(answer), served.timeline.clone())
                }
                Err(ReadError::NotCached) => (Err(Problem::NotCached), None),
                Err(ReadError::BusLost) => (Err(Problem::BusLost), None),
                Err(ReadError::Collect(error, timeline)) => {
                    (Err(Problem::from_collect(error, &published.domain().name)), timeline)
                }
            };
        Handled { response, published: Some(published), key: Some(key), timeline }
    }
}

impl Handled {
    fn refused(problem: Problem) -> Self {
        Self::refused_or(Err(problem))
    }

    fn refused_or(response: Result<Response<Bytes>, Problem>) -> Self {
        Self { response, published: None, key: None, timeline: None }
    }

    fn as_report(&self) -> report::Report<'_> {
        report::Report {
            response: self.response.as_ref(),
            version: self.published.as_deref(),
            key: self.key.as_deref(),
            timeline: self.timeline.as_ref(),
        }
    }
}

/// `GET` or `HEAD` without a query string: all that there is to read with.
fn plain_read<B>(request: &Request<B>) -> Result<(), Problem> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Problem::MethodNotAllowed { allow: "GET, HEAD" });
    }
    if request.uri().query().is_some() {
        let detail = "a query string is reserved: expected none, not even an empty `?`".to_owned();
        return Err(Problem::BadRequest { detail });
    }
    Ok(())
}

fn json(body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// RFC 9110 section 9.3.2: the same headers, the length among them, and no content.
fn without_body_on_head(method: &Method, mut response: Response<Bytes>) -> Response<Bytes> {
    if method == Method::HEAD {
        let length = HeaderValue::from(response.body().len());
        if response.status() != http::StatusCode::NOT_MODIFIED {
            response.headers_mut().insert(http::header::CONTENT_LENGTH, length);
        }
        *response.body_mut() = Bytes::new();
    }
    debug_assert!(
        response.status() != http::StatusCode::METHOD_NOT_ALLOWED
            || response.headers().contains_key(ALLOW)
    );
    response
}
