//! The protocol of the leader's `Lease` (`coordination.k8s.io`), the same as client-go's. Pure.
//!
//! A lease has expired when a replica has not *observed* a renewal for the lease's duration: the
//! clocks of two machines are never compared. A write carries the `resourceVersion` that was read,
//! so of two replicas that try to acquire the lease at once, one gets a conflict.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

/// The `spec` of the lease as it was last observed, and since when it has been the same.
#[derive(Debug, Default)]
pub(super) struct ObservedLease(Option<(Value, Instant)>);

/// What a replica does next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LeaseAction {
    /// Write this lease; if that succeeds, this replica is the leader.
    Write(Value),
    /// Follow: another replica is the leader.
    Follow,
}

/// A replica as a candidate for the lease.
#[derive(Debug, Clone)]
pub struct LeaseCandidate {
    /// The replica's name, which no other replica has.
    pub name: String,
    /// The duration after which the lease expires unless it is renewed.
    pub duration: Duration,
}

impl ObservedLease {
    /// Observes the lease (`None` if there is none) and decides what to do.
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
        // At least the candidate's own duration, also where the lease has none; at most an hour, or
        // an absurd duration would block the election.
        let duration = seconds
            .map_or(candidate.duration, Duration::from_secs)
            .min(Duration::from_hours(1))
            .max(candidate.duration);
        if holder.is_empty() || holder == candidate.name || now.duration_since(since) > duration {
            let mut new_lease = lease.clone();
            new_lease["spec"] = candidate.lease_spec(Some(&spec), clock);
            return LeaseAction::Write(new_lease);
        }
        LeaseAction::Follow
    }
}

impl LeaseCandidate {
    /// The `spec` of a lease that this replica holds, after the one with the spec `previous`.
    fn lease_spec(&self, previous: Option<&Value>, clock: SystemTime) -> Value {
        let field = |name: &str| previous.and_then(|spec| spec.get(name)).cloned();
        let now = Value::from(humantime::format_rfc3339_micros(clock).to_string());
        let is_holder = field("holderIdentity").is_some_and(|holder| holder == self.name.as_str());
        let transitions = field("leaseTransitions").and_then(|it| it.as_u64()).unwrap_or(0);
        let acquire_time = if is_holder { field("acquireTime") } else { None };
        // Whole seconds, rounded up: other replicas wait longer rather than shorter.
        let seconds = u64::try_from(self.duration.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        let is_takeover = !is_holder && previous.is_some();
        json!({
            "holderIdentity": self.name,
            "leaseDurationSeconds": seconds.max(1),
            "acquireTime": acquire_time.unwrap_or_else(|| now.clone()),
            "renewTime": now,
            "leaseTransitions": transitions.saturating_add(u64::from(is_takeover)),
        })
    }

    /// The lease without a holder; `None` if another replica holds it.
    pub(super) fn released_lease(&self, lease: &Value, clock: SystemTime) -> Option<Value> {
        let is_holder = lease
            .pointer("/spec/holderIdentity")
            .is_some_and(|holder| holder == self.name.as_str());
        is_holder.then(|| {
            let mut released = lease.clone();
            released["spec"]["holderIdentity"] = "".into();
            released["spec"]["leaseDurationSeconds"] = 1.into();
            released["spec"]["renewTime"] =
                humantime::format_rfc3339_micros(clock).to_string().into();
            released
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str) -> LeaseCandidate {
        LeaseCandidate { name: name.to_owned(), duration: Duration::from_secs(15) }
    }

    fn written_lease(action: LeaseAction) -> Value {
        match action {
            LeaseAction::Write(lease) => lease,
            LeaseAction::Follow => panic!("nothing was written"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_nobody_renews_is_taken_over_once_it_was_watched_for_its_duration() {
        let a = candidate("a");
        let b = candidate("b");
        let clock = SystemTime::now();
        let mut by_b = ObservedLease::default();
        let lease =
            written_lease(ObservedLease::default().next_action(None, &a, Instant::now(), clock));
        assert_eq!(lease["spec"]["leaseTransitions"], 0);
        assert_eq!(by_b.next_action(Some(&lease), &b, Instant::now(), clock), LeaseAction::Follow);
        tokio::time::advance(Duration::from_secs(14)).await;
        let renewed = written_lease(ObservedLease::default().next_action(
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
        let taken = written_lease(by_b.next_action(Some(&renewed), &b, Instant::now(), clock));
        assert_eq!(
            (&taken["spec"]["holderIdentity"], &taken["spec"]["leaseTransitions"]),
            (&json!("b"), &json!(1))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_was_given_up_is_taken_at_once() {
        let a = candidate("a");
        let b = candidate("b");
        let clock = SystemTime::now();
        let lease =
            written_lease(ObservedLease::default().next_action(None, &a, Instant::now(), clock));
        assert_eq!(b.released_lease(&lease, clock), None);
        let released = a.released_lease(&lease, clock).unwrap_or_default();
        let taken = written_lease(ObservedLease::default().next_action(
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
            let taken = written_lease(ObservedLease::default().next_action(
                Some(&lease),
                &candidate("a"),
                Instant::now(),
                SystemTime::now(),
            ));
            assert_eq!(taken["metadata"]["resourceVersion"], "1");
        }
        let absurd = json!({"spec": {"holderIdentity": "x", "leaseDurationSeconds": u64::MAX}});
        let mut observed = ObservedLease::default();
        assert_eq!(
            observed.next_action(Some(&absurd), &candidate("a"), Instant::now(), SystemTime::now()),
            LeaseAction::Follow
        );
        tokio::time::advance(Duration::from_secs(3601)).await;
        assert!(matches!(
            observed.next_action(Some(&absurd), &candidate("a"), Instant::now(), SystemTime::now()),
            LeaseAction::Write(_)
        ));
    }
}
