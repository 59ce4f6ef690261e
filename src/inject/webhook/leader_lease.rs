//! Who leads: the protocol of a `Lease` of `coordination.k8s.io`, as others play it too. Pure.
//!
//! A lease is over when its holder has not been *seen* to renew it for its duration: clocks of two
//! machines are never compared. Whoever writes it writes over exactly what was read, so of two that
//! reach for it one fails.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

/// What was last seen of the lease, and since when.
#[derive(Debug, Default)]
pub(super) struct ObservedLease(Option<(Value, Instant)>);

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LeaseAction {
    /// Write this: with success, we lead.
    Write(Value),
    /// Another one leads.
    Follow,
}

/// Who we are in the lease.
#[derive(Debug, Clone)]
pub struct LeaseCandidate {
    /// Our name, of which there is no second.
    pub name: String,
    /// How long others wait for us to renew it.
    pub duration: Duration,
}

impl ObservedLease {
    /// Looks at the lease (`None`: there is none) and says what to do.
    pub(super) fn next_action(
        &mut self,
        lease: Option<&Value>,
        candidate: &LeaseCandidate,
        now: Instant,
        clock: SystemTime,
    ) -> LeaseAction {
        let Some(lease) = lease else {
            return LeaseAction::Write(json!({"spec": candidate.lease_spec(None, clock)}));
        };
        let spec = lease.get("spec").cloned().unwrap_or_default();
        let since = match &self.0 {
            Some((last_spec, since)) if *last_spec == spec => *since,
            _ => self.0.insert((spec.clone(), now)).1,
        };
        let holder = spec.get("holderIdentity").and_then(Value::as_str).unwrap_or_default();
        let seconds = spec.get("leaseDurationSeconds").and_then(Value::as_u64);
        // One that says no duration, or an absurd one, is waited for as long as ours.
        let duration = seconds
            .map_or(candidate.duration, Duration::from_secs)
            .min(Duration::from_hours(1))
            .max(candidate.duration);
        if holder.is_empty() || holder == candidate.name || now.duration_since(since) > duration {
            let mut written = lease.clone();
            written["spec"] = candidate.lease_spec(Some(&spec), clock);
            return LeaseAction::Write(written);
        }
        LeaseAction::Follow
    }
}

impl LeaseCandidate {
    fn lease_spec(&self, before: Option<&Value>, clock: SystemTime) -> Value {
        let of = |name: &str| before.and_then(|spec| spec.get(name)).cloned();
        let now = Value::from(humantime::format_rfc3339_micros(clock).to_string());
        let is_holder = of("holderIdentity").is_some_and(|holder| holder == self.name.as_str());
        let transitions = of("leaseTransitions").and_then(|it| it.as_u64()).unwrap_or(0);
        let acquired = if is_holder { of("acquireTime") } else { None };
        // Whole seconds, rounded up: others wait rather a little longer.
        let seconds = u64::try_from(self.duration.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        let is_takeover = !is_holder && before.is_some();
        json!({
            "holderIdentity": self.name,
            "leaseDurationSeconds": seconds.max(1),
            "acquireTime": acquired.unwrap_or_else(|| now.clone()),
            "renewTime": now,
            "leaseTransitions": transitions.saturating_add(u64::from(is_takeover)),
        })
    }

    /// The lease given up; `None` where it is not ours.
    pub(super) fn released_lease(&self, lease: &Value, clock: SystemTime) -> Option<Value> {
        let is_holder = lease
            .pointer("/spec/holderIdentity")
            .is_some_and(|holder| holder == self.name.as_str());
        is_holder.then(|| {
            let mut written = lease.clone();
            written["spec"]["holderIdentity"] = "".into();
            written["spec"]["leaseDurationSeconds"] = 1.into();
            written["spec"]["renewTime"] =
                humantime::format_rfc3339_micros(clock).to_string().into();
            written
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me(name: &str) -> LeaseCandidate {
        LeaseCandidate { name: name.to_owned(), duration: Duration::from_secs(15) }
    }

    fn written(made: LeaseAction) -> Value {
        match made {
            LeaseAction::Write(lease) => lease,
            LeaseAction::Follow => panic!("nothing was written"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_nobody_renews_is_taken_over_once_it_was_watched_for_its_duration() {
        let a = me("a");
        let b = me("b");
        let clock = SystemTime::now();
        let mut by_b = ObservedLease::default();
        let lease = written(ObservedLease::default().next_action(None, &a, Instant::now(), clock));
        assert_eq!(lease["spec"]["leaseTransitions"], 0);
        assert_eq!(by_b.next_action(Some(&lease), &b, Instant::now(), clock), LeaseAction::Follow);
        tokio::time::advance(Duration::from_secs(14)).await;
        let renewed = written(ObservedLease::default().next_action(
            Some(&lease),
            &a,
            Instant::now(),
            clock + Duration::from_secs(14),
        ));
        assert_eq!(renewed["spec"]["acquireTime"], lease["spec"]["acquireTime"]);
        assert_ne!(renewed["spec"]["renewTime"], lease["spec"]["renewTime"]);
        assert_eq!(
            by_b.next_action(Some(&renewed), &b, Instant::now(), clock),
            LeaseAction::Follow
        );
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(
            by_b.next_action(Some(&renewed), &b, Instant::now(), clock),
            LeaseAction::Follow
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        let taken = written(by_b.next_action(Some(&renewed), &b, Instant::now(), clock));
        assert_eq!(
            (&taken["spec"]["holderIdentity"], &taken["spec"]["leaseTransitions"]),
            (&json!("b"), &json!(1))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_was_given_up_is_taken_at_once() {
        let a = me("a");
        let b = me("b");
        let clock = SystemTime::now();
        let lease = written(ObservedLease::default().next_action(None, &a, Instant::now(), clock));
        assert_eq!(b.released_lease(&lease, clock), None);
        let released = a.released_lease(&lease, clock).unwrap_or_default();
        let taken = written(ObservedLease::default().next_action(
            Some(&released),
            &b,
            Instant::now(),
            clock,
        ));
        assert_eq!(taken["spec"]["holderIdentity"], "b");
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_a_lease_holds_it_is_followed_or_taken() {
        for spec in [
            json!(null),
            json!({}),
            json!({"holderIdentity": 5}),
            json!({"leaseDurationSeconds": -1}),
            json!([]),
        ] {
            let lease = json!({"metadata": {"resourceVersion": "1"}, "spec": spec});
            let taken = written(ObservedLease::default().next_action(
                Some(&lease),
                &me("a"),
                Instant::now(),
                SystemTime::now(),
            ));
            assert_eq!(taken["metadata"]["resourceVersion"], "1");
        }
        let absurd = json!({"spec": {"holderIdentity": "x", "leaseDurationSeconds": u64::MAX}});
        let mut watched = ObservedLease::default();
        assert_eq!(
            watched.next_action(Some(&absurd), &me("a"), Instant::now(), SystemTime::now()),
            LeaseAction::Follow
        );
        tokio::time::advance(Duration::from_secs(3601)).await;
        assert!(matches!(
            watched.next_action(Some(&absurd), &me("a"), Instant::now(), SystemTime::now()),
            LeaseAction::Write(_)
        ));
    }
}
