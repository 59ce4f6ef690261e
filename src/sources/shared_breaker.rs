//! The breaker as requests share it: a short lock around the pure machine, and a pass that is given
//! back in any case.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::breaker::{Admission, AttemptHealth, Breaker, BreakerState};

/// The breaker of one source.
#[derive(Debug)]
pub(super) struct SharedBreaker {
    /// Held for a few comparisons, never across an `.await`.
    breaker: Mutex<Breaker>,
    /// How many breakers of this source's name are not closed.
    open: Gauge,
    source: Arc<str>,
}

impl SharedBreaker {
    pub(super) fn new(source: Arc<str>, open: Gauge) -> Self {
        Self {
            breaker: Mutex::new(Breaker::new(Instant::now(), fastrand::Rng::new())),
            open,
            source,
        }
    }

    /// How long a request would be refused, without taking the place of a probe.
    pub(super) fn refusal_wait(&self) -> Option<Duration> {
        self.lock().refusal_wait(Instant::now())
    }

    /// Lets one request pass, or says how long to wait.
    pub(super) fn admit(&self) -> Result<Permit<'_>, Duration> {
        let admission = self.lock().admit(Instant::now())?;
        Ok(Permit { breaker: self, admission: Some(admission) })
    }

    pub(super) fn state(&self) -> BreakerState {
        self.lock().state(Instant::now())
    }

    fn settle(&self, admission: Admission, health: AttemptHealth) {
        let now = Instant::now();
        let (before, after) = {
            let mut breaker = self.lock();
            let before = breaker.state(now);
            breaker.settle(admission, health, now);
            (before, breaker.state(now))
        };
        match (before, after) {
            (BreakerState::Closed, BreakerState::Open) => {
                self.open.inc();
                tracing::warn!(source_name = %self.source, "the circuit breaker opened: \
                     too many requests failed");
            }
            (BreakerState::HalfOpen | BreakerState::Open, BreakerState::Closed) => {
                self.open.dec();
                tracing::info!(source_name = %self.source, "the circuit breaker closed: \
                     a probe was answered");
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock()
    }
}

impl Drop for SharedBreaker {
    fn drop(&mut self) {
        if self.state() != BreakerState::Closed {
            self.open.dec();
        }
    }
}

/// The permission for one request; dropped without a report, it was cancelled.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    breaker: &'a SharedBreaker,
    admission: Option<Admission>,
}

impl Permit<'_> {
    pub(super) fn report(mut self, health: AttemptHealth) {
        if let Some(admission) = self.admission.take() {
            self.breaker.settle(admission, health);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            self.breaker.settle(admission, AttemptHealth::Unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::sources::breaker::FAILURES_IN_A_ROW;

    #[test]
    fn a_dropped_probe_leaves_its_place_and_the_gauge_follows_the_breaker() {
        let gauge = Gauge::default();
        let gate = SharedBreaker::new("orders".into(), gauge.clone());
        for _ in 0..FAILURES_IN_A_ROW {
            gate.admit().unwrap().report(AttemptHealth::Unhealthy);
        }
        assert_eq!((gate.admit().is_err(), gauge.get()), (true, 1));
        // The same again, a minute ago: its time is over.
        let past = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
        let mut breaker = Breaker::new(past, fastrand::Rng::with_seed(1));
        for _ in 0..FAILURES_IN_A_ROW {
            let admission = breaker.admit(past).unwrap();
            breaker.settle(admission, AttemptHealth::Unhealthy, past);
        }
        *gate.lock() = breaker;
        let probe = gate.admit().unwrap();
        assert!(gate.admit().is_err() && gate.refusal_wait().is_some());
        drop(probe);
        let probe = gate.admit().unwrap();
        assert_eq!(gauge.get(), 1);
        probe.report(AttemptHealth::Healthy);
        assert_eq!((gate.state(), gauge.get()), (BreakerState::Closed, 0));
    }

    #[test]
    fn a_gate_that_goes_while_open_takes_its_count_along() {
        let gauge = Gauge::default();
        let gate = SharedBreaker::new("orders".into(), gauge.clone());
        for _ in 0..FAILURES_IN_A_ROW {
            gate.admit().unwrap().report(AttemptHealth::Unhealthy);
        }
        drop(gate);
        assert_eq!(gauge.get(), 0);
    }
}
