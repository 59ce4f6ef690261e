//! The client of one HTTP source: sends requests, follows pages, retries, and accounts for the
//! source's slots, breaker and budget.
//!
//! All of it is one future: dropped at any point, it gives back its slot, its place as a probe and
//! its count. `answer` classifies responses, `exchange` transports them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::account::SourceAccount;
use super::answer::{self, Classified, UpstreamReply};
use super::attempt_error::{AttemptError, breaker_open_error, format_duration};
use super::breaker::AttemptHealth;
use super::connections::SourceConnections;
use super::exchange::{self, BodyLimit};
use super::pages::PageLoop;
use super::recording::Recorder;
use super::request_spec::{self, RequestSpec};
use super::retry::{Backoff, ResendAllowance};
use super::{
    Attempt, BODY_COPIES, Part, PartRequest, Reason, Recording, SharedSources, SourceAnswer,
    SourceError, TraceContext, Validator,
};
use crate::domain::{self, HttpSource, Missing};

/// A timeout is evidence against the source only if the request had the source's own timeout in
/// full, or at least this long and half of the time that was left when the source was to be asked:
/// waiting for a slot is no evidence.
const CONCLUSIVE_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// The client of one HTTP source.
#[derive(Debug)]
pub(super) struct HttpClient {
    account: Arc<SourceAccount>,
    http: HttpSource,
    transport: Transport,
    recorder: Option<Recorder>,
    /// The headers of every request: the defaults, and over them the file's.
    headers: HeaderMap,
    slots: Semaphore,
}

/// Where answers come from.
#[derive(Debug)]
enum Transport {
    Live(Box<SourceConnections>),
    Replay(Recorder),
}

impl HttpClient {
    /// A client for the source of `account`, which is `http`.
    pub(super) fn new(
        account: Arc<SourceAccount>,
        http: HttpSource,
        shared: &SharedSources,
    ) -> Self {
        let source = &account.source;
        let recorder = |folder| Recorder::new(folder, &source.name, &source.address());
        let live = || Transport::Live(Box::new(SourceConnections::new(source, &http, shared)));
        let (transport, record) = match &shared.recording {
            Recording::Off => (live(), None),
            Recording::Record(folder) => (live(), Some(recorder(folder))),
            Recording::Replay(folder) => (Transport::Replay(recorder(folder)), None),
        };
        Self {
            transport,
            recorder: record,
            headers: request_spec::base_headers(&http.headers),
            slots: Semaphore::new(source.concurrency.get().min(Semaphore::MAX_PERMITS)),
            http,
            account,
        }
    }

    /// Asks, retries within its bounds, and never outlives the deadline. Every request made is
    /// pushed to `attempts`.
    pub(super) async fn fetch(
        &self,
        target: &PathAndQuery,
        ask: PartRequest<'_>,
        attempts: &mut Vec<Attempt>,
    ) -> Result<SourceAnswer, SourceError> {
        let classified = self.attempt_and_classify(target, &ask, attempts).await;
        let missing = matches!(classified, Ok(Classified::Missing));
        let read = classified.as_ref().ok().and_then(Classified::bytes);
        let result = classified
            .and_then(|classified| self.make_answer(classified, ask.known_part))
            .map_err(|fault| fault.into_source_error(&self.account.source.name));
        self.account.count_result(&result, missing);
        if let (Ok(SourceAnswer::Unchanged), Some(read)) = (&result, read) {
            ask.memory.give_back(BODY_COPIES * read);
        }
        result
    }

    /// Turns a classified response into an answer, given the part that is already known.
    fn make_answer(
        &self,
        classified: Classified,
        known: Option<&Part>,
    ) -> Result<SourceAnswer, AttemptError> {
        let part = match (classified, &self.account.source.missing) {
            (Classified::Page { part, .. }, _) => part,
            (Classified::Missing, Missing::Value(json)) => {
                Part { json: Bytes::copy_from_slice(json.as_bytes()), validator: Validator::None }
            }
            (Classified::Missing, _) => return Ok(SourceAnswer::NotFound),
            (Classified::NotModified, _) => return Ok(SourceAnswer::Unchanged),
            (Classified::Mismatched304, _) => {
                return Err(AttemptError::answered(
                    Reason::Status,
                    "answered 304 for another part, expected 200",
                ));
            }
        };
        let unchanged = known.is_some_and(|known| answer::is_unchanged(known, &part));
        Ok(if unchanged { SourceAnswer::Unchanged } else { SourceAnswer::Part(part) })
    }

    /// The condition that confirms a known part. A first page is confirmed by reading it and its
    /// successors: its 304 does not exclude a page that was added behind it.
    fn condition<'p>(&self, known: &'p Part) -> Option<&'p HeaderValue> {
        match (&known.validator, self.http.pages) {
            (Validator::Strong(tag), domain::Pages::Refuse | domain::Pages::First) => Some(tag),
            (Validator::Strong(_), domain::Pages::Follow { .. })
            | (Validator::Weak(_) | Validator::None, _) => None,
        }
    }

    async fn attempt_and_classify(
        &self,
        target: &PathAndQuery,
        ask: &PartRequest<'_>,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Classified, AttemptError> {
        let condition = ask.known_part.and_then(|known| self.condition(known));
        let allowed = self.account.source.max_body.get();
        let question = RequestSpec {
            target,
            condition,
            missing: &self.account.source.missing,
            no_cache: ask.no_cache,
            fresh_connection: false,
            body_limit: BodyLimit { left: allowed, allowed },
            deadline: ask.deadline,
            started_at: Instant::now(),
            trace: ask.trace,
            memory: ask.memory,
            outstanding: ask.outstanding,
        };
        let mut classified = self.request_with_retries(question, attempts).await?;
        if matches!(classified, Classified::Mismatched304) {
            classified = self
                .request_with_retries(RequestSpec { condition: None, ..question }, attempts)
                .await?;
        }
        match (classified, self.http.pages) {
            (first @ Classified::Page { .. }, domain::Pages::Follow { max_pages }) => {
                let pages = PageLoop::new(&self.http.url.origin, target, max_pages);
                self.follow_pages(pages, first, question, attempts).await
            }
            (classified, _) => Ok(classified),
        }
    }

    /// Reads the pages after the first and joins them all.
    async fn follow_pages(
        &self,
        mut pages: PageLoop<'_>,
        first: Classified,
        question: RequestSpec<'_>,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Classified, AttemptError> {
        let mut classified = first;
        let mut room = question.body_limit;
        loop {
            let Classified::Page { part, next, bytes } = classified else {
                return Err(AttemptError::answered(
                    Reason::Incomplete,
                    "one of its pages is no page, expected 200",
                ));
            };
            room.left = room.left.saturating_sub(bytes);
            pages.add_page(part.json)?;
            let Some(reference) = next else {
                // Pages are read one after the other: no tag of one page proves them all.
                let validator = if pages.count() == 1 { part.validator } else { Validator::None };
                let bytes = room.allowed - room.left;
                return Ok(Classified::Page {
                    part: Part { json: pages.join(), validator },
                    next: None,
                    bytes,
                });
            };
            let target = pages.next_target(&reference)?;
            classified = self
                .request_with_retries(
                    RequestSpec {
                        target,
                        condition: None,
                        missing: &Missing::Failure,
                        body_limit: room,
                        ..question
                    },
                    attempts,
                )
                .await?;
        }
    }

    /// One question with its retries.
    async fn request_with_retries(
        &self,
        mut question: RequestSpec<'_>,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Classified, AttemptError> {
        self.account.budget.deposit();
        let mut pauses = Backoff::new(self.account.source.retries);
        let mut resends = ResendAllowance::new();
        let mut last: Option<AttemptError> = None;
        loop {
            let fault = match (self.attempt(question, &mut resends, attempts).await, last) {
                (Ok(classified), _) => return Ok(classified),
                // The source's own error says more than that the breaker has opened.
                (Err(fault), Some(last)) if fault.reason == Reason::BreakerOpen => {
                    return Err(last);
                }
                (Err(fault), _) => fault,
            };
            question.fresh_connection =
                fault.resend_plan.is_some_and(|resending| resending.on_fresh_connection);
            if let Some(resending) = fault.resend_plan {
                sleep_until(resending.at).await;
                self.account.metrics.resends.inc();
                last = Some(fault);
                continue;
            }
            let Some(at) = pauses.next_attempt_at(&fault, Instant::now(), question.deadline) else {
                return Err(fault);
            };
            if !self.account.budget.withdraw() {
                self.account.metrics.retries_refused.inc();
                return Err(fault);
            }
            sleep_until(at).await;
            self.account.metrics.retries.inc();
            last = Some(fault);
        }
    }

    /// One request: past the breaker, with a slot, within its time.
    async fn attempt(
        &self,
        question: RequestSpec<'_>,
        resends: &mut ResendAllowance,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Classified, AttemptError> {
        if Instant::now() >= question.deadline {
            return Err(AttemptError::inconclusive(
                Reason::Timeout,
                "the deadline left no time to ask",
            ));
        }
        if let Some(wait) = self.account.breaker.refusal_wait() {
            return Err(breaker_open_error(wait));
        }
        let span_id = TraceContext::random_span_id();
        let _slot = self.acquire_slot(question.deadline, span_id, attempts).await?;
        let pass = self.account.breaker.admit().map_err(breaker_open_error)?;
        let _inflight = self.account.begin_request();
        let _outstanding = question.outstanding.begin();
        let started = Instant::now();
        let mut status = None;
        let mut classified = self.send(question, span_id, started, &mut status).await;
        if let Err(fault) = &mut classified {
            fault.resend_plan = resends.plan_resend(fault, Instant::now(), question.deadline);
            if fault.resend_plan.is_some() {
                fault.health = AttemptHealth::Unknown;
            }
        }
        pass.report(
            classified.as_ref().map_or_else(|fault| fault.health, |_| AttemptHealth::Healthy),
        );
        let took = started.elapsed();
        let reason = classified.as_ref().err().map(|fault| fault.reason);
        self.account.metrics.durations.observe(took.as_secs_f64());
        attempts.push(Attempt { started, took, status, reason, span_id });
        classified
    }

    /// A place among the requests under way; waiting for one ends with the deadline.
    async fn acquire_slot(
        &self,
        deadline: Instant,
        span_id: u64,
        attempts: &mut Vec<Attempt>,
    ) -> Result<SemaphorePermit<'_>, AttemptError> {
        if let Ok(slot) = self.slots.try_acquire() {
            return Ok(slot);
        }
        let started = Instant::now();
        if let Ok(Ok(slot)) = timeout_at(deadline, self.slots.acquire()).await {
            return Ok(slot);
        }
        let took = started.elapsed();
        attempts.push(Attempt {
            started,
            took,
            status: None,
            reason: Some(Reason::Timeout),
            span_id,
        });
        let slots = self.account.source.concurrency;
        let detail = format!(
            "waited {} for one of its {slots} slots, until the deadline: see `concurrency`",
            format_duration(took)
        );
        Err(AttemptError::inconclusive(Reason::Timeout, detail))
    }

    /// Sends, reads, records and judges, all by the end of this request's time.
    async fn send(
        &self,
        question: RequestSpec<'_>,
        span_id: u64,
        started: Instant,
        status: &mut Option<u16>,
    ) -> Result<Classified, AttemptError> {
        let end = self
            .account
            .source
            .timeout
            .map_or(question.deadline, |timeout| question.deadline.min(started + timeout));
        let exchanged = async {
            let reply = self.exchange(question, span_id, end, status).await?;
            self.record(question.target, &reply).await;
            Ok(reply)
        };
        let Ok(reply) = timeout_at(end, exchanged).await else {
            let fair = CONCLUSIVE_TIMEOUT_MIN
                .max(question.deadline.saturating_duration_since(question.started_at) / 2);
            return Err(self.timeout_error(end.saturating_duration_since(started), fair, *status));
        };
        let reply = reply?;
        answer::classify(&reply, question.condition, self.http.pages, question.missing)
    }

    async fn exchange(
        &self,
        question: RequestSpec<'_>,
        span_id: u64,
        end: Instant,
        status: &mut Option<u16>,
    ) -> Result<UpstreamReply, AttemptError> {
        let connections = match &self.transport {
            Transport::Live(connections) => connections,
            Transport::Replay(reel) => {
                let reply = reel
                    .replay(question.target.as_str(), question.condition, question.body_limit)
                    .await?;
                if question.memory.take(BODY_COPIES * reply.body.len() as u64).await.is_err() {
                    return Err(AttemptError::no_memory());
                }
                *status = Some(reply.status.as_u16());
                return Ok(reply);
            }
        };
        let http = connections.current()?;
        let left = end.saturating_duration_since(Instant::now());
        let request = request_spec::build_request(
            &self.http.url.origin,
            &self.headers,
            question,
            span_id,
            left,
        )?;
        let client = if question.fresh_connection { &http.unpooled } else { &http.pooled };
        exchange::exchange(
            client,
            &http.floods,
            request,
            question.body_limit,
            question.memory,
            status,
        )
        .await
    }

    async fn record(&self, target: &PathAndQuery, reply: &UpstreamReply) {
        let Some(reel) = &self.recorder else { return };
        if let Err(error) = reel.record(target.as_str(), reply).await {
            self.account.metrics.tape_failures.inc();
            let source_name = &self.account.source.name;
            tracing::warn!(%source_name, %error, "an answer was not recorded");
        }
    }

    /// A request had `had` of time, and its answer is not there.
    fn timeout_error(&self, had: Duration, fair: Duration, status: Option<u16>) -> AttemptError {
        let whole = self.account.source.timeout.is_some_and(|timeout| had >= timeout);
        let bound = if whole { "its timeout" } else { "what the deadline left" };
        let detail = match status {
            None => format!("no answer within {} ({bound})", format_duration(had)),
            Some(status) => format!(
                "answered {status}, but the body was not whole within {} ({bound})",
                format_duration(had)
            ),
        };
        let health =
            if whole || had >= fair { AttemptHealth::Unhealthy } else { AttemptHealth::Unknown };
        AttemptError { health, ..AttemptError::of_unhealthy_source(Reason::Timeout, detail) }
    }
}
