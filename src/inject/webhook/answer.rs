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
use super::keeper::Found;
use super::metrics::{Admission, Metrics};
use super::namespaces::Namespaces;
use super::review::{Review, Subject};
use super::verdict::{Verdict, by_label, without_namespace};
use super::workload::{Lane, Workload, deadline, mounts_bytes, parsed_bytes};
use crate::resources::{ComputeBusy, MemoryFull, MemoryShare, Reservation, RunClock};
use crate::serve::{BodyError, Handler, RequestBody};

/// The largest review, in bytes: what an API server takes as a request.
const BODY_MAX_BYTES: usize = 3 * 1024 * 1024;
/// What a review takes at least, in bytes, before any of it has arrived.
const REVIEW_BYTES: u64 = 8 * 1024;
/// The longest answer for which no memory is held while it is written, in bytes.
const SHORT_ANSWER_BYTES: usize = 64 * 1024;

/// Answers requests. Clones share everything.
#[derive(Debug, Clone)]
pub(super) struct Admissions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    defaults: Arc<Defaults>,
    namespaces: Namespaces,
    found: watch::Receiver<Found>,
    workload: Workload,
    ending: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Handler for Admissions {
    type Body = Full<Bytes>;

    async fn handle(&self, request: Request<RequestBody>, _: bool) -> Response<Full<Bytes>> {
        self.route(request).await.map(Full::new)
    }

    fn refuse(&self, _: &HeaderMap, _: String) -> Response<Full<Bytes>> {
        self.0.metrics.overloaded.inc();
        let (_, response) = Unanswered::Overloaded(FULL).into_response();
        response.map(Full::new)
    }
}

impl Admissions {
    /// Answers by these defaults and namespaces.
    pub(super) fn new(
        defaults: Arc<Defaults>,
        namespaces: Namespaces,
        found: watch::Receiver<Found>,
        workload: Workload,
        metrics: Arc<Metrics>,
    ) -> Self {
        let ending = AtomicBool::new(false);
        Self(Arc::new(Inner { defaults, namespaces, found, workload, ending, metrics }))
    }

    /// From now on we are not ready: API servers shall go elsewhere.
    pub(super) fn end(&self) {
        self.0.ending.store(true, Ordering::SeqCst);
    }

    async fn route(&self, request: Request<RequestBody>) -> Response<Bytes> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/mutate" if request.method() == Method::POST => self.mutate(request).await,
            "/mutate" => not_allowed("POST"),
            "/healthz" | "/readyz" | "/metrics" if !reads => not_allowed("GET, HEAD"),
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.0.metrics.respond(request.headers()),
            _ => text(
                StatusCode::NOT_FOUND,
                "no such path; expected `/mutate`, `/healthz`, `/readyz` or `/metrics`\n",
            ),
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

    async fn mutate(&self, request: Request<RequestBody>) -> Response<Bytes> {
        let began = Instant::now();
        let (admission, response) = self.admit(request).await;
        self.0.metrics.observe(admission, began.elapsed());
        response
    }

    async fn admit(&self, request: Request<RequestBody>) -> (Admission, Response<Bytes>) {
        let until = deadline(request.uri(), Instant::now());
        match self.decide(request, until).await {
            Ok((admission, answer)) => (admission, json(answer)),
            Err(unanswered) => {
                if matches!(unanswered, Unanswered::Overloaded(_)) {
                    self.0.metrics.overloaded.inc();
                }
                unanswered.into_response()
            }
        }
    }

    async fn decide(
        &self,
        request: Request<RequestBody>,
        until: Instant,
    ) -> Result<(Admission, Bytes), Unanswered> {
        let workload = &self.0.workload;
        let Body { bytes, memory: of_body, lane } = self.receive(request, until).await?;
        let weighing = bytes.clone();
        let size = workload.queue(lane).run(until, move |_| parsed_bytes(&weighing)).await?;
        let lane = Lane::of_parsed(size);
        let share = workload.parsed(lane);
        if size > share.limit() {
            return Err(too_heavy(size, share.limit()));
        }
        let memory = share.reserve(size, until).await?;
        let (defaults, large) = (self.0.defaults.clone(), workload.parsed(Lane::Large).clone());
        let read = workload.queue(lane).run(until, move |clock| {
            let review = Review::read(&bytes).map_err(|error| malformed(error.to_string()))?;
            drop((bytes, of_body));
            decide_alone(Reading { review, memory, large, until }, &defaults, clock)
        });
        let (reading, namespace) = match read.await?? {
            Step::Answered(admission, answer) => return Ok((admission, answer)),
            Step::NeedsLabel(reading, namespace) => (reading, namespace),
        };
        let label = self.label(&namespace, until).await?;
        let defaults = self.0.defaults.clone();
        let decided = workload.queue(lane).run(until, move |clock| {
            let Subject::Pod { pod, .. } = &reading.review.subject else { return Err(late()) };
            let verdict = by_label(pod, &defaults, &namespace, label.as_deref());
            reading.answer(&verdict, clock)
        });
        decided.await?
    }

    async fn label(&self, namespace: &str, until: Instant) -> Result<Option<String>, Unanswered> {
        let message = match tokio::time::timeout_at(until, self.0.namespaces.label(namespace)).await
        {
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
        Err(Unanswered::Failed(StatusCode::SERVICE_UNAVAILABLE, message))
    }

    /// The whole body. A small one takes memory as it arrives, so that whoever only says that it
    /// will send much holds none; a large one waits for all of its room first, so that no two wait
    /// for each other.
    async fn receive(
        &self,
        request: Request<RequestBody>,
        until: Instant,
    ) -> Result<Body, Unanswered> {
        let size = request.body().size_hint().exact().unwrap_or(BODY_MAX_BYTES as u64);
        if size > BODY_MAX_BYTES as u64 {
            return Err(too_large());
        }
        if !is_json(&request) {
            let message =
                "the body is of another type; expected `content-type: application/json`".to_owned();
            return Err(Unanswered::Malformed(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let lane = Lane::of_body(size);
        let first = if lane == Lane::Large { size } else { REVIEW_BYTES };
        let share = self.0.workload.bodies(lane);
        let memory = share.reserve(first, until).await?;
        let (bytes, memory) = read(request.into_body(), memory, share, until).await?;
        Ok(Body { bytes, memory, lane })
    }
}

/// A body that has arrived.
struct Body {
    bytes: Bytes,
    memory: Reservation,
    lane: Lane,
}

/// A review that is decided on, and the memory that it takes.
struct Reading {
    review: Review,
    memory: Reservation,
    /// Where long answers are held.
    large: MemoryShare,
    /// When its API server stops to listen.
    until: Instant,
}

/// How far a review has come.
enum Step {
    Answered(Admission, Bytes),
    /// The label of this namespace has to be known.
    NeedsLabel(Box<Reading>, String),
}

/// Decides as far as the review itself tells.
fn decide_alone(
    mut reading: Reading,
    defaults: &Defaults,
    clock: &RunClock,
) -> Result<Step, Unanswered> {
    let Subject::Pod { namespace, pod } = &reading.review.subject else {
        let answer = reading.review.answer_other();
        return Ok(Step::Answered(Admission::Left, Bytes::from(answer.to_string())));
    };
    if !reading.memory.try_grow(mounts_bytes(containers(pod))) {
        return Err(Unanswered::Overloaded(FULL));
    }
    reading.go_on(clock)?;
    if let Some(verdict) = without_namespace(pod, defaults) {
        return reading
            .answer(&verdict, clock)
            .map(|(admission, answer)| Step::Answered(admission, answer));
    }
    let namespace = namespace.clone();
    Ok(Step::NeedsLabel(Box::new(reading), namespace))
}

fn containers(pod: &serde_json::Value) -> usize {
    pod.pointer("/spec/containers").and_then(serde_json::Value::as_array).map_or(0, Vec::len)
}

impl Reading {
    /// Each step takes time in proportion to the review, and so does what is left of it: between
    /// two of them is soon enough to see that nobody listens any more.
    fn go_on(&self, clock: &RunClock) -> Result<(), Unanswered> {
        if clock.is_unwanted() || Instant::now() >= self.until { Err(late()) } else { Ok(()) }
    }

    /// The answer. One that is long holds memory for as long as its reader takes.
    fn answer(
        &self,
        verdict: &Verdict,
        clock: &RunClock,
    ) -> Result<(Admission, Bytes), Unanswered> {
        self.go_on(clock)?;
        let admission = Admission::from(verdict);
        // What is in a verdict is in the answer; a log may not hold all of it.
        tracing::debug!(uid = self.review.uid, ?admission, "admission");
        let text = self.review.answer(verdict).to_string();
        if text.len() <= SHORT_ANSWER_BYTES {
            return Ok((admission, Bytes::from(text)));
        }
        let memory =
            self.large.try_reserve(text.len() as u64).ok_or(Unanswered::Overloaded(FULL))?;
        Ok((admission, Bytes::from_owner(Held { text, _memory: memory })))
    }
}

/// A text, and the memory that it takes.
struct Held {
    text: String,
    _memory: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// Why a review has no answer. The API server then does what its `failurePolicy` says.
#[derive(Debug)]
enum Unanswered {
    /// It is no review, or one that is too large.
    Malformed(StatusCode, String),
    /// There is no room or no time for it now.
    Overloaded(&'static str),
    /// It could not be decided on.
    Failed(StatusCode, String),
}

const FULL: &str = "the reviews under way hold all the memory that they may; \
                    expected less at once (hint: it is retried)";
const BUSY: &str = "the reviews under way take all the time that there is; \
                    expected less at once (hint: it is retried)";

impl Unanswered {
    fn into_response(self) -> (Admission, Response<Bytes>) {
        match self {
            Self::Malformed(status, message) => {
                (Admission::Malformed, text(status, &format!("{message}\n")))
            }
            Self::Failed(status, message) => {
                (Admission::Failed, text(status, &format!("{message}\n")))
            }
            Self::Overloaded(message) => {
                let mut response = text(StatusCode::TOO_MANY_REQUESTS, &format!("{message}\n"));
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                (Admission::Failed, response)
            }
        }
    }
}

impl From<MemoryFull> for Unanswered {
    fn from(_: MemoryFull) -> Self {
        Self::Overloaded(FULL)
    }
}

impl From<ComputeBusy> for Unanswered {
    fn from(_: ComputeBusy) -> Self {
        late()
    }
}

fn late() -> Unanswered {
    Unanswered::Overloaded(BUSY)
}

fn malformed(message: String) -> Unanswered {
    Unanswered::Malformed(StatusCode::BAD_REQUEST, message)
}

fn too_large() -> Unanswered {
    let message = format!("the body is too large; expected at most {BODY_MAX_BYTES} bytes");
    Unanswered::Malformed(StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn too_heavy(bytes: u64, most: u64) -> Unanswered {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let message = format!(
        "the review would take {} MiB once it is read; expected at most {} (hint: \
         make the pod's lists shorter, or raise the \
         webhook's memory limit)",
        mib(bytes),
        mib(most)
    );
    Unanswered::Malformed(StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn is_json(request: &Request<RequestBody>) -> bool {
    let kind =
        request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// The whole body and what it takes, or the status that fits and why.
async fn read(
    body: RequestBody,
    mut memory: Reservation,
    share: &MemoryShare,
    until: Instant,
) -> Result<(Bytes, Reservation), Unanswered> {
    let mut body = Limited::new(body, BODY_MAX_BYTES);
    let mut bytes = BytesMut::with_capacity(usize::try_from(memory.bytes()).unwrap_or(0));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| broken_off(error.as_ref()))?.into_data() else {
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

fn broken_off(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Unanswered {
    if error.is::<LengthLimitError>() {
        return too_large();
    }
    match error.downcast_ref() {
        Some(BodyError::Late(_)) => {
            Unanswered::Malformed(StatusCode::REQUEST_TIMEOUT, error.to_string())
        }
        Some(BodyError::Overloaded) => Unanswered::Overloaded(FULL),
        Some(BodyError::Broken(_)) | None => malformed(error.to_string()),
    }
}

fn not_allowed(allow: &'static str) -> Response<Bytes> {
    let mut response =
        text(StatusCode::METHOD_NOT_ALLOWED, &format!("no such method here; expected {allow}\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

fn text(status: StatusCode, text: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::copy_from_slice(text.as_bytes()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(text: Bytes) -> Response<Bytes> {
    let mut response = Response::new(text);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
