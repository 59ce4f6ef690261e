//! The HTTP handler of the webhook: `POST /mutate` for API servers, and `GET /healthz`, `/readyz`
//! and `/metrics` for the kubelet and for monitoring. Every request is bounded in size, memory and
//! time, and every request gets a response.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::Defaults;
use super::certificate_controller::TrustStatus;
use super::metrics::WebhookMetrics;
use super::namespace_watcher::NamespaceWatcher;
use super::pending_review::{DecidedReview, PendingReview, ReviewStep};
use super::responses::{json_response, method_not_allowed, text_response};
use super::review::AdmissionReview;
use super::review_body::ReviewBody;
use super::review_budget::{ReviewBudget, ReviewLane, deadline, parsed_bytes};
use super::review_error::ReviewError;
use crate::http::{Handler, RequestBody};

/// Handles requests. Clones share everything.
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
        ReviewError::memory_full().into_response().map(Full::new)
    }
}

impl AdmissionHandler {
    /// Decides by these defaults and by the labels of these namespaces.
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

    /// Makes `/readyz` fail from now on, so that API servers go to other replicas.
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

    /// Ready: API servers trust the served certificate, the namespaces are listed, and this replica
    /// is not about to end.
    fn readiness_response(&self) -> Response<Bytes> {
        let mut problems = Vec::from_iter(self.0.trust_status.borrow().problem.clone());
        if !self.0.namespaces.has_listed() {
            problems.push("the namespaces are not known yet".to_owned());
        }
        if self.0.is_ending.load(Ordering::SeqCst) {
            problems.push("this replica is about to end".to_owned());
        }
        if problems.is_empty() {
            return text_response(StatusCode::OK, "ready\n");
        }
        let text = format!("not ready\n{}\n", problems.join("\n"));
        text_response(StatusCode::SERVICE_UNAVAILABLE, &text)
    }

    async fn mutate(&self, request: Request<RequestBody>) -> Response<Bytes> {
        let began = Instant::now();
        let until = deadline(request.uri(), began);
        match self.decide(request, until).await {
            Ok(DecidedReview { outcome, response }) => {
                self.0.metrics.observe(outcome, began.elapsed());
                json_response(response)
            }
            Err(error) => {
                if matches!(error, ReviewError::Overloaded(_)) {
                    self.0.metrics.overloaded.inc();
                }
                self.0.metrics.observe(error.outcome(), began.elapsed());
                error.into_response()
            }
        }
    }

    /// Receives, measures, parses and decides one review. Each step that takes time in proportion
    /// to the review runs on a thread of its lane.
    async fn decide(
        &self,
        request: Request<RequestBody>,
        until: Instant,
    ) -> Result<DecidedReview, ReviewError> {
        let budget = &self.0.review_budget;
        let body = ReviewBody::receive(request, budget, until).await?;
        let bytes = body.bytes.clone();
        let size = budget.queue(body.lane).run(until, move |_| parsed_bytes(&bytes)).await?;

        let lane = ReviewLane::of_parsed(size);
        let share = budget.parsed(lane);
        if size > share.limit() {
            return Err(ReviewError::too_much_memory(size, share.limit()));
        }
        let memory = share.reserve(size, until).await?;
        let response_memory = budget.parsed(ReviewLane::Large).clone();
        let defaults = self.0.defaults.clone();
        let first_step = budget.queue(lane).run(until, move |clock| {
            let review = AdmissionReview::read(&body.bytes)
                .map_err(|error| ReviewError::bad_request(error.to_string()))?;
            drop(body);
            let review = PendingReview { review, memory, response_memory, until };
            review.decide_without_label(&defaults, clock)
        });
        let (review, namespace) = match first_step.await?? {
            ReviewStep::Decided(decided) => return Ok(decided),
            ReviewStep::NeedsLabel(review, namespace) => (review, namespace),
        };

        let label = self.namespace_label(&namespace, until).await?;
        let defaults = self.0.defaults.clone();
        let second_step = budget
            .queue(lane)
            .run(until, move |clock| review.decide_with_label(&defaults, label.as_deref(), clock));
        second_step.await?
    }

    async fn namespace_label(
        &self,
        namespace: &str,
        until: Instant,
    ) -> Result<Option<String>, ReviewError> {
        let lookup = self.0.namespaces.inject_label(namespace);
        let message = match tokio::time::timeout_at(until, lookup).await {
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
}
