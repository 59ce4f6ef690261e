//! A circuit breaker as a pure state machine: outcomes and instants in, a decision out. No lock, no
//! clock, bounded memory.
//!
//! It opens when [`FAILURES_IN_A_ROW`] outcomes in a row were ill, or when at least half of at least
//! [`WINDOW_MIN`] outcomes of the last ten seconds were. Random errors of 10 % do not open it: 20
//! in a row have probability 1e-20, and 25 or more of 50 have probability 1.0e-12 (binomial tail),
//! so even five outcomes a second, each judged anew, open it less than once in 6 000 years. Errors
//! of 50 % do open it, and are meant to.

use std::time::Duration;

use tokio::time::Instant;

/// So many ill outcomes in a row open it.
pub(super) const FAILURES_IN_A_ROW: u32 = 20;
/// The window is judged from so many outcomes on.
pub(super) const WINDOW_MIN: u32 = 50;
/// The window, in slots of a second.
const WINDOW_SLOTS: usize = 10;
/// How long it stays open the first time, and at most. Each is spread by a fifth either way.
const OPEN_FIRST: Duration = Duration::from_secs(5);
const OPEN_MAX: Duration = Duration::from_secs(30);
/// What callers are told while another request probes.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// What an outcome says about the source's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptHealth {
    /// It answered, if only to refuse: statuses below 500, a body that is no JSON.
    Healthy,
    /// No connection, a wrong identity, no answer in time, a broken answer, a 5xx.
    Unhealthy,
    /// Nothing was learnt: cancelled, or it had too little time.
    Unknown,
}

/// The permission for one request, handed back with its outcome.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admission {
    generation: u64,
}

/// Where the breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// None passes.
    Open,
    /// One at a time passes, to see whether the source is back.
    HalfOpen,
}

impl BreakerState {
    /// The word for it: `closed`, `open` or `half-open`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

#[derive(Debug)]
enum BreakerPhase {
    Closed,
    Open { until: Instant },
    HalfOpen { probing: bool },
}

/// The breaker of one source.
#[derive(Debug)]
pub(super) struct Breaker {
    phase: BreakerPhase,
    /// Counts changes of state, so that an outcome from before one is not taken for one from after
    /// it.
    generation: u64,
    in_a_row: u32,
    window: Window,
    /// How often it opened since the source was last well.
    openings: u32,
    rng: fastrand::Rng,
}

impl Breaker {
    pub(super) fn new(now: Instant, rng: fastrand::Rng) -> Self {
        Self {
            phase: BreakerPhase::Closed,
            generation: 0,
            in_a_row: 0,
            window: Window::new(now),
            openings: 0,
            rng,
        }
    }

    /// How long a request would have to wait, without taking the place of a probe.
    pub(super) fn refusal_wait(&self, now: Instant) -> Option<Duration> {
        match self.phase {
            BreakerPhase::Open { until } if now < until => Some(until - now),
            BreakerPhase::HalfOpen { probing: true } => Some(PROBE_WAIT),
            _ => None,
        }
    }

    /// Lets a request pass, or says how long to wait.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Admission, Duration> {
        if let Some(wait) = self.refusal_wait(now) {
            return Err(wait);
        }
        match self.phase {
            BreakerPhase::Closed => {}
            BreakerPhase::Open { .. } => {
                self.change_phase(BreakerPhase::HalfOpen { probing: true });
            }
            BreakerPhase::HalfOpen { .. } => self.phase = BreakerPhase::HalfOpen { probing: true },
        }
        Ok(Admission { generation: self.generation })
    }

    /// Takes the outcome of an admitted request. One from before the last change of state says
    /// nothing any more.
    pub(super) fn settle(&mut self, admission: Admission, health: AttemptHealth, now: Instant) {
        if admission.generation != self.generation {
            return;
        }
        match (&self.phase, health) {
            (BreakerPhase::Closed, AttemptHealth::Unknown) | (BreakerPhase::Open { .. }, _) => {}
            (BreakerPhase::Closed, _) => self.count_outcome(health, now),
            (BreakerPhase::HalfOpen { .. }, AttemptHealth::Healthy) => self.close(now),
            (BreakerPhase::HalfOpen { .. }, AttemptHealth::Unhealthy) => self.open(now),
            (BreakerPhase::HalfOpen { .. }, AttemptHealth::Unknown) => {
                self.phase = BreakerPhase::HalfOpen { probing: false }
            }
        }
    }

    /// Where it stands; an open breaker whose time is over counts as half-open.
    pub(super) fn state(&self, now: Instant) -> BreakerState {
        match self.phase {
            BreakerPhase::Closed => BreakerState::Closed,
            BreakerPhase::Open { until } if now < until => BreakerState::Open,
            BreakerPhase::Open { .. } | BreakerPhase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    fn count_outcome(&mut self, health: AttemptHealth, now: Instant) {
        let ill = health == AttemptHealth::Unhealthy;
        self.in_a_row = if ill { self.in_a_row.saturating_add(1) } else { 0 };
        self.window.add(now, ill);
        let (all, failed) = self.window.totals(now);
        if ill
            && (self.in_a_row >= FAILURES_IN_A_ROW
                || (all >= WINDOW_MIN && failed.saturating_mul(2) >= all))
        {
            self.open(now);
        }
    }

    fn open(&mut self, now: Instant) {
        let base = OPEN_FIRST.saturating_mul(1 << self.openings.min(8)).min(OPEN_MAX);
        let spread = 0.8 + 0.4 * self.rng.f64();
        self.openings = self.openings.saturating_add(1);
        self.change_phase(BreakerPhase::Open { until: now + base.mul_f64(spread) });
    }

    fn close(&mut self, now: Instant) {
        self.openings = 0;
        self.in_a_row = 0;
        self.window = Window::new(now);
        self.change_phase(BreakerPhase::Closed);
    }

    fn change_phase(&mut self, state: BreakerPhase) {
        self.generation += 1;
        self.phase = state;
    }
}

/// Counts of the last seconds, in a ring: its memory does not grow with the traffic.
#[derive(Debug)]
struct Window {
    began: Instant,
    slots: [WindowSlot; WINDOW_SLOTS],
}

#[derive(Debug, Clone, Copy, Default)]
struct WindowSlot {
    second: u64,
    outcomes: u32,
    failed: u32,
}

impl Window {
    fn new(began: Instant) -> Self {
        Self { began, slots: [WindowSlot::default(); WINDOW_SLOTS] }
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs()
    }

    fn add(&mut self, now: Instant, failed: bool) {
        let second = self.second(now);
        let place = usize::try_from(second % WINDOW_SLOTS as u64).unwrap_or_default();
        let slot = &mut self.slots[place];
        if slot.second != second {
            *slot = WindowSlot { second, ..WindowSlot::default() };
        }
        slot.outcomes = slot.outcomes.saturating_add(1);
        slot.failed = slot.failed.saturating_add(u32::from(failed));
    }

    fn totals(&self, now: Instant) -> (u32, u32) {
        let second = self.second(now);
        let recent = self.slots.iter().filter(|slot| slot.second + WINDOW_SLOTS as u64 > second);
        recent.fold((0, 0), |(all, failed), slot| {
            (all.saturating_add(slot.outcomes), failed.saturating_add(slot.failed))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn breaker() -> (Breaker, Instant) {
        let now = Instant::now();
        (Breaker::new(now, fastrand::Rng::with_seed(7)), now)
    }

    fn outcome(breaker: &mut Breaker, health: AttemptHealth, now: Instant) {
        let admission = breaker.admit(now).unwrap();
        breaker.settle(admission, health, now);
    }

    fn opened() -> (Breaker, Instant) {
        let (mut breaker, now) = breaker();
        (0..FAILURES_IN_A_ROW).for_each(|_| outcome(&mut breaker, AttemptHealth::Unhealthy, now));
        assert_eq!(breaker.state(now), BreakerState::Open);
        (breaker, now)
    }

    #[test]
    fn twenty_ill_outcomes_in_a_row_open_it_and_nineteen_do_not() {
        let (mut breaker, now) = breaker();
        for _ in 0..3 {
            (0..FAILURES_IN_A_ROW - 1)
                .for_each(|_| outcome(&mut breaker, AttemptHealth::Unhealthy, now));
            // Many good ones between keep the window's share low, so that only the row is judged
            // here.
            (0..FAILURES_IN_A_ROW * 2)
                .for_each(|_| outcome(&mut breaker, AttemptHealth::Healthy, now));
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
        (0..FAILURES_IN_A_ROW).for_each(|_| outcome(&mut breaker, AttemptHealth::Unhealthy, now));
        assert_eq!(breaker.state(now), BreakerState::Open);
    }

    #[test]
    fn half_of_fifty_in_ten_seconds_opens_it_and_in_more_time_does_not() {
        for (step_ms, expected) in [(100, BreakerState::Open), (1_000, BreakerState::Closed)] {
            let (mut breaker, mut now) = breaker();
            for i in 0..WINDOW_MIN {
                outcome(
                    &mut breaker,
                    if i % 2 == 0 { AttemptHealth::Healthy } else { AttemptHealth::Unhealthy },
                    now,
                );
                now += Duration::from_millis(step_ms);
            }
            assert_eq!(breaker.state(now), expected, "with a step of {step_ms} ms");
        }
    }

    #[test]
    fn random_errors_of_ten_percent_never_open_it() {
        let (mut breaker, mut now) = breaker();
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..1_000_000 {
            let health =
                if rng.f64() < 0.1 { AttemptHealth::Unhealthy } else { AttemptHealth::Healthy };
            outcome(&mut breaker, health, now);
            now += Duration::from_millis(rng.u64(0..200));
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }

    #[test]
    fn it_stays_open_five_seconds_then_ten_then_twenty_then_thirty_within_a_fifth() {
        let (mut breaker, mut now) = opened();
        for seconds in [5.0, 10.0, 20.0, 30.0, 30.0] {
            let wait = breaker.admit(now).unwrap_err().as_secs_f64();
            assert!((seconds * 0.8..=seconds * 1.2).contains(&wait), "{wait} of {seconds}");
            now += Duration::from_secs_f64(wait) + Duration::from_millis(1);
            outcome(&mut breaker, AttemptHealth::Unhealthy, now);
        }
    }

    #[test]
    fn one_probe_at_a_time_passes_and_a_good_one_closes_it() {
        let (mut breaker, now) = opened();
        let later = now + Duration::from_secs(7);
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        let probe = breaker.admit(later).unwrap();
        assert_eq!(breaker.admit(later).unwrap_err(), PROBE_WAIT);
        breaker.settle(probe, AttemptHealth::Healthy, later);
        assert_eq!(breaker.state(later), BreakerState::Closed);
        (0..FAILURES_IN_A_ROW - 1)
            .for_each(|_| outcome(&mut breaker, AttemptHealth::Unhealthy, later));
        assert_eq!(breaker.state(later), BreakerState::Closed, "it counts anew");
    }

    #[test]
    fn a_cancelled_probe_leaves_the_place_to_the_next() {
        let (mut breaker, now) = opened();
        let later = now + Duration::from_secs(7);
        let probe = breaker.admit(later).unwrap();
        breaker.settle(probe, AttemptHealth::Unknown, later);
        assert!(breaker.admit(later).is_ok());
    }

    #[test]
    fn an_outcome_from_before_it_opened_closes_nothing() {
        let (mut breaker, now) = breaker();
        let early = breaker.admit(now).unwrap();
        (0..FAILURES_IN_A_ROW).for_each(|_| outcome(&mut breaker, AttemptHealth::Unhealthy, now));
        breaker.settle(early, AttemptHealth::Healthy, now);
        assert_eq!(breaker.state(now), BreakerState::Open);
        let probe = breaker.admit(now + Duration::from_secs(7)).unwrap();
        breaker.settle(early, AttemptHealth::Unhealthy, now);
        breaker.settle(probe, AttemptHealth::Healthy, now + Duration::from_secs(7));
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }

    #[test]
    fn what_is_unknown_is_not_counted() {
        let (mut breaker, now) = breaker();
        (0..1_000).for_each(|_| outcome(&mut breaker, AttemptHealth::Unknown, now));
        (0..FAILURES_IN_A_ROW - 1)
            .for_each(|_| outcome(&mut breaker, AttemptHealth::Unhealthy, now));
        assert_eq!(breaker.state(now), BreakerState::Closed);
    }
}
