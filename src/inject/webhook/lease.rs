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
pub(super) struct Watched(Option<(Value, Instant)>);

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Move {
    /// Write this: with success, we lead.
    Write(Value),
    /// Another one leads.
    Follow,
}

/// Who we are in the lease.
#[derive(Debug, Clone)]
pub struct Me {
    /// Our name, of which there is no second.
    pub name: String,
    /// How long others wait for us to renew it.
    pub duration: Duration,
}

impl Watched {
    /// Looks at the lease (`None`: there is none) and says what to do.
    pub(super) fn look(
        &mut self,
        lease: Option<&Value>,
        me: &Me,
        now: Instant,
        clock: SystemTime,
    ) -> Move {
        let Some(lease) = lease else { return Move::Write(json!({"spec": me.spec(None, clock)})) };
        let spec = lease.get("spec").cloned().unwrap_or_default();
        let since = match &self.0 {
            Some((seen, since)) if *seen == spec => *since,
            _ => self.0.insert((spec.clone(), now)).1,
        };
        let holder = spec.get("holderIdentity").and_then(Value::as_str).unwrap_or_default();
        let seconds = spec.get("leaseDurationSeconds").and_then(Value::as_u64);
        // One that says no duration, or an absurd one, is waited for as long as ours.
        let duration = seconds
            .map_or(me.duration, Duration::from_secs)
            .min(Duration::from_hours(1))
            .max(me.duration);
        if holder.is_empty() || holder == me.name || now.duration_since(since) > duration {
            let mut written = lease.clone();
            written["spec"] = me.spec(Some(&spec), clock);
            return Move::Write(written);
        }
        Move::Follow
    }
}

impl Me {
    fn spec(&self, before: Option<&Value>, clock: SystemTime) -> Value {
        let of = |name: &str| before.and_then(|spec| spec.get(name)).cloned();
        let now = Value::from(humantime::format_rfc3339_micros(clock).to_string());
        let mine = of("holderIdentity").is_some_and(|holder| holder == self.name.as_str());
        let transitions = of("leaseTransitions").and_then(|it| it.as_u64()).unwrap_or(0);
        let acquired = if mine { of("acquireTime") } else { None };
        json!({
            "holderIdentity": self.name,
            // Whole seconds, rounded up: others wait rather a little longer.
            "leaseDurationSeconds": u64::try_from(self.duration.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1),
            "acquireTime": acquired.unwrap_or_else(|| now.clone()),
            "renewTime": now,
            "leaseTransitions": if mine || before.is_none() { transitions } else { transitions.saturating_add(1) },
        })
    }

    /// The lease given up; `None` where it is not ours.
    pub fn released(&self, lease: &Value, clock: SystemTime) -> Option<Value> {
        let ours = lease
            .pointer("/spec/holderIdentity")
            .is_some_and(|holder| holder == self.name.as_str());
        ours.then(|| {
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

    fn me(name: &str) -> Me {
        Me { name: name.to_owned(), duration: Duration::from_secs(15) }
    }

    fn written(made: Move) -> Value {
        match made {
            Move::Write(lease) => lease,
            Move::Follow => panic!("nothing was written"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_nobody_renews_is_taken_over_once_it_was_watched_for_its_duration() {
        let (a, b, clock) = (me("a"), me("b"), SystemTime::now());
        let mut by_b = Watched::default();
        let lease = written(Watched::default().look(None, &a, Instant::now(), clock));
        assert_eq!(lease["spec"]["leaseTransitions"], 0);
        assert_eq!(by_b.look(Some(&lease), &b, Instant::now(), clock), Move::Follow);
        tokio::time::advance(Duration::from_secs(14)).await;
        let renewed = written(Watched::default().look(
            Some(&lease),
            &a,
            Instant::now(),
            clock + Duration::from_secs(14),
        ));
        assert_eq!(renewed["spec"]["acquireTime"], lease["spec"]["acquireTime"]);
        assert_ne!(renewed["spec"]["renewTime"], lease["spec"]["renewTime"]);
        assert_eq!(by_b.look(Some(&renewed), &b, Instant::now(), clock), Move::Follow);
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(by_b.look(Some(&renewed), &b, Instant::now(), clock), Move::Follow);
        tokio::time::advance(Duration::from_secs(1)).await;
        let taken = written(by_b.look(Some(&renewed), &b, Instant::now(), clock));
        assert_eq!(
            (&taken["spec"]["holderIdentity"], &taken["spec"]["leaseTransitions"]),
            (&json!("b"), &json!(1))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_was_given_up_is_taken_at_once() {
        let (a, b, clock) = (me("a"), me("b"), SystemTime::now());
        let lease = written(Watched::default().look(None, &a, Instant::now(), clock));
        assert_eq!(b.released(&lease, clock), None);
        let released = a.released(&lease, clock).unwrap_or_default();
        let taken = written(Watched::default().look(Some(&released), &b, Instant::now(), clock));
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
            let taken = written(Watched::default().look(
                Some(&lease),
                &me("a"),
                Instant::now(),
                SystemTime::now(),
            ));
            assert_eq!(taken["metadata"]["resourceVersion"], "1");
        }
        let absurd = json!({"spec": {"holderIdentity": "x", "leaseDurationSeconds": u64::MAX}});
        let mut watched = Watched::default();
        assert_eq!(
            watched.look(Some(&absurd), &me("a"), Instant::now(), SystemTime::now()),
            Move::Follow
        );
        tokio::time::advance(Duration::from_secs(3601)).await;
        assert!(matches!(
            watched.look(Some(&absurd), &me("a"), Instant::now(), SystemTime::now()),
            Move::Write(_)
        ));
    }
}
