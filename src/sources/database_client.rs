//! Asks the sources of one database together: one transaction or snapshot, its retries and bounds.
//!
//! All of it is one future: dropped at any point, it gives up what it reads, and gives back its
//! slot, its places as probes and its counts. A statement that fails fails its own source; a retry
//! reads the whole group again, so that the parts belong to one instant.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::account::SourceAccount;
use super::answer::{self, UpstreamReply};
use super::attempt_error::{AttemptError, breaker_open_error, format_duration};
use super::breaker::AttemptHealth;
use super::database::Database;
use super::exchange::BodyLimit;
#[cfg(feature = "mongodb")]
use super::mongo::{CollectionRead, MongoPool};
use super::part_text::PartOutcome;
#[cfg(feature = "postgres")]
use super::postgres::{PostgresPool, StatementRead};
use super::recording::Recorder;
use super::render::RequestTarget;
use super::retry::Backoff;
use super::{
    Attempt, BODY_COPIES, Fetched, Part, PartRequest, Reason, Recording, SharedSources,
    SourceAnswer, TraceContext, Validator, json,
};
use crate::domain::{Missing, Rows, Source};

/// The client of one source in a database.
#[derive(Debug)]
pub(super) struct DatabaseClient {
    account: Arc<SourceAccount>,
    database: Database,
    origin: RowsOrigin,
}

/// Where answers come from.
#[derive(Debug)]
enum RowsOrigin {
    Live,
    Record(Recorder),
    Replay(Recorder),
}

impl DatabaseClient {
    /// A client for the source of `account` beside `sources`; it shares the pool of another one of
    /// them, if there is one. `None`: it is in no database, or in none of this build.
    pub(super) fn new<'c>(
        account: &Arc<SourceAccount>,
        sources: &[Source],
        others: impl Iterator<Item = &'c Self>,
        shared: &SharedSources,
    ) -> Option<Self> {
        let source = &account.source;
        let database = Database::of(source, sources, others.map(|it| &it.database), shared)?;
        let recorder = |folder| Recorder::new(folder, &source.name, &source.address());
        let origin = match &shared.recording {
            Recording::Off => RowsOrigin::Live,
            Recording::Record(folder) => RowsOrigin::Record(recorder(folder)),
            Recording::Replay(folder) => RowsOrigin::Replay(recorder(folder)),
        };
        Some(Self { account: Arc::clone(account), database, origin })
    }

    /// Whether its pool is right for these sources, and is that of the `others` on its database.
    pub(super) fn is_for<'c>(
        &self,
        sources: &[Source],
        others: impl Iterator<Item = &'c Self>,
    ) -> bool {
        self.database.is_for(&self.account.source, sources, others.map(|it| &it.database))
    }

    /// Whether both are read together.
    pub(super) fn shares_pool_with(&self, other: &Self) -> bool {
        self.database.shares_pool_with(&other.database)
    }

    /// The name under which an answer is recorded.
    fn recording_target(&self, values: &[String]) -> String {
        let values = serde_json::to_string(values).unwrap_or_default();
        let rows = if self.database.rows() == Rows::One { "one" } else { "many" };
        format!("?{}&{rows}&{values}", self.database.text())
    }
}

/// One source of a group while it is asked.
struct GroupMember<'a> {
    client: &'a DatabaseClient,
    request: PartRequest<'a>,
    values: &'a [String],
    attempts: Vec<Attempt>,
    backoff: Backoff,
}

/// What became of one member in one attempt.
enum MemberOutcome {
    /// Its part, and the bytes that came.
    Part(Part, u64),
    /// No row, or nothing recorded but that.
    NoRow,
    Failed(AttemptError),
    Unreached,
}

/// Asks the sources of one database.
pub(super) async fn fetch_group(requests: Vec<(&DatabaseClient, PartRequest<'_>)>) -> Vec<Fetched> {
    let members = requests.into_iter().map(|(client, request)| {
        client.account.budget.deposit();
        let values = match request.target {
            RequestTarget::Values(values) => values.as_slice(),
            RequestTarget::Url(_) => &[],
        };
        let backoff = Backoff::new(client.account.source.retries);
        GroupMember { client, request, values, attempts: Vec::new(), backoff }
    });
    let began = Instant::now();
    let mut group = Group { members: members.collect(), began, at_one_instant: false };
    let outcomes = group.ask_with_retries().await;
    let Group { members, at_one_instant, .. } = group;
    let members = members.into_iter().zip(outcomes);
    members.map(|(member, outcome)| member.finish(outcome, at_one_instant)).collect()
}

/// Sources that are asked together.
struct Group<'a> {
    members: Vec<GroupMember<'a>>,
    began: Instant,
    /// Whether the last attempt read all of them as they were at one instant.
    at_one_instant: bool,
}

impl Group<'_> {
    /// All attempts, until all have answered or one failed for good.
    async fn ask_with_retries(&mut self) -> Vec<MemberOutcome> {
        let mut last: Option<Vec<MemberOutcome>> = None;
        loop {
            let outcomes = match (self.attempt().await, last) {
                // The source's own error says more than that the breaker has opened.
                (outcomes, Some(last)) if is_breaker_open(&outcomes) => return last,
                (outcomes, _) => outcomes,
            };
            let Some(at) = self.next_attempt_at(&outcomes) else { return outcomes };
            last = Some(self.without_parts(outcomes));
            sleep_until(at).await;
        }
    }

    /// When to ask again; `None` where nothing failed, or something did for good.
    fn next_attempt_at(&mut self, outcomes: &[MemberOutcome]) -> Option<Instant> {
        let now = Instant::now();
        let mut at = None;
        let mut failed = Vec::new();
        for (member, outcome) in self.members.iter_mut().zip(outcomes) {
            let MemberOutcome::Failed(error) = outcome else { continue };
            let deadline = member.request.deadline;
            at = at.max(Some(member.backoff.next_attempt_at(error, now, deadline)?));
            failed.push(&member.client.account);
        }
        let withdrawn = failed.iter().take_while(|account| account.budget.withdraw()).count();
        if let Some(refused) = failed.get(withdrawn) {
            refused.metrics.retries_refused.inc();
            for account in &failed[..withdrawn] {
                account.budget.return_token();
            }
            return None;
        }
        for account in failed {
            account.metrics.retries.inc();
        }
        at
    }

    /// The outcomes without the parts, which are read again, and whose memory is given back.
    fn without_parts(&self, outcomes: Vec<MemberOutcome>) -> Vec<MemberOutcome> {
        let without_part = |(member, outcome): (&GroupMember<'_>, _)| match outcome {
            MemberOutcome::Part(_, bytes) => {
                member.request.memory.give_back(BODY_COPIES * bytes);
                MemberOutcome::Unreached
            }
            other => other,
        };
        self.members.iter().zip(outcomes).map(without_part).collect()
    }

    /// One transaction: past the breakers, with a slot, within its time.
    async fn attempt(&mut self) -> Vec<MemberOutcome> {
        if let Some(replayed) = self.replay().await {
            return replayed;
        }
        let Some(deadline) = self.members.iter().map(|member| member.request.deadline).min() else {
            return Vec::new();
        };
        if Instant::now() >= deadline {
            let detail = "the deadline left no time to ask";
            return self.all_failed(&AttemptError::inconclusive(Reason::Timeout, detail));
        }
        if let Some(refused) = self.breaker_refusals() {
            return refused;
        }
        let slot = match self.acquire_slot(deadline).await {
            Ok(slot) => slot,
            Err(error) => return self.all_failed(&error),
        };
        let mut passes = Vec::with_capacity(self.members.len());
        for member in &self.members {
            match member.client.account.breaker.admit() {
                Ok(pass) => passes.push(pass),
                Err(wait) => return self.failed_at(passes.len(), breaker_open_error(wait)),
            }
        }
        let requests: Vec<_> = self
            .members
            .iter()
            .map(|it| (it.client.account.begin_request(), it.request.outstanding.begin()))
            .collect();
        let started = Instant::now();
        let (outcomes, at_one_instant) = self.read(slot, started).await;
        drop(requests);
        self.at_one_instant = at_one_instant;
        for (pass, outcome) in passes.into_iter().zip(&outcomes) {
            pass.report(outcome.health());
        }
        self.note_attempts(started, &outcomes);
        outcomes
    }

    fn note_attempts(&mut self, started: Instant, outcomes: &[MemberOutcome]) {
        let took = started.elapsed();
        for (member, outcome) in self.members.iter_mut().zip(outcomes) {
            let reason = match outcome {
                MemberOutcome::Failed(error) => Some(error.reason),
                MemberOutcome::Unreached => continue,
                MemberOutcome::Part(..) | MemberOutcome::NoRow => None,
            };
            member.client.account.metrics.durations.observe(took.as_secs_f64());
            let span_id = TraceContext::random_span_id();
            member.attempts.push(Attempt { started, took, status: None, reason, span_id });
        }
    }

    /// The same error for all members.
    fn all_failed(&self, error: &AttemptError) -> Vec<MemberOutcome> {
        self.members.iter().map(|_| MemberOutcome::Failed(error.clone())).collect()
    }

    /// An error of one member.
    fn failed_at(&self, index: usize, error: AttemptError) -> Vec<MemberOutcome> {
        let mut outcomes: Vec<_> = self.members.iter().map(|_| MemberOutcome::Unreached).collect();
        if let Some(outcome) = outcomes.get_mut(index) {
            *outcome = MemberOutcome::Failed(error);
        }
        outcomes
    }

    /// The members whose breakers are open, if there are any.
    fn breaker_refusals(&self) -> Option<Vec<MemberOutcome>> {
        let refused = self.members.iter().map(|member| {
            let wait = member.client.account.breaker.refusal_wait();
            wait.map_or(MemberOutcome::Unreached, |wait| {
                MemberOutcome::Failed(breaker_open_error(wait))
            })
        });
        let refused: Vec<_> = refused.collect();
        refused.iter().any(|it| matches!(it, MemberOutcome::Failed(_))).then_some(refused)
    }

    /// A place among the connections; waiting for one ends with the deadline.
    async fn acquire_slot(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, AttemptError> {
        let database = &self.members[0].client.database;
        let started = Instant::now();
        let slot = timeout_at(deadline, Arc::clone(database.slots()).acquire_owned()).await;
        if let Ok(slot) = slot {
            let closed = |_| AttemptError::inconclusive(Reason::Connect, "is not asked any more");
            return slot.map_err(closed);
        }
        let waited = format_duration(started.elapsed());
        let detail = format!(
            "waited {waited} for one of its {} connections, until the deadline: see `concurrency`",
            database.size()
        );
        Err(AttemptError::inconclusive(Reason::Timeout, detail))
    }

    /// Reads, and says whether all parts are of one instant.
    async fn read(
        &self,
        slot: OwnedSemaphorePermit,
        started: Instant,
    ) -> (Vec<MemberOutcome>, bool) {
        let end_of = |member: &GroupMember<'_>| {
            let deadline = member.request.deadline;
            let timeout = member.client.account.source.timeout;
            timeout.map_or(deadline, |timeout| deadline.min(started + timeout))
        };
        // A connection is waited for as long as the most patient member would.
        let last_end = self.members.iter().map(end_of).max().unwrap_or(started);
        match &self.members[0].client.database {
            #[cfg(feature = "postgres")]
            Database::Postgres(postgres) => {
                (self.read_statements(&postgres.pool, slot, started, last_end).await, true)
            }
            #[cfg(feature = "mongodb")]
            Database::Mongo(mongo) => {
                self.read_collections(&mongo.pool, slot, started, last_end).await
            }
        }
    }

    /// Opens a connection or takes one that is kept, and reads in one transaction; once more on a
    /// new one, where the server had ended the one that was kept.
    #[cfg(feature = "postgres")]
    async fn read_statements(
        &self,
        pool: &PostgresPool,
        slot: OwnedSemaphorePermit,
        started: Instant,
        last_end: Instant,
    ) -> Vec<MemberOutcome> {
        let statements: Vec<StatementRead<'_>> =
            self.members.iter().filter_map(GroupMember::statement).collect();
        let mut must_be_new = false;
        let mut slot = slot;
        loop {
            let checkout = match timeout_at(last_end, pool.checkout(slot, must_be_new)).await {
                Ok(Ok(checkout)) => checkout,
                Ok(Err(error)) => return self.all_failed(&error),
                Err(_) => return self.no_connection(started, last_end),
            };
            let is_reused = checkout.is_reused;
            let end = checkout.read(&statements, started).await;
            if is_reused && end.is_broken_unread && Instant::now() < last_end {
                must_be_new = true;
                slot = end.slot;
                for member in &self.members {
                    member.client.account.metrics.resends.inc();
                }
                continue;
            }
            return self.judge(end.outcomes, started).await;
        }
    }

    /// Reads the collections, in one snapshot where there are several and the servers can; once
    /// more where the connection broke, since the server may have ended it before.
    #[cfg(feature = "mongodb")]
    async fn read_collections(
        &self,
        pool: &MongoPool,
        slot: OwnedSemaphorePermit,
        started: Instant,
        last_end: Instant,
    ) -> (Vec<MemberOutcome>, bool) {
        let reads: Vec<CollectionRead<'_>> =
            self.members.iter().filter_map(GroupMember::collection).collect();
        let (mut outcomes, mut at_one_instant) = pool.read(slot, &reads).await;
        if outcomes.iter().any(PartOutcome::may_be_resent) && Instant::now() < last_end {
            let slot = match self.acquire_slot(last_end).await {
                Ok(slot) => slot,
                Err(error) => return (self.all_failed(&error), false),
            };
            for member in &self.members {
                member.client.account.metrics.resends.inc();
            }
            (outcomes, at_one_instant) = pool.read(slot, &reads).await;
        }
        (self.judge(outcomes, started).await, at_one_instant)
    }

    /// There was no connection in time, for any member.
    #[cfg(feature = "postgres")]
    fn no_connection(&self, started: Instant, end: Instant) -> Vec<MemberOutcome> {
        let had = end.saturating_duration_since(started);
        let detail = format!("gave no connection within {}", format_duration(had));
        let error = AttemptError::of_unhealthy_source(Reason::Timeout, detail);
        let failed = |member| {
            let health = self.timeout_health(member, had);
            MemberOutcome::Failed(AttemptError { health, ..error.clone() })
        };
        self.members.iter().map(failed).collect()
    }

    /// What it says of a source that it gave no answer in so much time.
    fn timeout_health(&self, member: &GroupMember<'_>, had: Duration) -> AttemptHealth {
        let whole = member.client.account.source.timeout.is_some_and(|timeout| had >= timeout);
        let all = member.request.deadline.saturating_duration_since(self.began);
        let is_conclusive = whole || had >= CONCLUSIVE_TIMEOUT_MIN.max(all / 2);
        if is_conclusive { AttemptHealth::Unhealthy } else { AttemptHealth::Unknown }
    }

    async fn judge(&self, outcomes: Vec<PartOutcome<'_>>, started: Instant) -> Vec<MemberOutcome> {
        let mut judged = Vec::with_capacity(outcomes.len());
        for (member, outcome) in self.members.iter().zip(outcomes) {
            judged.push(match outcome {
                PartOutcome::Json(text, reserved) => {
                    reserved.keep(text.len());
                    member.record(Some(&text)).await;
                    member.part(&text.into())
                }
                PartOutcome::NoRow => {
                    member.record(None).await;
                    MemberOutcome::NoRow
                }
                PartOutcome::Failed(error) if error.reason == Reason::Timeout => {
                    let health = self.timeout_health(member, started.elapsed());
                    MemberOutcome::Failed(AttemptError { health, ..error })
                }
                PartOutcome::Failed(error) => MemberOutcome::Failed(error),
                PartOutcome::Unreached => MemberOutcome::Unreached,
            });
        }
        judged
    }

    /// The recorded answers, where there is a recording and no database.
    async fn replay(&self) -> Option<Vec<MemberOutcome>> {
        let mut outcomes = Vec::new();
        for member in &self.members {
            let RowsOrigin::Replay(recorder) = &member.client.origin else { return None };
            outcomes.push(member.replay(recorder).await);
        }
        Some(outcomes)
    }
}

/// A timeout is evidence against the source only if it had its own timeout in full, or at least so
/// much time and half of what there was when it was to be asked.
const CONCLUSIVE_TIMEOUT_MIN: Duration = Duration::from_millis(100);

fn is_breaker_open(outcomes: &[MemberOutcome]) -> bool {
    let is_open = |outcome: &MemberOutcome| match outcome {
        MemberOutcome::Failed(error) => error.reason == Reason::BreakerOpen,
        MemberOutcome::Part(..) | MemberOutcome::NoRow | MemberOutcome::Unreached => false,
    };
    outcomes.iter().any(is_open)
}

impl MemberOutcome {
    fn health(&self) -> AttemptHealth {
        match self {
            Self::Part(..) | Self::NoRow => AttemptHealth::Healthy,
            Self::Failed(error) => error.health,
            Self::Unreached => AttemptHealth::Unknown,
        }
    }
}

impl<'a> GroupMember<'a> {
    #[cfg(feature = "postgres")]
    fn statement(&self) -> Option<StatementRead<'a>> {
        let postgres = self.client.database.postgres()?;
        Some(StatementRead {
            text: &postgres.statement,
            parameters: &postgres.source.query.parameters,
            values: self.values,
            rows: postgres.source.rows,
            bytes_max: self.client.account.source.max_body.get(),
            timeout: self.client.account.source.timeout,
            deadline: self.request.deadline,
            memory: self.request.memory,
        })
    }

    #[cfg(feature = "mongodb")]
    fn collection(&self) -> Option<CollectionRead<'a>> {
        Some(CollectionRead {
            source: &self.client.database.mongo()?.source,
            values: self.values,
            bytes_max: self.client.account.source.max_body.get(),
            timeout: self.client.account.source.timeout,
            deadline: self.request.deadline,
            memory: self.request.memory,
        })
    }

    /// The part that a text is, whose memory is reserved.
    fn part(&self, text: &Bytes) -> MemberOutcome {
        let bytes = text.len() as u64;
        match json::validate(text) {
            Ok(json) => MemberOutcome::Part(Part { json, validator: Validator::None }, bytes),
            Err(invalid) => {
                self.request.memory.give_back(BODY_COPIES * bytes);
                MemberOutcome::Failed(AttemptError::answered(Reason::NotJson, invalid.detail))
            }
        }
    }

    /// Records a text, or that there was no row: as a 200 and a 404.
    async fn record(&self, text: Option<&[u8]>) {
        let RowsOrigin::Record(recorder) = &self.client.origin else { return };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let reply = UpstreamReply {
            status: if text.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND },
            headers,
            body: Bytes::copy_from_slice(text.unwrap_or_default()),
        };
        let target = self.client.recording_target(self.values);
        if let Err(error) = recorder.record(&target, &reply).await {
            let account = &self.client.account;
            account.metrics.tape_failures.inc();
            let source_name = &account.source.name;
            tracing::warn!(%source_name, %error, "an answer was not recorded");
        }
    }

    async fn replay(&self, recorder: &Recorder) -> MemberOutcome {
        let allowed = self.client.account.source.max_body.get();
        let limit = BodyLimit { left: allowed, allowed };
        let target = self.client.recording_target(self.values);
        match recorder.replay(&target, None, limit).await {
            Err(error) => MemberOutcome::Failed(error),
            Ok(reply) if reply.status == StatusCode::NOT_FOUND => MemberOutcome::NoRow,
            Ok(reply) => {
                let bytes = BODY_COPIES * reply.body.len() as u64;
                match self.request.memory.take(bytes).await {
                    Ok(()) => self.part(&reply.body),
                    Err(_) => MemberOutcome::Failed(AttemptError::no_memory()),
                }
            }
        }
    }

    /// The result of the last attempt, counted.
    fn finish(self, outcome: MemberOutcome, at_one_instant: bool) -> Fetched {
        let account = &self.client.account;
        let is_missing = matches!(outcome, MemberOutcome::NoRow);
        let mut unused_bytes = 0;
        let result = match outcome {
            MemberOutcome::Unreached => None,
            MemberOutcome::Failed(error) => Some(Err(error)),
            MemberOutcome::NoRow => Some(self.no_row()),
            MemberOutcome::Part(part, bytes) => {
                let known = self.request.known_part;
                Some(Ok(if known.is_some_and(|known| answer::is_unchanged(known, &part)) {
                    unused_bytes = bytes;
                    SourceAnswer::Unchanged
                } else {
                    SourceAnswer::Part(part)
                }))
            }
        };
        self.request.memory.give_back(BODY_COPIES * unused_bytes);
        let result =
            result.map(|it| it.map_err(|error| error.into_source_error(&account.source.name)));
        if let Some(result) = &result {
            account.count_result(result, is_missing);
        }
        Fetched { result, attempts: self.attempts, at_one_instant }
    }

    /// No row, by the meaning that the file gives it.
    fn no_row(&self) -> Result<SourceAnswer, AttemptError> {
        debug_assert_eq!(self.client.database.rows(), Rows::One, "an array may be empty");
        match &self.client.account.source.missing {
            Missing::NotFound => Ok(SourceAnswer::NotFound),
            Missing::Value(json) => {
                let json = Bytes::copy_from_slice(json.as_bytes());
                let part = Part { json, validator: Validator::None };
                let is_known =
                    self.request.known_part.is_some_and(|it| answer::is_unchanged(it, &part));
                Ok(if is_known { SourceAnswer::Unchanged } else { SourceAnswer::Part(part) })
            }
            Missing::Failure => {
                let detail = "has no row, expected one: see `missing`";
                Err(AttemptError::answered(Reason::Rows, detail))
            }
        }
    }
}
