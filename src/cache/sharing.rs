//! A caller and the flights of its key: which one it joins or begins, and how long it waits.
//! Sharing never costs an answer: a caller that waits for others keeps enough of its own deadline
//! to collect for itself, and does so when that time has come.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::flight::{FlightOrigin, FlightResult, FlightWaiter, JoinRule, WaitOutcome};
use super::flight_table::FlightTable;
use super::metrics::CacheMetrics;
use super::patience::Patience;
use super::read_options::ReadOptions;
use super::served::ReadError;
use crate::collect::{CollectError, Collector};
use crate::domain::SourceIndex;

/// How many flights a caller joins or starts at most, one after the other, where they are lost (a
/// panic).
const JOINS_MAX: usize = 2;

/// One caller: its request, and how long it can wait for other flights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'o> {
    pub(super) options: &'o ReadOptions,
    /// Only the sources will do, in a flight that begins after it came.
    pub(super) sources_only: bool,
    pub(super) patience: Patience,
}

/// The result of waiting, whichever flight brought it.
struct CallerOutcome {
    outcome: WaitOutcome,
    /// Others had begun the flight.
    joined: bool,
    /// The sources to name where no result came.
    unanswered: Vec<SourceIndex>,
}

/// The flights of one domain as callers share them. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct SharedFlights {
    pub(super) table: FlightTable,
    pub(super) collector: Arc<Collector>,
    pub(super) metrics: CacheMetrics,
}

impl Caller<'_> {
    /// Which flights it may join: the result of a flight is as old as the flight.
    fn rule(&self) -> JoinRule {
        if self.sources_only {
            return JoinRule::NONE;
        }
        JoinRule::ANY.and_within(self.options.max_age.unwrap_or(Duration::MAX))
    }
}

impl SharedFlights {
    /// The result of a flight that is not too old for this caller, and whether that flight was
    /// begun by others. An entry that another's flight found in Redis may be too old: then a flight
    /// of the caller's own asks the sources.
    pub(super) async fn result_for(
        &self,
        key: &Arc<str>,
        caller: Caller<'_>,
    ) -> Result<(Arc<FlightResult>, bool), ReadError> {
        let (flight, joined) = self.join_and_wait(key, caller).await?;
        let found = flight.result.as_ref().ok().filter(|_| flight.origin == FlightOrigin::Redis);
        if found.is_some_and(|entry| caller.options.is_too_old(entry, Instant::now())) {
            return self.join_and_wait(key, Caller { sources_only: true, ..caller }).await;
        }
        Ok((flight, joined))
    }

    async fn join_and_wait(
        &self,
        key: &Arc<str>,
        caller: Caller<'_>,
    ) -> Result<(Arc<FlightResult>, bool), ReadError> {
        for _ in 0..JOINS_MAX {
            let mut waiter = self.join_or_start(key, &caller, caller.rule())?;
            let joined = waiter.joined;
            if joined {
                self.metrics.collapsed.inc();
            }
            let CallerOutcome { outcome, joined, unanswered } =
                if joined && !waiter.waits_for_turn() {
                    self.wait_beside_others(key, &caller, &mut waiter).await
                } else {
                    let begin_by = caller.patience.begin_by;
                    let outcome = self.wait_for_turn(key, &mut waiter, begin_by, &caller).await;
                    let unanswered = waiter.progress.unanswered.sources();
                    CallerOutcome { outcome, joined, unanswered }
                };
            match outcome {
                WaitOutcome::Finished(flight) => return Ok((flight, joined)),
                WaitOutcome::Lost if Instant::now() < caller.patience.until => {}
                WaitOutcome::Lost | WaitOutcome::Pending => {
                    let error = self.collector.deadline_error(&unanswered);
                    return Err(ReadError::Collect(error, None));
                }
            }
        }
        Err(ReadError::Collect(self.collector.deadline_error(&[]), None))
    }

    fn join_or_start(
        &self,
        key: &Arc<str>,
        caller: &Caller<'_>,
        rule: JoinRule,
    ) -> Result<FlightWaiter, ReadError> {
        let Caller { options, sources_only, patience } = *caller;
        let share_until = patience.share_until;
        let waiter = self.table.join_or_start(key, options, sources_only, share_until, rule);
        waiter.ok_or_else(|| {
            self.metrics.flights_refused.inc();
            let detail = "as many collections run as may".to_owned();
            ReadError::Collect(CollectError::Overloaded { detail }, None)
        })
    }

    /// Waits for the caller's own flight. Where that has not begun by `begin_by`, when the caller
    /// needs the rest of its deadline for it, it begins then.
    async fn wait_for_turn(
        &self,
        key: &Arc<str>,
        waiter: &mut FlightWaiter,
        begin_by: Instant,
        caller: &Caller<'_>,
    ) -> WaitOutcome {
        let until = caller.patience.until;
        let mut at = if waiter.waits_for_turn() { begin_by } else { until };
        loop {
            match waiter.result_by(at).await {
                WaitOutcome::Pending if at < until => {}
                outcome => return outcome,
            }
            let again = self.table.start_waiting(key, waiter).unwrap_or(until);
            at = again.min(until);
        }
    }

    /// Waits for a flight that was under way when the caller arrived. Sharing it costs no answer:
    /// once the caller needs the rest of its deadline for a flight of its own, or once this one is
    /// late, it takes whichever of the two ends first.
    async fn wait_beside_others(
        &self,
        key: &Arc<str>,
        caller: &Caller<'_>,
        shared: &mut FlightWaiter,
    ) -> CallerOutcome {
        let patience = &caller.patience;
        let first = shared.result_by(patience.share_until).await;
        let (is_late, is_over) = match &first {
            WaitOutcome::Finished(flight) => (flight.is_late(), true),
            WaitOutcome::Lost => (false, true),
            WaitOutcome::Pending => (true, false),
        };
        let progress = shared.progress.clone();
        let of_shared = |outcome| {
            let unanswered = progress.unanswered.sources();
            CallerOutcome { outcome, joined: true, unanswered }
        };
        if !is_late || Instant::now() >= patience.until {
            return of_shared(first);
        }
        // A flight that others began for the same reason is as good as one of the caller's own.
        let rule = caller.rule().and_within(patience.young_enough());
        let Ok(mut own) = self.join_or_start(key, caller, rule) else {
            if is_over {
                return of_shared(first);
            }
            return of_shared(shared.result_by(patience.until).await);
        };
        let joined = own.joined;
        let progress = own.progress.clone();
        if !joined {
            self.metrics.unshared.inc();
        }
        let own_outcome = async {
            let outcome = self.wait_for_turn(key, &mut own, Instant::now(), caller).await;
            CallerOutcome { outcome, joined, unanswered: progress.unanswered.sources() }
        };
        let shared_outcome = async {
            match shared.result_by(patience.until).await {
                WaitOutcome::Finished(flight) if !is_over && !flight.is_late() => {
                    WaitOutcome::Finished(flight)
                }
                // The caller's own flight decides.
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            outcome = shared_outcome => of_shared(outcome),
            outcome = own_outcome => outcome,
        }
    }
}
