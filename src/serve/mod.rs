//! The consumer's side: datasets over HTTP on localhost.
//!
//! [`Consumers`] answers one request; [`crate::http`] brings requests to it, with bounds on
//! everything that a consumer can send. Errors become HTTP in [`consumer_problem`] and nowhere
//! else.

pub mod consumer_problem;
mod dataset_response;
mod metrics;
mod openapi;
mod render;
mod reporter;
mod request_headers;
mod request_report;
mod routes;
mod spans;
mod telemetry;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Full;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::cache::ReadError;
use crate::collect::Timeline;
use crate::domain::decode_key;
use crate::http::{AllowedHosts, Handler, RequestBody};
use crate::sources::TraceContext;
use consumer_problem::ConsumerProblem;
use request_headers::RequestCacheControl;
use request_report::RequestReport;
use routes::Route;

pub use metrics::ServeMetrics;
pub use reporter::{KeyLogPolicy, Reporter};
pub use routes::Routes;
pub use spans::{SpanError, Spans};
pub use telemetry::TelemetryConfig;

/// How the consumer's side behaves.
#[derive(Debug, Clone)]
pub struct ConsumersConfig {
    /// The values of `Host` that are answered.
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
pub struct Consumers(Arc<ConsumersInner>);

#[derive(Debug)]
struct ConsumersInner {
    routes: watch::Receiver<Arc<Routes>>,
    settings: ConsumersConfig,
    request_slots: Semaphore,
    metrics: ServeMetrics,
    reporter: Reporter,
}

/// The outcome of a request, for the log, the metrics and the trace.
struct RequestOutcome {
    response: Result<Response<Bytes>, ConsumerProblem>,
    route: Option<Arc<Route>>,
    key: Option<String>,
    timeline: Option<Timeline>,
}

impl Consumers {
    /// Answers from the table of routes that is current when a request arrives.
    pub fn new(
        routes: watch::Receiver<Arc<Routes>>,
        settings: ConsumersConfig,
        metrics: ServeMetrics,
        reporter: Reporter,
    ) -> Self {
        let request_slots = Semaphore::new(settings.requests_max);
        Self(Arc::new(ConsumersInner { routes, settings, request_slots, metrics, reporter }))
    }

    /// Answers one request; `on_tcp` says whether its `Host` matters.
    pub async fn answer<B>(&self, request: Request<B>, on_tcp: bool) -> Response<Bytes> {
        let started = Instant::now();
        let trace = self.0.reporter.trace(request.headers());
        let routes = self.0.routes.borrow().clone();
        let outcome = self.route(&request, on_tcp, &routes, &trace).await;
        let trace_id = trace.trace_id_hex();
        let explain = self.is_explain_requested(request.headers());
        self.0.reporter.report(&trace, started, &outcome.as_report());
        let RequestOutcome { response, route, timeline, .. } = outcome;
        let mut response = response.unwrap_or_else(|problem| problem.into_response(&trace_id));
        if explain {
            // Where no source was asked, there is only the time that the answer took.
            let timeline = timeline.unwrap_or_else(|| Timeline::without_steps(started));
            dataset_response::add_server_timing(response.headers_mut(), &timeline);
        }
        let metrics = route.as_ref().map_or(&routes.unmatched, |route| &route.metrics);
        metrics.observe(response.status().as_u16(), started.elapsed());
        without_body_on_head(request.method(), response)
    }

    /// Whether an answer carries `Server-Timing`.
    fn is_explain_requested(&self, headers: &HeaderMap) -> bool {
        let is_one = |value: &HeaderValue| value.as_bytes().trim_ascii() == b"1";
        self.0.settings.explain || headers.get_all("bfb-explain").iter().any(is_one)
    }

    /// Refuses a request for which there is no memory.
    fn refuse_overloaded(&self, headers: &HeaderMap, detail: String) -> Response<Bytes> {
        self.0.metrics.overloaded.inc();
        let trace_id = self.0.reporter.trace(headers).trace_id_hex();
        let mut response = ConsumerProblem::Overloaded { detail }.into_response(&trace_id);
        if self.is_explain_requested(headers) {
            let timeline = Timeline::without_steps(Instant::now());
            dataset_response::add_server_timing(response.headers_mut(), &timeline);
        }
        self.0.routes.borrow().unmatched.observe(response.status().as_u16(), Duration::ZERO);
        response
    }

    async fn route<B>(
        &self,
        request: &Request<B>,
        on_tcp: bool,
        routes: &Routes,
        trace: &TraceContext,
    ) -> RequestOutcome {
        if on_tcp && !self.0.settings.hosts.is_allowed(request) {
            return RequestOutcome::of_problem(ConsumerProblem::Misdirected);
        }
        let path = request.uri().path();
        if path == "/openapi.json" {
            return RequestOutcome::without_route(
                check_plain_read(request).map(|()| json_response(routes.openapi.clone())),
            );
        }
        let Some((route, segment)) = routes.find(path) else {
            return RequestOutcome::of_problem(ConsumerProblem::NoSuchPath);
        };
        let route = route.clone();
        match self.check_request(request, &route, segment) {
            Ok((key, cache_control)) => {
                self.answer_dataset(request.headers(), route, key, cache_control, trace).await
            }
            Err(problem) => {
                RequestOutcome { route: Some(route), ..RequestOutcome::of_problem(problem) }
            }
        }
    }

    /// The checks that need no source: path, method, key, headers.
    fn check_request<B>(
        &self,
        request: &Request<B>,
        route: &Route,
        segment: &str,
    ) -> Result<(String, RequestCacheControl), ConsumerProblem> {
        check_plain_read(request)?;
        let key = decode_key(segment, route.domain())
            .map_err(|detail| ConsumerProblem::BadKey { detail })?;
        let honour = self.0.settings.honour_cache_control;
        let cache_control = if honour {
            RequestCacheControl::from_headers(request.headers())
        } else {
            RequestCacheControl::default()
        };
        Ok((key, cache_control))
    }

    async fn answer_dataset(
        &self,
        headers: &HeaderMap,
        route: Arc<Route>,
        key: String,
        cache_control: RequestCacheControl,
        trace: &TraceContext,
    ) -> RequestOutcome {
        let Ok(_slot) = self.0.request_slots.try_acquire() else {
            self.0.metrics.overloaded.inc();
            let detail = format!("{} requests are under way", self.0.settings.requests_max);
            return RequestOutcome {
                route: Some(route),
                ..RequestOutcome::of_problem(ConsumerProblem::Overloaded { detail })
            };
        };
        let deadline = Instant::now() + route.domain().deadline;
        let (response, timeline) =
            match route.cache.read(&key, &cache_control.into_read_options(headers, trace)).await {
                Ok(served) => {
                    let rendered = render::render(&route, &key, &served.entry, deadline).await;
                    let answer = |rendered| {
                        dataset_response::build(&route, &key, &served, &rendered, headers)
                    };
                    (rendered.and_then(answer), served.timeline.clone())
                }
                Err(ReadError::NotCached) => (Err(ConsumerProblem::NotCached), None),
                Err(ReadError::BusLost) => (Err(ConsumerProblem::BusLost), None),
                Err(ReadError::Collect(error, timeline)) => {
                    (Err(ConsumerProblem::from_collect(error, &route.domain().name)), timeline)
                }
            };
        RequestOutcome { response, route: Some(route), key: Some(key), timeline }
    }
}

impl Handler for Consumers {
    type Body = Full<Bytes>;

    async fn handle(&self, request: Request<RequestBody>, on_tcp: bool) -> Response<Full<Bytes>> {
        // A body is ignored (`docs/consumers.md`): it is dropped before the request is answered,
        // not after.
        self.answer(request.map(drop), on_tcp).await.map(Full::new)
    }

    fn refuse(&self, headers: &HeaderMap, detail: String) -> Response<Full<Bytes>> {
        self.refuse_overloaded(headers, detail).map(Full::new)
    }
}

impl RequestOutcome {
    fn of_problem(problem: ConsumerProblem) -> Self {
        Self::without_route(Err(problem))
    }

    fn without_route(response: Result<Response<Bytes>, ConsumerProblem>) -> Self {
        Self { response, route: None, key: None, timeline: None }
    }

    fn as_report(&self) -> RequestReport<'_> {
        RequestReport {
            response: self.response.as_ref(),
            route: self.route.as_deref(),
            key: self.key.as_deref(),
            timeline: self.timeline.as_ref(),
        }
    }
}

/// `GET` or `HEAD` without a query string: all that there is to read with.
fn check_plain_read<B>(request: &Request<B>) -> Result<(), ConsumerProblem> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(ConsumerProblem::MethodNotAllowed);
    }
    if request.uri().query().is_some() {
        let detail = "a query string is reserved: expected none, not even an empty `?`".to_owned();
        return Err(ConsumerProblem::BadRequest { detail });
    }
    Ok(())
}

fn json_response(body: Bytes) -> Response<Bytes> {
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
