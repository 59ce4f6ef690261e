//! One run of the plan: the first collect, and the rounds that make it a snapshot.
//!
//! Round 1 asks every source as soon as the parts that its URL names are there. In `snapshot` mode
//! a further round, begun after the last part has arrived, asks every source again. If nothing
//! changed, every part was current at the instant between the two: each was read before it and
//! confirmed after it, and no part changes and changes back in between (the assumption that the
//! documentation names). If any part changed, it and what depends on it are taken anew, and *every*
//! part is confirmed in one more round; after the last allowed round the key is contended.
//!
//! One failure cancels what is left: dropping the questions drops their requests.

use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::uri::PathAndQuery;
use tokio::time::Instant;

use super::timeline::{Outcome, Step, Timeline};
use super::{CollectError, Collector, Dataset, Wish, Work};
use crate::domain::{Atomicity, Pages, SourceIndex};
use crate::sources::{Answer, Ask, Attempt, BODY_COPIES, Failure, Part, Reason, render};

pub(super) struct Run<'c> {
    collector: &'c Collector,
    key: &'c str,
    wish: Wish,
    work: Work<'c>,
    started: Instant,
    deadline: Instant,
    round: u32,
    parts: Vec<Option<Part>>,
    /// The parts of an earlier dataset, for the first round.
    before: Option<Arc<[Part]>>,
    /// When each source that has not answered yet was asked.
    asked: Vec<Option<Instant>>,
    steps: Vec<Step>,
}

/// How one question ended.
struct Ended {
    source: SourceIndex,
    result: Result<Answer, Failure>,
    attempts: Vec<Attempt>,
}

impl<'c> Run<'c> {
    pub(super) fn new(
        collector: &'c Collector,
        key: &'c str,
        mut wish: Wish,
        work: Work<'c>,
        deadline: Instant,
    ) -> Self {
        let sources = collector.domain.sources.len();
        let before = wish.known.take().filter(|parts| parts.len() == sources);
        wish.no_cache |= matches!(collector.domain.atomicity, Atomicity::Snapshot { .. });
        Self {
            collector,
            key,
            wish,
            work,
            started: Instant::now(),
            deadline,
            round: 0,
            parts: vec![None; sources],
            before,
            asked: vec![None; sources],
            steps: Vec::with_capacity(sources * 2),
        }
    }

    pub(super) async fn dataset(&mut self) -> Result<Dataset, CollectError> {
        self.round = 1;
        self.take(vec![true; self.parts.len()]).await?;
        if let Some(rounds) = self.rounds_needed() {
            self.confirm_until_still(rounds).await?;
        }
        let parts: Vec<Part> = self.parts.iter_mut().filter_map(Option::take).collect();
        let bytes = parts.iter().map(|part| part.json.len() as u64).sum();
        // The body is a copy of the parts, which go once it is made. Both were reserved as the
        // parts came.
        let dataset = Dataset::join(&self.collector.domain, parts, self.round);
        self.work.memory.give_back(bytes);
        Ok(dataset)
    }

    /// The most rounds of a snapshot; `None` where the first collect is enough. One answer of one
    /// source is a snapshot as it is; one source's several pages are several answers.
    fn rounds_needed(&self) -> Option<u32> {
        let Atomicity::Snapshot { rounds } = self.collector.domain.atomicity else { return None };
        match self.collector.domain.sources.as_slice() {
            [only] if !matches!(only.http.pages, Pages::Follow { .. }) => None,
            _ => Some(rounds.get()),
        }
    }

    async fn confirm_until_still(&mut self, rounds: u32) -> Result<(), CollectError> {
        loop {
            self.round += 1;
            let changed = self.confirm().await?;
            if !changed.contains(&true) {
                return Ok(());
            }
            if self.round >= rounds {
                return Err(self.contended(&changed));
            }
            self.take(self.dependants(&changed)).await?;
        }
    }

    /// Takes the parts marked in `stale` anew, each as soon as what it needs is there.
    async fn take(&mut self, stale: Vec<bool>) -> Result<(), CollectError> {
        let mut waiting = stale;
        for (part, stale) in self.parts.iter_mut().zip(&waiting) {
            if *stale {
                let dropped = part.take();
                self.work
                    .memory
                    .give_back(dropped.map_or(0, |part| BODY_COPIES * part.json.len() as u64));
            }
        }
        let mut questions = FuturesUnordered::new();
        loop {
            for source in self.ready(&waiting) {
                waiting[source.0] = false;
                let known = self.known_before(source);
                questions.push(self.question(source, known));
            }
            let Some(ended) = questions.next().await else { return Ok(()) };
            let source = ended.source;
            match self.note(ended) {
                Ok(Answer::Part(part)) => self.parts[source.0] = Some(part),
                Ok(Answer::Unchanged) => {
                    match self.before.as_ref().map(|before| before[source.0].clone()) {
                        Some(part) => self.parts[source.0] = Some(part),
                        None => return Err(self.failed(self.unasked_304(source), &mut questions)),
                    }
                }
                Ok(Answer::NotFound) => return Err(self.not_found(source)),
                Err(failure) => return Err(self.failed(failure, &mut questions)),
            }
        }
    }

    /// Asks every source whether its part is still current; returns which changed (their new parts
    /// are in place).
    async fn confirm(&mut self) -> Result<Vec<bool>, CollectError> {
        let mut questions = FuturesUnordered::new();
        for index in 0..self.parts.len() {
            let known = self.parts[index].clone();
            questions.push(self.question(SourceIndex(index), known));
        }
        let mut fresh: Vec<Option<Part>> = vec![None; self.parts.len()];
        while let Some(ended) = questions.next().await {
            let source = ended.source;
            match self.note(ended) {
                Ok(Answer::Unchanged) => {}
                Ok(Answer::Part(part)) => fresh[source.0] = Some(part),
                Ok(Answer::NotFound) => return Err(self.not_found(source)),
                Err(failure) => return Err(self.failed(failure, &mut questions)),
            }
        }
        let changed = fresh.iter().map(Option::is_some).collect();
        for (part, fresh) in self.parts.iter_mut().zip(fresh) {
            if let Some(fresh) = fresh {
                let replaced = part.replace(fresh);
                self.work
                    .memory
                    .give_back(replaced.map_or(0, |part| BODY_COPIES * part.json.len() as u64));
            }
        }
        Ok(changed)
    }

    fn ready(&self, waiting: &[bool]) -> Vec<SourceIndex> {
        let has = |needed: &SourceIndex| self.parts[needed.0].is_some();
        let sources = self.collector.domain.sources.iter().enumerate();
        sources
            .filter(|(i, s)| waiting[*i] && s.needs.iter().all(has))
            .map(|(i, _)| SourceIndex(i))
            .collect()
    }

    /// What depends, over however many steps, on a part that changed.
    fn dependants(&self, changed: &[bool]) -> Vec<bool> {
        let sources = &self.collector.domain.sources;
        let mut stale = vec![false; sources.len()];
        // The sources form a DAG, so its longest path bounds the passes.
        for _ in 0..sources.len() {
            for (index, source) in sources.iter().enumerate() {
                stale[index] |= source.needs.iter().any(|n| changed[n.0] || stale[n.0]);
            }
        }
        stale
    }

    /// The part of an earlier dataset that a source may confirm in the first round: only if it was
    /// asked the very same.
    fn known_before(&self, source: SourceIndex) -> Option<Part> {
        let before = self.before.as_ref().filter(|_| self.round == 1)?;
        let then = self.target(source, |needed| before.get(needed.0)).ok()?;
        let now = self.target(source, |needed| self.parts[needed.0].as_ref()).ok()?;
        (then == now).then(|| before[source.0].clone())
    }

    fn target<'p>(
        &'p self,
        source: SourceIndex,
        part: impl Fn(SourceIndex) -> Option<&'p Part>,
    ) -> Result<PathAndQuery, Failure> {
        let template = &self.collector.clients[source.0].source().http.url;
        let named = |needed| (self.collector.name(needed).as_ref(), part(needed));
        render(self.collector.name(source), template, self.key, named)
    }

    /// Asks one source, with what is known of its part. The future borrows only the plan, so that
    /// the run can go on.
    fn question(
        &mut self,
        source: SourceIndex,
        known: Option<Part>,
    ) -> impl Future<Output = Ended> + use<'c> {
        self.asked[source.0] = Some(Instant::now());
        self.work.unanswered.add(source);
        let client = &self.collector.clients[source.0];
        let target = self.target(source, |needed| self.parts[needed.0].as_ref());
        let (deadline, no_cache, trace) =
            (self.deadline, self.wish.no_cache, self.wish.trace.clone());
        let Work { memory, outstanding, .. } = self.work;
        async move {
            let mut attempts = Vec::new();
            let result = match &target {
                Ok(target) => {
                    let known = known.as_ref();
                    let ask = Ask {
                        target,
                        known,
                        no_cache,
                        deadline,
                        trace: &trace,
                        memory,
                        outstanding,
                    };
                    client.fetch(ask, &mut attempts).await
                }
                Err(failure) => {
                    client.note(failure);
                    Err(failure.clone())
                }
            };
            Ended { source, result, attempts }
        }
    }

    fn note(&mut self, ended: Ended) -> Result<Answer, Failure> {
        let Ended { source, result, attempts } = ended;
        self.work.unanswered.remove(source);
        let asked = self.asked[source.0].take().unwrap_or(self.started);
        let outcome = match &result {
            Ok(Answer::Part(_)) => Outcome::Part,
            Ok(Answer::Unchanged) => Outcome::Unchanged,
            Ok(Answer::NotFound) => Outcome::NotFound,
            Err(failure) => Outcome::Failed(failure.reason),
        };
        self.step(source, asked, outcome, attempts);
        result
    }

    fn step(
        &mut self,
        source: SourceIndex,
        asked: Instant,
        outcome: Outcome,
        attempts: Vec<Attempt>,
    ) {
        self.steps.push(Step {
            source: self.collector.name(source).clone(),
            round: self.round,
            offset: asked - self.started,
            took: asked.elapsed(),
            outcome,
            attempts,
        });
    }

    fn not_found(&self, source: SourceIndex) -> CollectError {
        CollectError::NotFound { source_name: self.collector.name(source).clone() }
    }

    /// The failure, and those of the questions that had ended as well.
    fn failed<F>(&mut self, first: Failure, questions: &mut FuturesUnordered<F>) -> CollectError
    where
        F: Future<Output = Ended>,
    {
        let mut failures = vec![first];
        while let Some(Some(ended)) = pin!(questions.next()).now_or_never() {
            failures.extend(self.note(ended).err());
        }
        if failures.iter().any(|failure| failure.reason == Reason::NoMemory) {
            return CollectError::no_memory();
        }
        let deadline_passed = Instant::now() >= self.deadline;
        if deadline_passed {
            failures.extend(self.timeouts());
        }
        CollectError::Failed { failures, deadline_passed }
    }

    /// Every source that was asked and has not answered: the deadline has passed.
    pub(super) fn outstanding(&mut self) -> CollectError {
        CollectError::Failed { failures: self.timeouts(), deadline_passed: true }
    }

    fn timeouts(&mut self) -> Vec<Failure> {
        let mut failures = Vec::new();
        for index in 0..self.asked.len() {
            let Some(asked) = self.asked[index].take() else { continue };
            let source = SourceIndex(index);
            self.step(source, asked, Outcome::Failed(Reason::Timeout), Vec::new());
            let detail = format!(
                "gave no answer within {} ms, the dataset's deadline is {} ms",
                asked.elapsed().as_millis(),
                self.collector.domain.deadline.as_millis()
            );
            failures.push(self.failure(source, Reason::Timeout, detail));
        }
        failures
    }

    fn contended(&self, changed: &[bool]) -> CollectError {
        let detail = format!("changed in each of {} rounds", self.round);
        let mut failures = Vec::new();
        for (index, _) in changed.iter().enumerate().filter(|(_, changed)| **changed) {
            let failure = self.failure(SourceIndex(index), Reason::Changed, detail.clone());
            self.collector.clients[index].note(&failure);
            failures.push(failure);
        }
        CollectError::Failed { failures, deadline_passed: false }
    }

    fn unasked_304(&self, source: SourceIndex) -> Failure {
        self.failure(
            source,
            Reason::Status,
            "said that nothing changed, though nothing was known".to_owned(),
        )
    }

    fn failure(&self, source: SourceIndex, reason: Reason, detail: String) -> Failure {
        Failure {
            source_name: self.collector.name(source).clone(),
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
