//! One run of the plan: the first collect, and the rounds that make it a snapshot.
//!
//! Round 1 asks every source as soon as the parts that its URL names have arrived. In `snapshot`
//! mode a further round, begun after the last part has arrived, asks every source again. If no part
//! changed, every part was current at the instant between the two rounds: each was read before that
//! instant and confirmed after it, and no part changes and changes back in between (an assumption
//! that the documentation states). If a part changed, it and the parts that depend on it are
//! fetched anew, and *every* part is confirmed in one more round; after the last allowed round the
//! key is contended.
//!
//! Sources that share a transaction are asked together where they are asked at once. If one
//! transaction reads all parts, it is a snapshot by itself.
//!
//! One failure cancels the rest: dropping the futures drops their requests.

use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::timeline::{StepOutcome, Timeline, TimelineStep};
use super::{CollectContext, CollectError, CollectOptions, Collector, Dataset};
use crate::domain::{Atomicity, HttpSource, Pages, Source, SourceIndex};
use crate::sources::{
    Attempt, BODY_COPIES, Client, Fetched, Part, PartRequest, Reason, RequestTarget, SourceAnswer,
    SourceError, fetch_together, render_target,
};

pub(super) struct CollectionRun<'c> {
    collector: &'c Collector,
    key: &'c str,
    options: CollectOptions,
    context: CollectContext<'c>,
    started: Instant,
    deadline: Instant,
    round: u32,
    /// Whether all that was read together is of one instant, as it should be.
    is_at_one_instant: bool,
    parts: Vec<Option<Part>>,
    /// The parts of an earlier dataset, for the first round.
    previous_parts: Option<Arc<[Part]>>,
    /// When each source was asked; `None` once it has answered.
    asked_at: Vec<Option<Instant>>,
    steps: Vec<TimelineStep>,
}

/// The result of asking one source.
struct SourceResult {
    source: SourceIndex,
    fetched: Fetched,
}

/// The specification of one source's request in a batch of them.
struct BatchMember<'c> {
    source: SourceIndex,
    client: &'c Arc<Client>,
    target: Result<RequestTarget, SourceError>,
    known_part: Option<Part>,
}

impl<'c> CollectionRun<'c> {
    pub(super) fn new(
        collector: &'c Collector,
        key: &'c str,
        mut options: CollectOptions,
        context: CollectContext<'c>,
        deadline: Instant,
    ) -> Self {
        let sources = collector.domain.sources.len();
        let previous_parts = options.previous_parts.take().filter(|parts| parts.len() == sources);
        options.no_cache |= matches!(collector.domain.atomicity, Atomicity::Snapshot { .. });
        Self {
            collector,
            key,
            options,
            context,
            started: Instant::now(),
            deadline,
            round: 0,
            is_at_one_instant: true,
            parts: vec![None; sources],
            previous_parts,
            asked_at: vec![None; sources],
            steps: Vec::with_capacity(sources * 2),
        }
    }

    pub(super) async fn collect_dataset(&mut self) -> Result<Dataset, CollectError> {
        self.round = 1;
        self.fetch_parts(vec![true; self.parts.len()]).await?;
        if let Some(rounds) = self.rounds_needed() {
            self.confirm_until_unchanged(rounds).await?;
        }
        let parts = self.parts.iter_mut().map(Option::take).collect::<Option<Vec<Part>>>();
        let Some(parts) = parts else { return Err(self.deadline_error()) };
        let bytes = parts.iter().map(|part| part.json.len() as u64).sum();
        // The body is a copy of the parts, which are dropped once it is made. The memory of both
        // was reserved as the parts arrived.
        let dataset = Dataset::join(&self.collector.domain, parts, self.round);
        self.context.memory.give_back(bytes);
        Ok(dataset)
    }

    /// The most rounds of a snapshot; `None` where the first round is enough. One answer of one
    /// source is a snapshot as it is, and so is one transaction; several pages of one source are
    /// several answers.
    fn rounds_needed(&self) -> Option<u32> {
        let Atomicity::Snapshot { rounds } = self.collector.domain.atomicity else { return None };
        let is_one_answer = match self.collector.domain.sources.as_slice() {
            _ if !self.is_at_one_instant => false,
            [only] => {
                let pages = only.http().map(|http: &HttpSource| http.pages);
                !matches!(pages, Some(Pages::Follow { .. }))
            }
            sources => self.is_one_transaction(sources),
        };
        (!is_one_answer).then_some(rounds.get())
    }

    fn is_one_transaction(&self, sources: &[Source]) -> bool {
        let clients = &self.collector.clients;
        clients.iter().all(|client| client.shares_transaction_with(&clients[0]))
            && sources.iter().all(|source| source.needs.is_empty())
    }

    async fn confirm_until_unchanged(&mut self, rounds: u32) -> Result<(), CollectError> {
        loop {
            self.round += 1;
            let changed = self.confirm().await?;
            if !changed.contains(&true) {
                return Ok(());
            }
            if self.round >= rounds {
                return Err(self.contended_error(&changed));
            }
            self.fetch_parts(self.dependants(&changed)).await?;
        }
    }

    /// Fetches the parts marked in `stale`, each as soon as the parts that it needs have arrived.
    async fn fetch_parts(&mut self, stale: Vec<bool>) -> Result<(), CollectError> {
        let mut waiting = stale;
        for (part, stale) in self.parts.iter_mut().zip(&waiting) {
            if *stale {
                let dropped = part.take();
                self.context
                    .memory
                    .give_back(dropped.map_or(0, |part| BODY_COPIES * part.json.len() as u64));
            }
        }
        let mut pending = FuturesUnordered::new();
        loop {
            for batch in self.batches(self.ready_sources(&waiting)) {
                for source in &batch {
                    waiting[source.0] = false;
                }
                let known = |source| (source, self.previous_part(source));
                let batch = batch.into_iter().map(known).collect();
                pending.push(self.ask_batch(batch));
            }
            let Some(answered) = pending.next().await else { return Ok(()) };
            let fetched = self.record_batch(answered);
            for (source, answer) in self.settle(fetched, &mut pending)? {
                let part = match answer {
                    SourceAnswer::Part(part) => Some(part),
                    SourceAnswer::Unchanged => {
                        self.previous_parts.as_ref().map(|before| before[source.0].clone())
                    }
                    SourceAnswer::NotFound => return Err(self.not_found_error(source)),
                };
                if part.is_none() {
                    let failure = self.unexpected_304(source);
                    return Err(self.collect_failures(vec![failure], &mut pending));
                }
                self.parts[source.0] = part;
            }
        }
    }

    /// Asks every source whether its part is still current; replaces the parts that changed, and
    /// returns which did.
    async fn confirm(&mut self) -> Result<Vec<bool>, CollectError> {
        let mut pending = FuturesUnordered::new();
        for batch in self.batches((0..self.parts.len()).map(SourceIndex).collect()) {
            let known = |source: SourceIndex| (source, self.parts[source.0].clone());
            let batch = batch.into_iter().map(known).collect();
            pending.push(self.ask_batch(batch));
        }
        let mut fresh: Vec<Option<Part>> = vec![None; self.parts.len()];
        while let Some(answered) = pending.next().await {
            let fetched = self.record_batch(answered);
            for (source, answer) in self.settle(fetched, &mut pending)? {
                match answer {
                    SourceAnswer::Unchanged => {}
                    SourceAnswer::Part(part) => fresh[source.0] = Some(part),
                    SourceAnswer::NotFound => return Err(self.not_found_error(source)),
                }
            }
        }
        let changed = fresh.iter().map(Option::is_some).collect();
        for (part, fresh) in self.parts.iter_mut().zip(fresh) {
            if let Some(fresh) = fresh {
                let replaced = part.replace(fresh);
                self.context
                    .memory
                    .give_back(replaced.map_or(0, |part| BODY_COPIES * part.json.len() as u64));
            }
        }
        Ok(changed)
    }

    fn ready_sources(&self, waiting: &[bool]) -> Vec<SourceIndex> {
        let has = |needed: &SourceIndex| self.parts[needed.0].is_some();
        let sources = self.collector.domain.sources.iter().enumerate();
        sources
            .filter(|(index, source)| waiting[*index] && source.needs.iter().all(has))
            .map(|(index, _)| SourceIndex(index))
            .collect()
    }

    /// The parts that depend, directly or over other parts, on a part that changed.
    fn dependants(&self, changed: &[bool]) -> Vec<bool> {
        let sources = &self.collector.domain.sources;
        let mut stale = vec![false; sources.len()];
        // The sources form a DAG, so the length of its longest path bounds the passes.
        for _ in 0..sources.len() {
            for (index, source) in sources.iter().enumerate() {
                stale[index] |=
                    source.needs.iter().any(|needed| changed[needed.0] || stale[needed.0]);
            }
        }
        stale
    }

    /// The part of an earlier dataset that a source may confirm in the first round: only if the
    /// request has the same URL as it had then.
    fn previous_part(&self, source: SourceIndex) -> Option<Part> {
        let before = self.previous_parts.as_ref().filter(|_| self.round == 1)?;
        let previous_target = self.request_target(source, |needed| before.get(needed.0)).ok()?;
        let target = self.request_target(source, |needed| self.parts[needed.0].as_ref()).ok()?;
        (previous_target == target).then(|| before[source.0].clone())
    }

    fn request_target<'p>(
        &'p self,
        source: SourceIndex,
        part: impl Fn(SourceIndex) -> Option<&'p Part>,
    ) -> Result<RequestTarget, SourceError> {
        let named = |needed| (self.collector.source_name(needed).as_ref(), part(needed));
        render_target(self.collector.clients[source.0].source(), self.key, named)
    }

    /// The sources, those together that share a transaction.
    fn batches(&self, sources: Vec<SourceIndex>) -> Vec<Vec<SourceIndex>> {
        let clients = &self.collector.clients;
        let mut batches: Vec<Vec<SourceIndex>> = Vec::with_capacity(sources.len());
        for source in sources {
            let client = &clients[source.0];
            let shared = batches
                .iter_mut()
                .find(|batch| client.shares_transaction_with(&clients[batch[0].0]));
            match shared {
                Some(batch) => batch.push(source),
                None => batches.push(vec![source]),
            }
        }
        batches
    }

    /// Asks sources together, each with the validator of the part that is known. The future borrows
    /// only the plan, so that the run can go on.
    fn ask_batch(
        &mut self,
        batch: Vec<(SourceIndex, Option<Part>)>,
    ) -> impl Future<Output = Vec<SourceResult>> + use<'c> {
        let mut members = Vec::with_capacity(batch.len());
        for (source, known_part) in batch {
            self.asked_at[source.0] = Some(Instant::now());
            self.context.unanswered.add(source);
            members.push(BatchMember {
                source,
                client: &self.collector.clients[source.0],
                target: self.request_target(source, |needed| self.parts[needed.0].as_ref()),
                known_part,
            });
        }
        let deadline = self.deadline;
        let no_cache = self.options.no_cache;
        let trace = self.options.trace.clone();
        let CollectContext { memory, outstanding, .. } = self.context;
        async move {
            if let Some(unrendered) = refuse_unrendered(&members) {
                return unrendered;
            }
            let requests = members.iter().filter_map(|member| {
                let request = PartRequest {
                    target: member.target.as_ref().ok()?,
                    known_part: member.known_part.as_ref(),
                    no_cache,
                    deadline,
                    trace: &trace,
                    memory,
                    outstanding,
                };
                Some((member.client.as_ref(), request))
            });
            let fetched = fetch_together(requests.collect()).await;
            let sources = members.iter().map(|member| member.source);
            sources.zip(fetched).map(|(source, fetched)| SourceResult { source, fetched }).collect()
        }
    }

    /// Notes the results of a batch, and returns those of the sources that were reached.
    fn record_batch(
        &mut self,
        batch: Vec<SourceResult>,
    ) -> Vec<(SourceIndex, Result<SourceAnswer, SourceError>)> {
        let sources: Vec<SourceIndex> = batch.iter().map(|answered| answered.source).collect();
        let mut results: Vec<_> =
            batch.into_iter().filter_map(|it| Some((it.source, self.record(it)?))).collect();
        // A source is left unread only because another one of its transaction failed.
        if results.iter().all(|(_, result)| result.is_ok()) {
            let is_read = |source: &SourceIndex| results.iter().any(|(read, _)| read == source);
            let unread: Vec<_> = sources.into_iter().filter(|it| !is_read(it)).collect();
            results.extend(unread.into_iter().map(|source| {
                let detail = "was not read, and no other source says why".to_owned();
                (source, Err(self.source_failure(source, Reason::Status, detail)))
            }));
        }
        results
    }

    fn record(&mut self, answered: SourceResult) -> Option<Result<SourceAnswer, SourceError>> {
        let SourceResult { source, fetched } = answered;
        let Fetched { result, attempts, at_one_instant } = fetched;
        self.is_at_one_instant &= at_one_instant;
        self.context.unanswered.remove(source);
        let asked_at = self.asked_at[source.0].take().unwrap_or(self.started);
        let result = result?;
        let outcome = match &result {
            Ok(SourceAnswer::Part(_)) => StepOutcome::Part,
            Ok(SourceAnswer::Unchanged) => StepOutcome::Unchanged,
            Ok(SourceAnswer::NotFound) => StepOutcome::NotFound,
            Err(failure) => StepOutcome::Failed(failure.reason),
        };
        self.record_step(source, asked_at, outcome, attempts);
        Some(result)
    }

    /// The answers of a batch; or, if any of its sources failed, the error of the collection.
    fn settle<F>(
        &mut self,
        batch: Vec<(SourceIndex, Result<SourceAnswer, SourceError>)>,
        pending: &mut FuturesUnordered<F>,
    ) -> Result<Vec<(SourceIndex, SourceAnswer)>, CollectError>
    where
        F: Future<Output = Vec<SourceResult>>,
    {
        let mut answers = Vec::with_capacity(batch.len());
        let mut failures = Vec::new();
        for (source, result) in batch {
            match result {
                Ok(answer) => answers.push((source, answer)),
                Err(failure) => failures.push(failure),
            }
        }
        if failures.is_empty() {
            Ok(answers)
        } else {
            Err(self.collect_failures(failures, pending))
        }
    }

    fn record_step(
        &mut self,
        source: SourceIndex,
        asked_at: Instant,
        outcome: StepOutcome,
        attempts: Vec<Attempt>,
    ) {
        self.steps.push(TimelineStep {
            source: self.collector.source_name(source).clone(),
            round: self.round,
            offset: asked_at - self.started,
            took: asked_at.elapsed(),
            outcome,
            attempts,
        });
    }

    fn not_found_error(&self, source: SourceIndex) -> CollectError {
        CollectError::NotFound { source_name: self.collector.source_name(source).clone() }
    }

    /// The error with these failures and those of the other sources that have failed by now.
    fn collect_failures<F>(
        &mut self,
        mut failures: Vec<SourceError>,
        pending: &mut FuturesUnordered<F>,
    ) -> CollectError
    where
        F: Future<Output = Vec<SourceResult>>,
    {
        while let Some(Some(answered)) = pin!(pending.next()).now_or_never() {
            let others = self.record_batch(answered).into_iter();
            failures.extend(others.filter_map(|(_, result)| result.err()));
        }
        if let Some(failure) = failures.iter().find(|failure| failure.reason == Reason::BadKey) {
            return CollectError::BadKey {
                source_name: Arc::clone(&failure.source_name),
                detail: failure.detail.clone(),
            };
        }
        if failures.iter().any(|failure| failure.reason == Reason::NoMemory) {
            return CollectError::no_memory();
        }
        let deadline_passed = Instant::now() >= self.deadline;
        if deadline_passed {
            failures.extend(self.timeout_failures());
        }
        CollectError::Failed { failures, deadline_passed }
    }

    /// The error where the deadline has passed: a timeout of every source that has not answered.
    pub(super) fn deadline_error(&mut self) -> CollectError {
        CollectError::Failed { failures: self.timeout_failures(), deadline_passed: true }
    }

    fn timeout_failures(&mut self) -> Vec<SourceError> {
        let mut failures = Vec::new();
        for index in 0..self.asked_at.len() {
            let Some(asked_at) = self.asked_at[index].take() else { continue };
            let source = SourceIndex(index);
            self.record_step(source, asked_at, StepOutcome::Failed(Reason::Timeout), Vec::new());
            let detail = format!(
                "gave no answer within {} ms, the dataset's deadline is {} ms",
                asked_at.elapsed().as_millis(),
                self.collector.domain.deadline.as_millis()
            );
            failures.push(self.source_failure(source, Reason::Timeout, detail));
        }
        failures
    }

    fn contended_error(&self, changed: &[bool]) -> CollectError {
        let detail = format!("changed in each of {} rounds", self.round);
        let mut failures = Vec::new();
        for (index, _) in changed.iter().enumerate().filter(|(_, changed)| **changed) {
            let failure = self.source_failure(SourceIndex(index), Reason::Changed, detail.clone());
            self.collector.clients[index].count_failure(&failure);
            failures.push(failure);
        }
        CollectError::Failed { failures, deadline_passed: false }
    }

    fn unexpected_304(&self, source: SourceIndex) -> SourceError {
        self.source_failure(
            source,
            Reason::Status,
            "said that nothing changed, though nothing was known".to_owned(),
        )
    }

    fn source_failure(&self, source: SourceIndex, reason: Reason, detail: String) -> SourceError {
        SourceError {
            source_name: self.collector.source_name(source).clone(),
            reason,
            detail,
            retry: false,
            retry_after: None,
        }
    }

    pub(super) fn into_timeline(self, started: Instant) -> Timeline {
        Timeline { started, took: started.elapsed(), steps: self.steps }
    }
}

/// The results of a batch of which a request cannot be rendered: its sources have failed, and the
/// others are not asked.
fn refuse_unrendered(members: &[BatchMember<'_>]) -> Option<Vec<SourceResult>> {
    members.iter().find(|member| member.target.is_err())?;
    let refuse = |member: &BatchMember<'_>| {
        let failure = member.target.as_ref().err().cloned();
        if let Some(failure) = &failure {
            member.client.count_failure(failure);
        }
        let result = failure.map(Err);
        let fetched = Fetched { result, attempts: Vec::new(), at_one_instant: false };
        SourceResult { source: member.source, fetched }
    };
    Some(members.iter().map(refuse).collect())
}
