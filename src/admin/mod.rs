//! The admin port: probes, metrics, status, datasets, invalidations, events and the log level. No
//! answer holds personal data unless the operator asks for it. [`api`] has the types of the JSON.
//!
//! Its connections are served by [`crate::http`]. Because a web page in a browser can reach a port
//! on localhost, a request with `Origin` is refused, and a write must be declared as JSON.

mod admin_problem;
pub mod api;
mod cache_counters;
mod datasets;
mod events;
mod health;
mod invalidate;
mod log_level;
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
use crate::cache::{Cache, CollectionEvents, HitVerifier, Memory};
use crate::http::{Activity, AllowedHosts, BodyError, Handler, RequestBody, exposition};
use crate::identity::{self, Identity};
use crate::resources::MemoryAccount;
use crate::settings::BusLoss;
use crate::sources::TraceContext;

use admin_problem::AdminProblem;

pub use api::{LogChange, ReloadStatus};
pub use events::EventListeners;
pub use health::{Phase, ProcessHealth};
pub use log_level::{LogLevel, follow as follow_log};

/// The parts of the sidecar that the admin port reads and controls.
#[derive(Debug)]
pub struct AdminState {
    /// The metrics.
    pub registry: Registry,
    /// The phase of the process.
    pub health: ProcessHealth,
    /// The cache of each domain in force.
    pub caches: watch::Receiver<Arc<[Cache]>>,
    /// The sidecar's identity; `None` only with `--insecure-upstreams`.
    pub identity: Option<watch::Receiver<Arc<Identity>>>,
    /// Whether the files of the identity are usable.
    pub identity_metrics: identity::IdentityMetrics,
    /// The result of the last reload of the domain files.
    pub reloads: watch::Receiver<ReloadStatus>,
    /// The memory tier.
    pub memory: Memory,
    /// The account that all work reserves memory in.
    pub account: MemoryAccount,
    /// The verification of samples of the hits (`--verify`).
    pub verifier: Option<HitVerifier>,
    /// The bus of the fleet.
    pub bus: Bus,
    /// How reads are answered while the bus is lost.
    pub bus_loss: BusLoss,
    /// The events of collections.
    pub collection_events: CollectionEvents,
    /// The listeners of `GET /events`.
    pub listeners: EventListeners,
    /// The requests of consumers in flight.
    pub activity: Activity,
    /// The level of the log.
    pub log: LogLevel,
    /// The values of `Host` that the port accepts.
    pub hosts: AllowedHosts,
}

/// The body of an answer: bytes, or a stream of events.
type AdminBody = UnsyncBoxBody<Bytes, Infallible>;

impl AdminState {
    /// The cache of the domain with this name.
    fn cache(&self, domain: &str) -> Option<Cache> {
        let caches = self.caches.borrow();
        caches.iter().find(|cache| cache.domain().name.as_ref() == domain).cloned()
    }

    /// The cache of the domain with this name, or a problem that names the domains in force.
    fn find_cache(&self, name: &str) -> Result<Cache, AdminProblem> {
        self.cache(name).ok_or_else(|| {
            let caches = self.caches.borrow();
            let names: Vec<_> = caches.iter().map(|c| format!("`{}`", c.domain().name)).collect();
            AdminProblem::BadRequest {
                detail: format!("there is no domain `{name}`; there is {}", names.join(", ")),
            }
        })
    }
}

/// The handler of the admin port, or with [`Admin::probes`] of the port for probes and metrics.
#[derive(Debug, Clone)]
pub struct Admin {
    state: Arc<AdminState>,
    probes_only: bool,
}

/// The most bytes of a request's body.
const BODY_MAX_BYTES: usize = 64 * 1024;

impl Admin {
    /// The handler of the admin port.
    pub fn new(state: Arc<AdminState>) -> Self {
        Self { state, probes_only: false }
    }

    /// The handler of an address that other machines reach (`--probes`). It has probes and metrics
    /// alone, which hold no key and no data, and it accepts any `Host`.
    pub fn probes(state: Arc<AdminState>) -> Self {
        Self { state, probes_only: true }
    }

    async fn route(
        &self,
        request: Request<RequestBody>,
        on_tcp: bool,
    ) -> Result<Response<AdminBody>, AdminProblem> {
        if on_tcp && !self.probes_only && !self.state.hosts.is_allowed(&request) {
            return Err(AdminProblem::Misdirected);
        }
        if request.headers().contains_key(ORIGIN) {
            let detail =
                "a request with `Origin` comes from a web page; none is expected".to_owned();
            return Err(AdminProblem::Forbidden { detail });
        }
        if request.method() == Method::POST && !is_json(&request) {
            return Err(AdminProblem::UnsupportedMediaType);
        }
        let path = request.uri().path().to_owned();
        let response = match path.as_str() {
            "/events" if !self.probes_only => return self.events(&request),
            "/livez" => check_read(&request).map(|()| text_response(StatusCode::OK, "live\n")),
            "/readyz" => check_read(&request).map(|()| self.probe(self.state.health.is_ready())),
            "/startupz" => {
                check_read(&request).map(|()| self.probe(self.state.health.is_started()))
            }
            "/metrics" => check_read(&request).map(|()| self.metrics(request.headers())),
            "/status" if !self.probes_only => check_read(&request)
                .map(|()| json_response(StatusCode::OK, &status::status(&self.state))),
            "/log" if !self.probes_only => self.log(request).await,
            "/invalidate" if !self.probes_only => self.invalidate(request).await,
            _ if self.probes_only => {
                Err(no_such_route("probes and `/metrics` are all that there is here"))
            }
            other => self.dataset(&request, other).await,
        };
        response.map(|response| response.map(full_body))
    }

    fn events(&self, request: &Request<RequestBody>) -> Result<Response<AdminBody>, AdminProblem> {
        check_read(request)?;
        let mut response = Response::new(events::stream(&self.state, request.uri().query())?);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        Ok(response)
    }

    fn probe(&self, is_ok: bool) -> Response<Bytes> {
        let status = if is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json_response(status, &self.state.health.probe_body(&self.state))
    }

    fn metrics(&self, headers: &HeaderMap) -> Response<Bytes> {
        exposition::respond(headers, &self.state.registry)
    }

    async fn invalidate(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Bytes>, AdminProblem> {
        if request.method() != Method::POST {
            return Err(AdminProblem::MethodNotAllowed { allow: "POST" });
        }
        let wait_notice = request.body().wait_notice();
        let invalidation = read_json(request).await?;
        let (status, invalidated) =
            invalidate::invalidate(&self.state, &invalidation, &wait_notice).await?;
        Ok(json_response(status, &invalidated))
    }

    async fn dataset(
        &self,
        request: &Request<RequestBody>,
        path: &str,
    ) -> Result<Response<Bytes>, AdminProblem> {
        let path = path
            .strip_prefix("/datasets/")
            .ok_or_else(|| no_such_route("the admin port has no such route"))?;
        check_read(request)?;
        let data = request.uri().query() == Some("data=1");
        datasets::find_dataset(&self.state, path, data)
            .await
            .map(|dataset| json_response(StatusCode::OK, &dataset))
    }

    async fn log(&self, request: Request<RequestBody>) -> Result<Response<Bytes>, AdminProblem> {
        match *request.method() {
            Method::GET | Method::HEAD => {
                Ok(json_response(StatusCode::OK, &self.state.log.current()))
            }
            Method::PUT => {
                let change: LogChange = read_json(request).await?;
                let now = self
                    .state
                    .log
                    .change(change)
                    .map_err(|detail| AdminProblem::BadRequest { detail })?;
                Ok(json_response(StatusCode::OK, &now))
            }
            _ => Err(AdminProblem::MethodNotAllowed { allow: "GET, HEAD, PUT" }),
        }
    }
}

impl Handler for Admin {
    type Body = AdminBody;

    async fn handle(&self, request: Request<RequestBody>, on_tcp: bool) -> Response<AdminBody> {
        let trace_id = TraceContext::from_headers(request.headers()).trace_id_hex();
        let head = request.method() == Method::HEAD;
        let mut response = match self.route(request, on_tcp).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(&trace_id).map(full_body),
        };
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if head {
            let length = hyper::body::Body::size_hint(response.body()).exact();
            if let Some(length) = length {
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            *response.body_mut() = full_body(Bytes::new());
        }
        response
    }

    fn refuse(&self, headers: &HeaderMap, detail: String) -> Response<AdminBody> {
        let trace_id = TraceContext::from_headers(headers).trace_id_hex();
        AdminProblem::Overloaded { detail }.into_response(&trace_id).map(full_body)
    }
}

fn no_such_route(detail: &str) -> AdminProblem {
    AdminProblem::NoSuchRoute { detail: detail.to_owned() }
}

fn full_body(body: Bytes) -> AdminBody {
    Full::new(body).boxed_unsync()
}

fn check_read(request: &Request<RequestBody>) -> Result<(), AdminProblem> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(AdminProblem::MethodNotAllowed { allow: "GET, HEAD" }),
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

/// Reads the body of a write: declared as JSON, of at most [`BODY_MAX_BYTES`].
async fn read_json<T: serde::de::DeserializeOwned>(
    request: Request<RequestBody>,
) -> Result<T, AdminProblem> {
    if !is_json(&request) {
        return Err(AdminProblem::UnsupportedMediaType);
    }
    let bad = |detail: String| AdminProblem::BadRequest { detail };
    let collected = Limited::new(request.into_body(), BODY_MAX_BYTES).collect().await;
    let bytes = collected.map_err(|error| body_problem(&*error))?.to_bytes();
    serde_json::from_slice(&bytes)
        .map_err(|error| bad(format!("the body is not understood: {error}")))
}

/// The problem of a body that could not be read: a [`BodyError`], or one that is too long.
fn body_problem(error: &(dyn std::error::Error + Send + Sync + 'static)) -> AdminProblem {
    let detail = error.to_string();
    match error.downcast_ref() {
        Some(BodyError::Late(_)) => AdminProblem::RequestTimeout { detail },
        Some(BodyError::Overloaded) => AdminProblem::Overloaded { detail },
        Some(BodyError::Broken(_)) => AdminProblem::BadRequest { detail },
        None => AdminProblem::BadRequest {
            detail: format!("expected a body of at most {BODY_MAX_BYTES} bytes"),
        },
    }
}

fn json_response(status: StatusCode, value: &impl Serialize) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(serde_json::to_vec(value).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text_response(status: StatusCode, text: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
