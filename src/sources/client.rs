//! The client of one source: it asks, follows pages, retries, and keeps the source's slots, breaker
//! and budget right.
//!
//! All of it is one future: dropped at any point, it gives back its slot, its place as a probe and
//! its count. What a request means is `answer`'s, how it travels `exchange`'s.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::answer::{self, Met, Reply};
use super::breaker::{BreakerState, Health};
use super::connections::Connections;
use super::exchange::{self, Room};
use super::fault::{Fault, time};
use super::gate::Gate;
use super::metrics::{InFlight, SourceMetrics};
use super::pages::Pages;
use super::request::{self, Question};
use super::retry::{Budget, Pauses, ResendAllowance};
use super::tape::Reel;
use super::{
    Answer, Ask, Attempt, BODY_COPIES, Failure, Part, Reason, Shared, Tape, TraceContext, Validator,
};
use crate::domain::{self, Missing, Source};

/// A timeout says something about the source only if it had its own timeout in full, or at least
/// this long and half of the time that there was when it was to be asked: what waiting for a slot
/// took says nothing.
const FAIR_TIME: Duration = Duration::from_millis(100);

/// The client of one source: connections, slots, breaker and retry budget.
#[derive(Debug)]
pub struct Client {
    source: Source,
    way: Way,
    record: Option<Reel>,
    /// What every request carries: our defaults, and over them the file's.
    headers: HeaderMap,
    slots: Semaphore,
    gate: Gate,
    budget: Budget,
    metrics: SourceMetrics,
    inflight: AtomicU64,
    failed_in_a_row: AtomicU64,
    /// For `state` only; held to copy a word in or out.
    last_failure: Mutex<Option<(Reason, Instant)>>,
}

/// Where answers come from.
#[derive(Debug)]
enum Way {
    Live(Box<Connections>),
    Replay(Reel),
}

/// How a source's client is doing.
#[derive(Debug, Clone)]
pub struct ClientState {
    /// Where the breaker stands.
    pub breaker: BreakerState,
    /// Requests under way.
    pub inflight: u64,
    /// Questions that failed since one was answered.
    pub failed_in_a_row: u64,
    /// Why the last failed question failed, and when.
    pub last_failure: Option<(Reason, Instant)>,
}

impl Client {
    /// A client for `source`.
    pub fn new(source: Source, shared: &Shared) -> Self {
        let reel = |folder| Reel::new(folder, &source.name, &source.http.url.origin);
        let (way, record) = match &shared.tape {
            Tape::Off => (Way::Live(Box::new(Connections::new(&source, shared))), None),
            Tape::Record(folder) => {
                (Way::Live(Box::new(Connections::new(&source, shared))), Some(reel(folder)))
            }
            Tape::Replay(folder) => (Way::Replay(reel(folder)), None),
        };
        let metrics = shared.metrics.of(&source.name);
        Self {
            way,
            record,
            headers: request::base_headers(&source.http.headers),
            slots: Semaphore::new(source.concurrency.get().min(Semaphore::MAX_PERMITS)),
            gate: Gate::new(Arc::clone(&source.name), metrics.breaker_open.clone()),
            budget: Budget::new(),
            metrics,
            inflight: AtomicU64::new(0),
            failed_in_a_row: AtomicU64::new(0),
            last_failure: Mutex::new(None),
            source,
        }
    }

    /// The source it asks.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// How it is doing.
    pub fn state(&self) -> ClientState {
        ClientState {
            breaker: self.gate.state(),
            inflight: self.inflight.load(Ordering::Relaxed),
            failed_in_a_row: self.failed_in_a_row.load(Ordering::Relaxed),
            last_failure: *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Asks, retries within its bounds, and never outlives the deadline. Every request made is
    /// pushed to `attempts`.
    pub async fn fetch(
        &self,
        ask: Ask<'_>,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Answer, Failure> {
        let met = self.met(&ask, attempts).await;
        let missing = matches!(met, Ok(Met::Missing));
        let read = met.as_ref().ok().and_then(Met::bytes);
        let result = met
            .and_then(|met| self.answer(met, ask.known))
            .map_err(|fault| fault.of(&self.source.name));
        match &result {
            Ok(answer) => {
                self.metrics.count(answer, missing);
                self.failed_in_a_row.store(0, Ordering::Relaxed);
            }
            Err(failure) => self.note(failure),
        }
        if let (Ok(Answer::Unchanged), Some(read)) = (&result, read) {
            ask.memory.give_back(BODY_COPIES * read);
        }
        result
    }

    /// Counts a failure of this source: ours, or one that kept us from being asked
    /// (`missing-reference`, `changed`).
    pub fn note(&self, failure: &Failure) {
        if failure.reason == Reason::NoMemory {
            return;
        }
        self.metrics.count_failure(failure.reason);
        self.failed_in_a_row.fetch_add(1, Ordering::Relaxed);
        let last = (failure.reason, Instant::now());
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    /// What a meaning is to one who knows a part already.
    fn answer(&self, met: Met, known: Option<&Part>) -> Result<Answer, Fault> {
        let part = match (met, &self.source.missing) {
            (Met::Page { part, .. }, _) => part,
            (Met::Missing, Missing::Value(json)) => {
                Part { json: Bytes::copy_from_slice(json.as_bytes()), validator: Validator::None }
            }
            (Met::Missing, _) => return Ok(Answer::NotFound),
            (Met::NotModified, _) => return Ok(Answer::Unchanged),
            (Met::Doubtful, _) => {
                return Err(Fault::answered(
                    Reason::Status,
                    "answered 304 for another part, expected 200",
                ));
            }
        };
        let unchanged = known.is_some_and(|known| answer::unchanged(known, &part));
        Ok(if unchanged { Answer::Unchanged } else { Answer::Part(part) })
    }

    /// What confirms a known part. A first page is confirmed by reading it and what follows: its
    /// 304 need not say that a page was added behind it.
    fn condition<'p>(&self, known: &'p Part) -> Option<&'p HeaderValue> {
        match (&known.validator, self.source.http.pages) {
            (Validator::Strong(tag), domain::Pages::Refuse | domain::Pages::First) => Some(tag),
            (Validator::Strong(_), domain::Pages::Follow { .. })
            | (Validator::Weak(_) | Validator::None, _) => None,
        }
    }

    async fn met(&self, ask: &Ask<'_>, attempts: &mut Vec<Attempt>) -> Result<Met, Fault> {
        let condition = ask.known.and_then(|known| self.condition(known));
        let allowed = self.source.max_body.get();
        let question = Question {
            target: ask.target,
            condition,
            missing: &self.source.missing,
            no_cache: ask.no_cache,
            fresh_connection: false,
            room: Room { left: allowed, allowed },
            deadline: ask.deadline,
            since: Instant::now(),
            trace: ask.trace,
            memory: ask.memory,
            outstanding: ask.outstanding,
        };
        let mut met = self.ask(question, attempts).await?;
        if matches!(met, Met::Doubtful) {
            met = self.ask(Question { condition: None, ..question }, attempts).await?;
        }
        match (met, self.source.http.pages) {
            (first @ Met::Page { .. }, domain::Pages::Follow { max_pages }) => {
                let pages = Pages::new(&self.source.http.url.origin, ask.target, max_pages);
                self.follow(pages, first, question, attempts).await
            }
            (met, _) => Ok(met),
        }
    }

    /// Reads the pages after the first and joins them all.
    async fn follow(
        &self,
        mut pages: Pages<'_>,
        first: Met,
        question: Question<'_>,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Met, Fault> {
        let mut met = first;
        let mut room = question.room;
        loop {
            let Met::Page { part, next, bytes } = met else {
                return Err(Fault::answered(
                    Reason::Incomplete,
                    "one of its pages is no page, expected 200",
                ));
            };
            room.left = room.left.saturating_sub(bytes);
            pages.add(part.json)?;
            let Some(reference) = next else {
                // Pages are read one after the other: no tag of one page proves them all.
                let validator = if pages.count() == 1 { part.validator } else { Validator::None };
                let bytes = room.allowed - room.left;
                return Ok(Met::Page {
                    part: Part { json: pages.joined(), validator },
                    next: None,
                    bytes,
                });
            };
            let target = pages.turn(&reference)?;
            met = self
                .ask(
                    Question {
                        target,
                        condition: None,
                        missing: &Missing::Failure,
                        room,
                        ..question
                    },
                    attempts,
                )
                .await?;
        }
    }

    /// One question with its retries.
    async fn ask(
        &self,
        mut question: Question<'_>,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Met, Fault> {
        self.budget.deposit();
        let mut pauses = Pauses::new(self.source.retries);
        let mut resends = ResendAllowance::new();
        let mut last: Option<Fault> = None;
        loop {
            let fault = match (self.attempt(question, &mut resends, attempts).await, last) {
                (Ok(met), _) => return Ok(met),
                // What the source said tells more than that the breaker has had enough of it.
                (Err(fault), Some(last)) if fault.reason == Reason::BreakerOpen => {
                    return Err(last);
                }
                (Err(fault), _) => fault,
            };
            question.fresh_connection =
                fault.resending.is_some_and(|resending| resending.on_fresh_connection);
            if let Some(resending) = fault.resending {
                sleep_until(resending.at).await;
                self.metrics.resends.inc();
                last = Some(fault);
                continue;
            }
            let Some(at) = pauses.after(&fault, Instant::now(), question.deadline) else {
                return Err(fault);
            };
            if !self.budget.withdraw() {
                self.metrics.retries_refused.inc();
                return Err(fault);
            }
            sleep_until(at).await;
            self.metrics.retries.inc();
            last = Some(fault);
        }
    }

    /// One request: past the breaker, with a slot, within its time.
    async fn attempt(
        &self,
        question: Question<'_>,
        resends: &mut ResendAllowance,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Met, Fault> {
        if Instant::now() >= question.deadline {
            return Err(Fault::unasked(Reason::Timeout, "the deadline left no time to ask"));
        }
        if let Some(wait) = self.gate.refuses() {
            return Err(breaker_open(wait));
        }
        let span_id = TraceContext::random_span_id();
        let _slot = self.slot(question.deadline, span_id, attempts).await?;
        let pass = self.gate.admit().map_err(breaker_open)?;
        let _inflight = InFlight::new(&self.metrics.inflight, &self.inflight);
        let _outstanding = question.outstanding.begin();
        let started = Instant::now();
        let mut status = None;
        let mut met = self.send(question, span_id, started, &mut status).await;
        if let Err(fault) = &mut met {
            fault.resending = resends.after(fault, Instant::now(), question.deadline);
            if fault.resending.is_some() {
                fault.health = Health::Unknown;
            }
        }
        pass.report(met.as_ref().map_or_else(|fault| fault.health, |_| Health::Well));
        let (took, reason) = (started.elapsed(), met.as_ref().err().map(|fault| fault.reason));
        self.metrics.durations.observe(took.as_secs_f64());
        attempts.push(Attempt { started, took, status, reason, span_id });
        met
    }

    /// A place among the requests under way; waiting for one ends with the deadline.
    async fn slot(
        &self,
        deadline: Instant,
        span_id: u64,
        attempts: &mut Vec<Attempt>,
    ) -> Result<SemaphorePermit<'_>, Fault> {
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
        let slots = self.source.concurrency;
        let detail = format!(
            "waited {} for one of its {slots} slots, until the deadline: see `concurrency`",
            time(took)
        );
        Err(Fault::unasked(Reason::Timeout, detail))
    }

    /// Sends, reads, records and judges, all by the end of this request's time.
    async fn send(
        &self,
        question: Question<'_>,
        span_id: u64,
        started: Instant,
        status: &mut Option<u16>,
    ) -> Result<Met, Fault> {
        let end = self
            .source
            .timeout
            .map_or(question.deadline, |timeout| question.deadline.min(started + timeout));
        let exchanged = async {
            let reply = self.exchange(question, span_id, end, status).await?;
            self.record(question.target, &reply).await;
            Ok(reply)
        };
        let Ok(reply) = timeout_at(end, exchanged).await else {
            let fair =
                FAIR_TIME.max(question.deadline.saturating_duration_since(question.since) / 2);
            return Err(self.too_slow(end.saturating_duration_since(started), fair, *status));
        };
        let reply = reply?;
        answer::meaning(&reply, question.condition, self.source.http.pages, question.missing)
    }

    async fn exchange(
        &self,
        question: Question<'_>,
        span_id: u64,
        end: Instant,
        status: &mut Option<u16>,
    ) -> Result<Reply, Fault> {
        let connections = match &self.way {
            Way::Live(connections) => connections,
            Way::Replay(reel) => {
                let reply = reel.replay(question.target, question.condition, question.room).await?;
                if question.memory.take(BODY_COPIES * reply.body.len() as u64).await.is_err() {
                    return Err(Fault::no_memory());
                }
                *status = Some(reply.status.as_u16());
                return Ok(reply);
            }
        };
        let http = connections.current()?;
        let left = end.saturating_duration_since(Instant::now());
        let request =
            request::request(&self.source.http.url.origin, &self.headers, question, span_id, left)?;
        let client = if question.fresh_connection { &http.unpooled } else { &http.pooled };
        exchange::exchange(client, &http.floods, request, question.room, question.memory, status)
            .await
    }

    async fn record(&self, target: &PathAndQuery, reply: &Reply) {
        let Some(reel) = &self.record else { return };
        if let Err(error) = reel.record(target, reply).await {
            self.metrics.tape_failures.inc();
            tracing::warn!(source_name = %self.source.name, %error, "an answer was not recorded");
        }
    }

    /// A request had `had` of time, and its answer is not there.
    fn too_slow(&self, had: Duration, fair: Duration, status: Option<u16>) -> Fault {
        let whole = self.source.timeout.is_some_and(|timeout| had >= timeout);
        let bound = if whole { "its timeout" } else { "what the deadline left" };
        let detail = match status {
            None => format!("no answer within {} ({bound})", time(had)),
            Some(status) => format!(
                "answered {status}, but the body was not whole within {} ({bound})",
                time(had)
            ),
        };
        let health = if whole || had >= fair { Health::Ill } else { Health::Unknown };
        Fault { health, ..Fault::trouble(Reason::Timeout, detail) }
    }
}

fn breaker_open(wait: Duration) -> Fault {
    let retry_after = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
    let detail =
        format!("too many requests failed, so that none is sent for {} more", time(retry_after));
    Fault {
        retry_after: Some(retry_after),
        retry: false,
        ..Fault::unasked(Reason::BreakerOpen, detail)
    }
}
