//! HTTP: `POST /mutate`, and `GET /healthz`, `/readyz` and `/metrics` for those who look after us.
//! Everything that comes is bounded, and whatever comes is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::Defaults;
use super::certificate_controller::TrustStatus;
use super::metrics::{AdmissionOutcome, WebhookMetrics};
use super::namespace_watcher::NamespaceWatcher;
use super::review::{AdmissionReview, ReviewSubject};
use super::review_budget::{ReviewBudget, ReviewLane, deadline, mounts_bytes, parsed_bytes};
use super::verdict::{AdmissionVerdict, decide_by_label, decide_without_namespace};
use crate::http::{BodyError, Handler, RequestBody};
use crate::resources::{ComputeBusy, MemoryFull, MemoryShare, Reservation, RunClock};

/// The largest review, in bytes: what an API server takes as a request.
const BODY_MAX_BYTES: usize = 3 * 1024 * 1024;
/// What a review takes at least, in bytes, before any of it has arrived.
const REVIEW_MIN_BYTES: u64 = 8 * 1024;
/// The longest answer for which no memory is held while it is written, in bytes.
const SHORT_ANSWER_BYTES: usize = 64 * 1024;

/// Answers requests. Clones share everything.
#[derive(Debug, Clone)]
pub(super) struct AdmissionHandler(Arc<AdmissionHandlerInner>);

#[derive(Debug)]
struct AdmissionHandlerInner {
    defaults: Arc<Defaults>,
    namespaces: NamespaceWatcher,
    trust_status: watch::Receiver<TrustStatus>,
    review_budget: ReviewBudget,
    is_ending: AtomicBool,
    metrics: Arc<WebhookMetrics>,
}

impl Handler for AdmissionHandler {
    type Body = Full<Bytes>;

    async fn handle(&self, request: Request<RequestBody>, _: bool) -> Response<Full<Bytes>> {
        self.route(request).await.map(Full::new)
    }

    fn refuse(&self, _: &HeaderMap, _: String) -> Response<Full<Bytes>> {
        self.0.metrics.overloaded.inc();
        let (_, response) = ReviewError::Overloaded(MEMORY_FULL_MESSAGE).into_response();
        response.map(Full::new)
    }
}

impl AdmissionHandler {
    /// Answers by these defaults and namespaces.
    pub(super) fn new(
        defaults: Arc<Defaults>,
        namespaces: NamespaceWatcher,
        trust_status: watch::Receiver<TrustStatus>,
        review_budget: ReviewBudget,
        metrics: Arc<WebhookMetrics>,
    ) -> Self {
        let is_ending = AtomicBool::new(false);
        Self(Arc::new(AdmissionHandlerInner {
            defaults,
            namespaces,
            trust_status,
            review_budget,
            is_ending,
            metrics,
        }))
    }

    /// From now on we are not ready: API servers shall go elsewhere.
    pub(super) fn mark_ending(&self) {
        self.0.is_ending.store(true, Ordering::SeqCst);
    }

    async fn route(&self, request: Request<RequestBody>) -> Response<Bytes> {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/mutate" if request.method() == Method::POST => self.mutate(request).await,
            "/mutate" => method_not_allowed("POST"),
            "/healthz" | "/readyz" | "/metrics" if !is_read => method_not_allowed("GET, HEAD"),
            "/healthz" => text_response(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness_response(),
            "/metrics" => self.0.metrics.respond(request.headers()),
            _ => text_response(
                StatusCode::NOT_FOUND,
                "no such path; expected `/mutate`, `/healthz`, `/readyz` or `/metrics`\n",
            ),
        }
    }

    /// Ready is who would be believed, knows the namespaces and is not about to end.
    fn readiness_response(&self) -> Response<Bytes> {
        let trouble = self.0.trust_status.borrow().problem.clone();
        let namespaces = self.0.namespaces.has_listed();
        let mut wrong: Vec<String> = trouble.into_iter().collect();
        if !namespaces {
            wrong.push("the namespaces are not known yet".to_owned());
        }
        if self.0.is_ending.load(Ordering::SeqCst) {
            wrong.push("this replica is about to end".to_owned());
        }
        if wrong.is_empty() {
            return text_response(StatusCode::OK, "ready\n");
        }
        text_response(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("not ready\n{}\n", wrong.join("\n")),
        )
    }

    async fn mutate(&self, request: Request<RequestBody>) -> Response<Bytes> {
        let began = Instant::now();
        let (admission, response) = self.admit(request).await;
        self.0.metrics.observe(admission, began.elapsed());
        response
    }

    async fn admit(&self, request: Request<RequestBody>) -> (AdmissionOutcome, Response<Bytes>) {
        let until = deadline(request.uri(), Instant::now());
        match self.decide(request, until).await {
            Ok((admission, answer)) => (admission, json_response(answer)),
            Err(error) => {
                if matches!(error, ReviewError::Overloaded(_)) {
                    self.0.metrics.overloaded.inc();
                }
                error.into_response()
            }
        }
    }

    async fn decide(
        &self,
        request: Request<RequestBody>,
        until: Instant,
    ) -> Result<(AdmissionOutcome, Bytes), ReviewError> {
        let review_budget = &self.0.review_budget;
        let ReceivedBody { bytes, memory: body_memory, lane } =
            self.receive_body(request, until).await?;
        let body = bytes.clone();
        let size = review_budget.queue(lane).run(until, move |_| parsed_bytes(&body)).await?;
        let lane = ReviewLane::of_parsed(size);
        let share = review_budget.parsed(lane);
        if size > share.limit() {
            return Err(too_much_memory(size, share.limit()));
        }
        let memory = share.reserve(size, until).await?;
        let (defaults, large) =
            (self.0.defaults.clone(), review_budget.parsed(ReviewLane::Large).clone());
        let first_step = review_budget.queue(lane).run(until, move |clock| {
            let review = AdmissionReview::read(&bytes)
                .map_err(|error| malformed_review(error.to_string()))?;
            drop((bytes, body_memory));
            decide_without_label(PendingReview { review, memory, large, until }, &defaults, clock)
        });
        let (reading, namespace) = match first_step.await?? {
            ReviewStep::Answered(admission, answer) => return Ok((admission, answer)),
            ReviewStep::NeedsLabel(reading, namespace) => (reading, namespace),
        };
        let label = self.namespace_label(&namespace, until).await?;
        let defaults = self.0.defaults.clone();
        let decided = review_budget.queue(lane).run(until, move |clock| {
            let ReviewSubject::Pod { pod, .. } = &reading.review.subject else {
                return Err(time_up());
            };
            let verdict = decide_by_label(pod, &defaults, &namespace, label.as_deref());
            reading.answer(&verdict, clock)
        });
        decided.await?
    }

    async fn namespace_label(
        &self,
        namespace: &str,
        until: Instant,
    ) -> Result<Option<String>, ReviewError> {
        let message =
            match tokio::time::timeout_at(until, self.0.namespaces.inject_label(namespace)).await {
                Ok(Ok(label)) => return Ok(label),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the API server did not tell them in time".to_owned(),
            };
        tracing::warn!(
            error = message,
            namespace,
            "an admission failed: the labels of the namespace are not known"
        );
        let message = format!("the labels of the namespace are not known: {message}");
        Err(ReviewError::Failed(StatusCode::SERVICE_UNAVAILABLE, message))
    }

    /// The whole body. A small one takes memory as it arrives, so that whoever only says that it
    /// will send much holds none; a large one waits for all of its room first, so that no two wait
    /// for each other.
    async fn receive_body(
        &self,
        request: Request<RequestBody>,
        until: Instant,
    ) -> Result<ReceivedBody, ReviewError> {
        let size = request.body().size_hint().exact().unwrap_or(BODY_MAX_BYTES as u64);
        if size > BODY_MAX_BYTES as u64 {
            return Err(too_large());
        }
        if !is_json(&request) {
            let message =
                "the body is of another type; expected `content-type: application/json`".to_owned();
            return Err(ReviewError::Malformed(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let lane = ReviewLane::of_body(size);
        let first = if lane == ReviewLane::Large { size } else { REVIEW_MIN_BYTES };
        let share = self.0.review_budget.bodies(lane);
        let memory = share.reserve(first, until).await?;
        let (bytes, memory) = read_body(request.into_body(), memory, share, until).await?;
        Ok(ReceivedBody { bytes, memory, lane })
    }
}

/// A body that has arrived.
struct ReceivedBody {
    bytes: Bytes,
    memory: Reservation,
    lane: ReviewLane,
}

/// A review that is decided on, and the memory that it takes.
struct PendingReview {
    review: AdmissionReview,
    memory: Reservation,
    /// Where long answers are held.
    large: MemoryShare,
    /// When its API server stops to listen.
    until: Instant,
}

/// How far a review has come.
enum ReviewStep {
    Answered(AdmissionOutcome, Bytes),
    /// The label of this namespace has to be known.
    NeedsLabel(Box<PendingReview>, String),
}

/// Decides as far as the review itself tells.
fn decide_without_label(
    mut reading: PendingReview,
    defaults: &Defaults,
    clock: &RunClock,
) -> Result<ReviewStep, ReviewError> {
    let ReviewSubject::Pod { namespace, pod } = &reading.review.subject else {
        let answer = reading.review.answer_unrelated();
        return Ok(ReviewStep::Answered(
            AdmissionOutcome::Skipped,
            Bytes::from(answer.to_string()),
        ));
    };
    if !reading.memory.try_grow(mounts_bytes(count_containers(pod))) {
        return Err(ReviewError::Overloaded(MEMORY_FULL_MESSAGE));
    }
    reading.check_deadline(clock)?;
    if let Some(verdict) = decide_without_namespace(pod, defaults) {
        return reading
            .answer(&verdict, clock)
            .map(|(admission, answer)| ReviewStep::Answered(admission, answer));
    }
    let namespace = namespace.clone();
    Ok(ReviewStep::NeedsLabel(Box::new(reading), namespace))
}

fn count_containers(pod: &serde_json::Value) -> usize {
    pod.pointer("/spec/containers").and_then(serde_json::Value::as_array).map_or(0, Vec::len)
}

impl PendingReview {
    /// Each step takes time in proportion to the review, and so does what is left of it: between
    /// two of them is soon enough to see that nobody listens any more.
    fn check_deadline(&self, clock: &RunClock) -> Result<(), ReviewError> {
        if clock.is_cancelled() || Instant::now() >= self.until { Err(time_up()) } else { Ok(()) }
    }

    /// The answer. One that is long holds memory for as long as its reader takes.
    fn answer(
        &self,
        verdict: &AdmissionVerdict,
        clock: &RunClock,
    ) -> Result<(AdmissionOutcome, Bytes), ReviewError> {
        self.check_deadline(clock)?;
        let admission = AdmissionOutcome::from(verdict);
        // What is in a verdict is in the answer; a log may not hold all of it.
        tracing::debug!(uid = self.review.uid, ?admission, "admission");
        let text = self.review.answer(verdict).to_string();
        if text.len() <= SHORT_ANSWER_BYTES {
            return Ok((admission, Bytes::from(text)));
        }
        let memory = self
            .large
            .try_reserve(text.len() as u64)
            .ok_or(ReviewError::Overloaded(MEMORY_FULL_MESSAGE))?;
        Ok((admission, Bytes::from_owner(ReservedAnswer { text, _memory: memory })))
    }
}

/// A text, and the memory that it takes.
struct ReservedAnswer {
    text: String,
    _memory: Reservation,
}

impl AsRef<[u8]> for ReservedAnswer {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// Why a review has no answer. The API server then does what its `failurePolicy` says.
#[derive(Debug)]
enum ReviewError {
    /// It is no review, or one that is too large.
    Malformed(StatusCode, String),
    /// There is no room or no time for it now.
    Overloaded(&'static str),
    /// It could not be decided on.
    Failed(StatusCode, String),
}

const MEMORY_FULL_MESSAGE: &str = "the reviews under way hold all the memory that they may; \
                    expected less at once (hint: it is retried)";
const TIME_UP_MESSAGE: &str = "the reviews under way take all the time that there is; \
                    expected less at once (hint: it is retried)";

impl ReviewError {
    fn into_response(self) -> (AdmissionOutcome, Response<Bytes>) {
        match self {
            Self::Malformed(status, message) => {
                (AdmissionOutcome::Malformed, text_response(status, &format!("{message}\n")))
            }
            Self::Failed(status, message) => {
                (AdmissionOutcome::Failed, text_response(status, &format!("{message}\n")))
            }
            Self::Overloaded(message) => {
                let mut response =
                    text_response(StatusCode::TOO_MANY_REQUESTS, &format!("{message}\n"));
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                (AdmissionOutcome::Failed, response)
            }
        }
    }
}

impl From<MemoryFull> for ReviewError {
    fn from(_: MemoryFull) -> Self {
        Self::Overloaded(MEMORY_FULL_MESSAGE)
    }
}

impl From<ComputeBusy> for ReviewError {
    fn from(_: ComputeBusy) -> Self {
        time_up()
    }
}

fn time_up() -> ReviewError {
    ReviewError::Overloaded(TIME_UP_MESSAGE)
}

fn malformed_review(message: String) -> ReviewError {
    ReviewError::Malformed(StatusCode::BAD_REQUEST, message)
}

fn too_large() -> ReviewError {
    let message = format!("the body is too large; expected at most {BODY_MAX_BYTES} bytes");
    ReviewError::Malformed(StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn too_much_memory(bytes: u64, most: u64) -> ReviewError {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let message = format!(
        "the review would take {} MiB once it is read; expected at most {} (hint: \
         make the pod's lists shorter, or raise the \
         webhook's memory limit)",
        mib(bytes),
        mib(most)
    );
    ReviewError::Malformed(StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn is_json(request: &Request<RequestBody>) -> bool {
    let kind =
        request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// The whole body and what it takes, or the status that fits and why.
async fn read_body(
    body: RequestBody,
    mut memory: Reservation,
    share: &MemoryShare,
    until: Instant,
) -> Result<(Bytes, Reservation), ReviewError> {
    let mut body = Limited::new(body, BODY_MAX_BYTES);
    let mut bytes = BytesMut::with_capacity(usize::try_from(memory.bytes()).unwrap_or(0));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| body_failure(error.as_ref()))?.into_data() else {
            continue;
        };
        // The buffer doubles as it grows.
        let needed = 2 * (bytes.len() + data.len()) as u64;
        if bytes.capacity() < bytes.len() + data.len() && needed > memory.bytes() {
            memory.merge(share.reserve(needed - memory.bytes(), until).await?);
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.freeze(), memory))
}

fn body_failure(error: &(dyn std::error::Error + Send + Sync + 'static)) -> ReviewError {
    if error.is::<LengthLimitError>() {
        return too_large();
    }
    match error.downcast_ref() {
        Some(BodyError::Late(_)) => {
            ReviewError::Malformed(StatusCode::REQUEST_TIMEOUT, error.to_string())
        }
        Some(BodyError::Overloaded) => ReviewError::Overloaded(MEMORY_FULL_MESSAGE),
        Some(BodyError::Broken(_)) | None => malformed_review(error.to_string()),
    }
}

fn method_not_allowed(allow: &'static str) -> Response<Bytes> {
    let mut response = text_response(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("no such method here; expected {allow}\n"),
    );
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

fn text_response(status: StatusCode, text: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::copy_from_slice(text.as_bytes()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json_response(text: Bytes) -> Response<Bytes> {
    let mut response = Response::new(text);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
