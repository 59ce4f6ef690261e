//! The admin port: probes, metrics, the sidecar's state, its datasets, what happens in it, its log
//! level. Nothing here holds personal data unless the operator asks for it.
//!
//! It lives beside `serve` and borrows its rules for `Host`, its problems and its listeners.
//! Because a web page in a browser can reach a port on localhost, a request with `Origin` is
//! refused, and a write must be declared as JSON.

mod accept;
mod counters;
mod datasets;
mod events;
pub(crate) mod exposition;
mod health;
mod invalidate;
mod log;
mod status;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, ORIGIN};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::watch;

use crate::bus::Bus;
use crate::cache::{BusLoss, Cache, CollectionEvents, HitVerifier, Memory};
use crate::identity::{self, Identity};
use crate::resources::MemoryAccount;
use crate::serve::problem::Problem;
use crate::serve::{Activity, AllowedHosts, Answering, BodyError, RequestBody, Table};
use crate::sources::TraceContext;

pub use events::Listeners;
pub use health::{Health, Phase};
pub use log::{LogChange, LogLevel, follow as follow_log};
pub use status::Reloads;

/// Everything that the admin port tells.
#[derive(Debug)]
pub struct Told {
    /// The counters.
    pub registry: Registry,
    /// How far the process has come.
    pub health: Health,
    /// What is published.
    pub table: watch::Receiver<Arc<Table>>,
    /// Who we are; `None` with `--insecure-upstreams` alone.
    pub identity: Option<watch::Receiver<Arc<Identity>>>,
    /// How its files are.
    pub identity_metrics: identity::Metrics,
    /// How the last reload went.
    pub reloads: watch::Receiver<Reloads>,
    /// Where datasets are kept.
    pub memory: Memory,
    /// What all work takes its memory from.
    pub account: MemoryAccount,
    /// What the cache has shown of itself (`--verify`).
    pub verifier: Option<HitVerifier>,
    /// The fleet.
    pub bus: Bus,
    /// What holds while it cannot be heard.
    pub bus_loss: BusLoss,
    /// What becomes of collections.
    pub happenings: CollectionEvents,
    /// Who listens to what happens.
    pub listeners: Listeners,
    /// What consumers have under way.
    pub activity: Activity,
    /// The log's level.
    pub log: LogLevel,
    /// Who may be addressed.
    pub hosts: AllowedHosts,
}

/// What an answer holds: bytes, or a stream of events.
type Body = UnsyncBoxBody<Bytes, Infallible>;

impl Told {
    /// The cache of a domain, or a problem that says which there are.
    fn known_domain(&self, name: &str) -> Result<Cache, Problem> {
        let table = self.table.borrow();
        table.cache(name).cloned().ok_or_else(|| {
            let names: Vec<_> =
                table.caches().iter().map(|c| format!("`{}`", c.domain().name)).collect();
            Problem::BadRequest {
                detail: format!("there is no domain `{name}`; there is {}", names.join(", ")),
            }
        })
    }
}

/// Answers the admin port, or with [`Admin::probes`] only what kubelet and Prometheus need.
#[derive(Debug, Clone)]
pub struct Admin {
    told: Arc<Told>,
    probes_only: bool,
}

/// The most bytes of a request's body.
const BODY_MAX_BYTES: usize = 64 * 1024;

impl Admin {
    /// The whole port.
    pub fn new(told: Arc<Told>) -> Self {
        Self { told, probes_only: false }
    }

    /// Only probes and metrics, on an address that others can reach (`--probes`): no key, no data,
    /// no write, any `Host`.
    pub fn probes(told: Arc<Told>) -> Self {
        Self { told, probes_only: true }
    }

    async fn handle(
        &self,
        request: Request<RequestBody>,
        on_tcp: bool,
    ) -> Result<Response<Body>, Problem> {
        if on_tcp && !self.probes_only && !self.told.hosts.allow(&request) {
            return Err(Problem::Misdirected);
        }
        if request.headers().contains_key(ORIGIN) {
            let detail =
                "a request with `Origin` comes from a web page; none is expected".to_owned();
            return Err(Problem::Forbidden { detail });
        }
        if request.method() == Method::POST && !is_json(&request) {
            return Err(Problem::UnsupportedMediaType);
        }
        let path = request.uri().path().to_owned();
        let answered = match path.as_str() {
            "/events" if !self.probes_only => return self.events(&request),
            "/livez" => read(&request).map(|()| text(StatusCode::OK, "live\n")),
            "/readyz" => read(&request).map(|()| self.probe(self.told.health.is_ready())),
            "/startupz" => read(&request).map(|()| self.probe(self.told.health.is_started())),
            "/metrics" => read(&request).map(|()| self.metrics(request.headers())),
            "/status" if !self.probes_only => {
                read(&request).map(|()| json(StatusCode::OK, &status::of(&self.told)))
            }
            "/log" if !self.probes_only => self.log(request).await,
            "/invalidate" if !self.probes_only => self.invalidate(request).await,
            _ if self.probes_only => {
                Err(nothing_here("probes and `/metrics` are all that there is here"))
            }
            other => self.dataset(&request, other).await,
        };
        answered.map(|response| response.map(whole))
    }

    fn events(&self, request: &Request<RequestBody>) -> Result<Response<Body>, Problem> {
        read(request)?;
        let mut response = Response::new(events::stream(&self.told, request.uri().query())?);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        Ok(response)
    }

    fn probe(&self, fine: bool) -> Response<Bytes> {
        let status = if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json(status, &self.told.health.body(&self.told))
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<Bytes> {
        exposition::respond(headers, &self.told.registry)
    }

    async fn invalidate(&self, request: Request<RequestBody>) -> Result<Response<Bytes>, Problem> {
        if request.method() != Method::POST {
            return Err(Problem::MethodNotAllowed { allow: "POST" });
        }
        let waits = request.body().wait_notice();
        let asked = body(request).await?;
        let (status, invalidated) = invalidate::invalidate(&self.told, &asked, &waits).await?;
        Ok(json(status, &invalidated))
    }

    async fn dataset(
        &self,
        request: &Request<RequestBody>,
        path: &str,
    ) -> Result<Response<Bytes>, Problem> {
        let path = path
            .strip_prefix("/datasets/")
            .ok_or_else(|| nothing_here("the admin port has no such route"))?;
        read(request)?;
        let data = request.uri().query() == Some("data=1");
        datasets::of(&self.told, path, data).await.map(|dataset| json(StatusCode::OK, &dataset))
    }

    async fn log(&self, request: Request<RequestBody>) -> Result<Response<Bytes>, Problem> {
        match *request.method() {
            Method::GET | Method::HEAD => Ok(json(StatusCode::OK, &self.told.log.current())),
            Method::PUT => {
                let change: LogChange = body(request).await?;
                let now = self
                    .told
                    .log
                    .change(change)
                    .map_err(|detail| Problem::BadRequest { detail })?;
                Ok(json(StatusCode::OK, &now))
            }
            _ => Err(Problem::MethodNotAllowed { allow: "GET, HEAD, PUT" }),
        }
    }
}

impl Answering for Admin {
    type Body = Body;

    async fn answering(&self, request: Request<RequestBody>, on_tcp: bool) -> Response<Body> {
        let trace_id = TraceContext::from_headers(request.headers()).trace_id_hex();
        let head = request.method() == Method::HEAD;
        let mut response = match self.handle(request, on_tcp).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(&trace_id).map(whole),
        };
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if head {
            let length = hyper::body::Body::size_hint(response.body()).exact();
            if let Some(length) = length {
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            *response.body_mut() = whole(Bytes::new());
        }
        response
    }

    fn refuse(&self, headers: &HeaderMap, detail: String) -> Response<Body> {
        let trace_id = TraceContext::from_headers(headers).trace_id_hex();
        Problem::Overloaded { detail }.into_response(&trace_id).map(whole)
    }
}

fn nothing_here(detail: &str) -> Problem {
    Problem::NothingHere { detail: detail.to_owned() }
}

fn whole(body: Bytes) -> Body {
    Full::new(body).boxed_unsync()
}

fn read(request: &Request<RequestBody>) -> Result<(), Problem> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Problem::MethodNotAllowed { allow: "GET, HEAD" }),
    }
}

fn is_json(request: &Request<RequestBody>) -> bool {
    let declared = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    declared.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// The declared and bounded JSON body of a write.
async fn body<T: serde::de::DeserializeOwned>(request: Request<RequestBody>) -> Result<T, Problem> {
    if !is_json(&request) {
        return Err(Problem::UnsupportedMediaType);
    }
    let bad = |detail: String| Problem::BadRequest { detail };
    let collected = Limited::new(request.into_body(), BODY_MAX_BYTES).collect().await;
    let bytes = collected.map_err(|error| body_problem(&*error))?.to_bytes();
    serde_json::from_slice(&bytes)
        .map_err(|error| bad(format!("the body is not understood: {error}")))
}

/// Why a body was not had: it is too long, or [`BodyError`] says it.
fn body_problem(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Problem {
    let detail = error.to_string();
    match error.downcast_ref() {
        Some(BodyError::Late(_)) => Problem::RequestTimeout { detail },
        Some(BodyError::Overloaded) => Problem::Overloaded { detail },
        Some(BodyError::Broken(_)) => Problem::BadRequest { detail },
        None => Problem::BadRequest {
            detail: format!("expected a body of at most {BODY_MAX_BYTES} bytes"),
        },
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(serde_json::to_vec(value).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
