//! HTTP: `POST /mutate`, and `GET /healthz`, `/readyz` and `/metrics` for those who look after us. Everything that comes is
//! bounded, and whatever comes is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::super::Defaults;
use super::keeper::Found;
use super::metrics::{Admission, Metrics};
use super::namespaces::Namespaces;
use super::review::{Review, Subject};
use super::verdict::{by_label, without_namespace};
use crate::serve::Answering;

/// The largest review, in bytes: what an API server takes as a request.
const BODY_MAX_BYTES: usize = 3 * 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(5);
/// What all reviews under way may hold together, in KiB.
const UNDER_WAY_MAX_KIB: u32 = 32 * 1024;
/// What one of them counts at least: so there are at most 256.
const REVIEW_MIN_KIB: u32 = 128;

/// Answers requests. Clones share everything.
#[derive(Debug, Clone)]
pub(super) struct Admissions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    defaults: Arc<Defaults>,
    namespaces: Namespaces,
    found: watch::Receiver<Found>,
    /// A KiB of a review each.
    slots: Semaphore,
    ending: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Answering for Admissions {
    type Body = Full<Bytes>;

    async fn answering(&self, request: Request<Incoming>, _: bool) -> Response<Full<Bytes>> {
        self.route(request).await.map(Full::new)
    }
}

impl Admissions {
    /// Answers by these defaults and namespaces.
    pub(super) fn new(
        defaults: Arc<Defaults>,
        namespaces: Namespaces,
        found: watch::Receiver<Found>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (slots, ending) = (Semaphore::new(UNDER_WAY_MAX_KIB as usize), AtomicBool::new(false));
        Self(Arc::new(Inner { defaults, namespaces, found, slots, ending, metrics }))
    }

    /// From now on we are not ready: API servers shall go elsewhere.
    pub(super) fn end(&self) {
        self.0.ending.store(true, Ordering::SeqCst);
    }

    async fn route(&self, request: Request<Incoming>) -> Response<Bytes> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/mutate" if request.method() == Method::POST => self.mutate(request).await,
            "/mutate" => not_allowed("POST"),
            "/healthz" | "/readyz" | "/metrics" if !reads => not_allowed("GET, HEAD"),
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => {
                let mut response = Response::new(Bytes::from(self.0.metrics.text()));
                let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            _ => text(StatusCode::NOT_FOUND, "no such path; expected `/mutate`, `/healthz`, `/readyz` or `/metrics`\n"),
        }
    }

    /// Ready is who would be believed, knows the namespaces and is not about to end.
    fn ready(&self) -> Response<Bytes> {
        let trouble = self.0.found.borrow().trouble.clone();
        let namespaces = self.0.namespaces.are_known();
        let mut wrong: Vec<String> = trouble.into_iter().collect();
        if !namespaces {
            wrong.push("the namespaces are not known yet".to_owned());
        }
        if self.0.ending.load(Ordering::SeqCst) {
            wrong.push("this replica is about to end".to_owned());
        }
        if wrong.is_empty() {
            return text(StatusCode::OK, "ready\n");
        }
        text(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready\n{}\n", wrong.join("\n")))
    }

    async fn mutate(&self, request: Request<Incoming>) -> Response<Bytes> {
        let began = Instant::now();
        let (admission, response) = self.admit(request).await;
        self.0.metrics.observe(admission, began.elapsed());
        response
    }

    async fn admit(&self, request: Request<Incoming>) -> (Admission, Response<Bytes>) {
        let malformed = |(status, said)| (Admission::Malformed, text(status, &format!("{said}\n")));
        let size = match size(&request) {
            Ok(size) => size,
            Err(wrong) => return malformed(wrong),
        };
        let Ok(_slots) = self.0.slots.try_acquire_many(size) else {
            self.0.metrics.overloaded.inc();
            let said = format!("{} MiB of reviews are under way; expected less\n", UNDER_WAY_MAX_KIB >> 10);
            let mut response = text(StatusCode::TOO_MANY_REQUESTS, &said);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return (Admission::Failed, response);
        };
        let body = match read(request).await {
            Ok(body) => body,
            Err(wrong) => return malformed(wrong),
        };
        let review = match Review::read(&body) {
            Ok(review) => review,
            Err(error) => return malformed((StatusCode::BAD_REQUEST, error.to_string())),
        };
        let Subject::Pod { namespace, pod } = &review.subject else {
            return (Admission::Left, json(&review.answer_other()));
        };
        let verdict = match without_namespace(pod, &self.0.defaults) {
            Some(verdict) => verdict,
            None => match self.0.namespaces.label(namespace).await {
                Ok(label) => by_label(pod, &self.0.defaults, namespace, label.as_deref()),
                Err(error) => {
                    tracing::warn!(%error, namespace, "an admission failed: the labels of the namespace are not known");
                    let said = format!("the labels of the namespace are not known: {error}\n");
                    return (Admission::Failed, text(StatusCode::SERVICE_UNAVAILABLE, &said));
                }
            },
        };
        let admission = Admission::from(&verdict);
        // What is in a verdict is in the answer; a log may not hold all of it.
        tracing::debug!(namespace, uid = review.uid, ?admission, "admission");
        (admission, json(&review.answer(&verdict)))
    }
}

/// What a review counts, in KiB, before any of it is read; one that does not say how long it is counts as the longest.
fn size(request: &Request<Incoming>) -> Result<u32, (StatusCode, String)> {
    let bytes = request.body().size_hint().exact().unwrap_or(BODY_MAX_BYTES as u64);
    if bytes > BODY_MAX_BYTES as u64 {
        return Err(too_large());
    }
    Ok(u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).max(REVIEW_MIN_KIB))
}

fn too_large() -> (StatusCode, String) {
    (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is too large; expected at most {BODY_MAX_BYTES} bytes"))
}

/// The whole body, or the status that fits and why.
async fn read(request: Request<Incoming>) -> Result<Bytes, (StatusCode, String)> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        let said = "the body is of another type; expected `content-type: application/json`".to_owned();
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, said));
    }
    let whole = Limited::new(request.into_body(), BODY_MAX_BYTES).collect();
    match tokio::time::timeout(BODY_TIME, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err((StatusCode::BAD_REQUEST, format!("the body broke off: {error}; expected all of it"))),
        Err(_) => {
            Err((StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive; expected it within {BODY_TIME:?}")))
        }
    }
}

fn not_allowed(allow: &'static str) -> Response<Bytes> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, &format!("no such method here; expected {allow}\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

fn text(status: StatusCode, text: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::copy_from_slice(text.as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(value: &serde_json::Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(value.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
