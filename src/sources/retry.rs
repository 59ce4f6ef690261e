//! Decides when a failed request is sent again: never past the deadline, never against
//! `Retry-After`, never beyond the budget.
//!
//! The backoff grows from 10 ms to 250 ms and is drawn evenly from zero to that ("full jitter"), so
//! that callers that failed together do not come back together. A request that a source has not
//! processed (GOAWAY, `REFUSED_STREAM`) or could not answer in order (bytes of an earlier answer on
//! the connection) is sent again outside the budget, at most [`RESENDS_MAX`] times. The budget
//! allows a source a fifth of its requests of the last ten seconds as retries, and two a second
//! besides, so that an outage multiplies the traffic to a source by 1.2 at most.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;
use tower::retry::budget::{Budget as _, TpsBudget};

use super::attempt_error::{AttemptError, Resend, ResendPlan};

const BUDGET_WINDOW: Duration = Duration::from_secs(10);
const BUDGET_FREE_PER_SECOND: u32 = 2;
const BUDGET_SHARE: f32 = 0.2;
/// How many requests allow one retry.
#[cfg(any(feature = "postgres", feature = "mongodb"))]
const DEPOSITS_A_RETRY: usize = 5;

/// How often one question is sent again outside the budget. The last time it has a connection of
/// its own: a server that takes some requests on each and refuses the others by GOAWAY takes the
/// first.
pub(super) const RESENDS_MAX: usize = 3;

/// The retry budget of one source.
#[derive(Debug)]
pub(super) struct RetryBudget(TpsBudget);

impl RetryBudget {
    pub(super) fn new() -> Self {
        Self(TpsBudget::new(BUDGET_WINDOW, BUDGET_FREE_PER_SECOND, BUDGET_SHARE))
    }

    /// A new request adds to the retry budget.
    pub(super) fn deposit(&self) {
        self.0.deposit();
    }

    /// Gives back what was withdrawn for a retry that is not made: as much as one withdrawal is.
    #[cfg(any(feature = "postgres", feature = "mongodb"))]
    pub(super) fn return_token(&self) {
        for _ in 0..DEPOSITS_A_RETRY {
            self.0.deposit();
        }
    }

    /// Whether one retry more is within the budget; it is spent.
    pub(super) fn withdraw(&self) -> bool {
        self.0.withdraw()
    }
}

/// The backoff between the attempts of one request.
#[derive(Debug)]
pub(super) struct Backoff(ExponentialBackoff);

impl Backoff {
    pub(super) fn new(retries: u32) -> Self {
        Self(exponential_backoff(retries as usize))
    }

    /// When to ask again after `fault`; `None` where it is final or would pass the deadline.
    pub(super) fn next_attempt_at(
        &mut self,
        fault: &AttemptError,
        now: Instant,
        deadline: Instant,
    ) -> Option<Instant> {
        let step = if fault.retry { self.0.next()? } else { return None };
        let at = now + step.mul_f64(fastrand::f64()).max(fault.retry_after.unwrap_or_default());
        (at < deadline).then_some(at)
    }
}

fn exponential_backoff(count: usize) -> ExponentialBackoff {
    let steps =
        ExponentialBuilder::new().with_min_delay(Duration::from_millis(10)).with_factor(2.0);
    steps.with_max_delay(Duration::from_millis(250)).with_max_times(count).build()
}

/// The resends outside the budget that one request has left.
#[derive(Debug)]
pub(super) struct ResendAllowance {
    left: usize,
    backoff: ExponentialBackoff,
}

impl ResendAllowance {
    pub(super) fn new() -> Self {
        Self { left: RESENDS_MAX, backoff: exponential_backoff(RESENDS_MAX) }
    }

    /// How to send it again after `fault`; `None` where that is for the budget to decide.
    pub(super) fn plan_resend(
        &mut self,
        fault: &AttemptError,
        now: Instant,
        deadline: Instant,
    ) -> Option<ResendPlan> {
        if self.left == 0 {
            return None;
        }
        let resending = match fault.resend {
            Resend::Never => return None,
            Resend::OnFreshConnection => ResendPlan { at: now, on_fresh_connection: true },
            Resend::OnAnyConnection => {
                let at = now + self.backoff.next()?.mul_f64(fastrand::f64());
                ResendPlan { at, on_fresh_connection: self.left == 1 }
            }
        };
        // Behind a fresh connection there is no other cause left than the source itself.
        self.left = if resending.on_fresh_connection { 0 } else { self.left - 1 };
        (resending.at < deadline).then_some(resending)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::sources::Reason;

    fn fault(retry_after: Option<u64>) -> AttemptError {
        let retry_after = retry_after.map(Duration::from_millis);
        AttemptError {
            retry_after,
            ..AttemptError::of_unhealthy_source(Reason::Status, "answered 503, expected 200")
        }
    }

    #[test]
    fn pauses_stay_below_their_growing_bound_and_end() {
        let now = Instant::now();
        let deadline = now + Duration::from_mins(1);
        for _ in 0..100 {
            let mut pauses = Backoff::new(7);
            for bound in [10, 20, 40, 80, 160, 250, 250] {
                let pause = pauses.next_attempt_at(&fault(None), now, deadline).unwrap() - now;
                assert!(pause <= Duration::from_millis(bound), "{pause:?} of {bound} ms");
            }
            assert_eq!(pauses.next_attempt_at(&fault(None), now, deadline), None);
        }
    }

    #[test]
    fn a_source_that_asks_for_time_gets_it_or_is_not_asked_again() {
        let now = Instant::now();
        let deadline = now + Duration::from_secs(2);
        assert!(
            Backoff::new(1).next_attempt_at(&fault(Some(1_000)), now, deadline).unwrap()
                >= now + Duration::from_secs(1)
        );
        assert_eq!(Backoff::new(1).next_attempt_at(&fault(Some(2_000)), now, deadline), None);
    }

    #[test]
    fn what_was_not_processed_is_sent_again_a_bounded_number_of_times() {
        let now = Instant::now();
        let deadline = now + Duration::from_mins(1);
        let refused = AttemptError { resend: Resend::OnAnyConnection, ..fault(None) };
        let garbage = AttemptError { resend: Resend::OnFreshConnection, ..fault(None) };
        let mut resends = ResendAllowance::new();
        let fresh: Vec<_> = (0..RESENDS_MAX)
            .map(|_| resends.plan_resend(&refused, now, deadline).unwrap().on_fresh_connection)
            .collect();
        assert_eq!(fresh, [false, false, true]);
        assert_eq!(resends.plan_resend(&refused, now, deadline), None);
        assert_eq!(resends.plan_resend(&garbage, now, deadline), None);
        let mut resends = ResendAllowance::new();
        let at_once = ResendPlan { at: now, on_fresh_connection: true };
        assert_eq!(resends.plan_resend(&garbage, now, deadline), Some(at_once));
        assert_eq!(resends.plan_resend(&refused, now, deadline), None);
        assert_eq!(
            ResendAllowance::new().plan_resend(&garbage, now, now),
            None,
            "never at the deadline"
        );
        assert_eq!(ResendAllowance::new().plan_resend(&fault(None), now, deadline), None);
    }

    #[test]
    fn what_would_fail_again_is_not_retried() {
        let now = Instant::now();
        let last = AttemptError::answered(Reason::Status, "answered 404, expected 200");
        assert_eq!(Backoff::new(3).next_attempt_at(&last, now, now + Duration::from_secs(9)), None);
    }

    #[test]
    fn an_outage_is_multiplied_by_a_fifth_at_most() {
        let budget = RetryBudget::new();
        let failed = |_| {
            budget.deposit();
            budget.withdraw()
        };
        let retried = (0..10_000).map(failed).filter(|retried| *retried).count();
        // A fifth, and twice ten seconds' two a second: the test may meet the window's end.
        assert!((2_000..=2_040).contains(&retried), "{retried} of 10 000");
    }
}
