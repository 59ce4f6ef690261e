//! How a certificate comes into force, and how the next one takes its place, without an API server
//! that meets one it does not trust. Pure: what is kept, what API servers trust and the time come
//! in, the next step goes out.
//!
//! A new pair is first kept as the next one. Its authority joins the bundle, beside those of all
//! pairs that may be served. Once each webhook has been seen to hold it for a while (an API server
//! learns of a change a little later), the next pair becomes the current one, which replicas serve
//! as soon as they read it. The authority before stays in the bundle until its certificate is over:
//! a replica that has not read the Secret since then is believed all that time.
//!
//! Each step is done on what was read, and fails if that has changed meanwhile. The configuration
//! is read *before* the Secret: who writes a bundle has read a Secret that was true after that
//! bundle's predecessor was written, so a leader of yesterday cannot take away an authority that
//! its successor has added.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::certificate::{Kept, Pair};

/// How a certificate is turned over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// How long a certificate lasts.
    pub lifetime: Duration,
    /// How long before its end its successor is made.
    pub ahead: Duration,
    /// How long API servers are given to learn of a bundle.
    pub margin: Duration,
}

impl Pace {
    /// Renewed after two thirds of its life.
    pub(super) fn of(lifetime: Duration) -> Self {
        Self { lifetime, ahead: lifetime / 3, margin: (lifetime / 10).min(Duration::from_mins(1)) }
    }
}

/// What API servers are known to trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Something else than [`Kept::bundle`].
    Other,
    /// Exactly that, seen for so long.
    Bundle(Duration),
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Make a pair, and keep it as the current one: there is none that anybody could believe.
    MakeCurrent,
    /// Make a pair, and keep it as the next one.
    MakeNext,
    /// Forget authorities whose certificates are over.
    Forget,
    /// Tell the API servers whom to trust.
    Bundle,
    /// Serve the next pair.
    Promote,
    /// Nothing, for now.
    Wait,
}

/// Says what is to be done.
pub(super) fn next(
    kept: &Kept,
    trust: Trust,
    names: &BTreeSet<String>,
    now: SystemTime,
    pace: Pace,
) -> Step {
    let lives = |pair: &Pair| pair.not_after > now;
    let Some(current) = kept.current.as_ref().filter(|pair| lives(pair)) else {
        return Step::MakeCurrent;
    };
    let fits = |pair: &Pair| names.is_subset(&pair.names) && pair.not_after > now + pace.ahead;
    let coming = kept.next.as_ref().is_some_and(fits);
    if !fits(current) && !coming {
        return Step::MakeNext;
    }
    if kept.remembers_too_much(now) {
        return Step::Forget;
    }
    match trust {
        Trust::Other => Step::Bundle,
        Trust::Bundle(seen) if coming && seen >= pace.margin => Step::Promote,
        Trust::Bundle(_) => Step::Wait,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn names() -> BTreeSet<String> {
        BTreeSet::from(["bfb-webhook.bfb-system.svc".to_owned()])
    }

    fn pace() -> Pace {
        Pace::of(30 * DAY)
    }

    /// A pair that was made on that day.
    fn made(on_day: u32) -> Pair {
        Pair::make(&names(), at(on_day), pace().lifetime).unwrap()
    }

    fn pair() -> Pair {
        made(0)
    }

    fn current() -> Kept {
        Kept { current: Some(pair()), ..Kept::default() }
    }

    fn at(days: u32) -> SystemTime {
        SystemTime::now() + days * DAY
    }

    const SEEN: Trust = Trust::Bundle(Duration::from_mins(2));

    #[test]
    fn the_first_certificate_is_served_at_once() {
        assert_eq!(
            next(&Kept::default(), Trust::Other, &names(), at(0), pace()),
            Step::MakeCurrent
        );
        assert_eq!(next(&current(), Trust::Other, &names(), at(0), pace()), Step::Bundle);
        assert_eq!(
            next(&current(), Trust::Bundle(Duration::ZERO), &names(), at(0), pace()),
            Step::Wait
        );
        assert_eq!(next(&current(), SEEN, &names(), at(19), pace()), Step::Wait);
        assert_eq!(next(&current(), SEEN, &names(), at(31), pace()), Step::MakeCurrent);
    }

    #[test]
    fn a_successor_is_trusted_before_it_is_served() {
        let kept = current();
        assert_eq!(next(&kept, SEEN, &names(), at(21), pace()), Step::MakeNext);
        let kept = Kept { next: Some(made(21)), ..kept };
        let (first, second) = (kept.current.clone().unwrap(), kept.next.clone().unwrap());
        assert_eq!(next(&kept, Trust::Other, &names(), at(21), pace()), Step::Bundle);
        assert_eq!(kept.bundle(), format!("{}{}", first.ca_pem, second.ca_pem));
        assert_eq!(
            next(&kept, Trust::Bundle(Duration::from_secs(59)), &names(), at(21), pace()),
            Step::Wait
        );
        assert_eq!(next(&kept, SEEN, &names(), at(21), pace()), Step::Promote);
        let kept = kept.promoted();
        assert_eq!((&kept.current, &kept.next), (&Some(second.clone()), &None));
        assert_eq!(kept.bundle(), format!("{}{}", second.ca_pem, first.ca_pem));
        assert_eq!(next(&kept, SEEN, &names(), at(22), pace()), Step::Wait);
        assert_eq!(next(&kept, SEEN, &names(), at(31), pace()), Step::Forget);
        let kept = kept.forgetting(at(31));
        assert_eq!(kept.bundle(), second.ca_pem);
        assert_eq!(next(&kept, Trust::Other, &names(), at(31), pace()), Step::Bundle);
    }

    #[test]
    fn a_bundle_that_somebody_overwrote_is_written_again_at_any_moment() {
        for kept in [
            current(),
            Kept { next: Some(pair()), ..current() },
            Kept { next: Some(pair()), ..current() }.promoted(),
        ] {
            assert_eq!(next(&kept, Trust::Other, &names(), at(1), pace()), Step::Bundle);
        }
    }

    #[test]
    fn new_names_are_a_reason_to_renew() {
        let names = BTreeSet::from(["other.bfb-system.svc".to_owned()]);
        assert_eq!(next(&current(), SEEN, &names, at(0), pace()), Step::MakeNext);
        let kept =
            Kept { next: Some(Pair::make(&names, at(0), pace().lifetime).unwrap()), ..current() };
        assert_eq!(next(&kept, Trust::Other, &names, at(0), pace()), Step::Bundle);
        assert_eq!(next(&kept, SEEN, &names, at(0), pace()), Step::Promote);
        assert_eq!(next(&kept.promoted(), SEEN, &names, at(0), pace()), Step::Wait);
    }

    #[test]
    fn a_successor_that_waited_too_long_is_replaced() {
        let kept = Kept { next: Some(made(1)), ..current() };
        assert_eq!(next(&kept, SEEN, &names(), at(22), pace()), Step::MakeNext);
    }

    /// Whatever a replica still serves is trusted until its end, for a year of a look an hour in
    /// which somebody spoils the bundle now and then: it is untrusted in the hour of that and in no
    /// other.
    #[test]
    fn whatever_is_served_is_trusted_for_a_year() {
        let hour = Duration::from_hours(1);
        let began = at(0);
        let (mut kept, mut bundle, mut seen) = (Kept::default(), String::new(), Duration::ZERO);
        let mut served: Vec<Pair> = Vec::new();
        for tick in 0..365 * 24_u32 {
            let now = began + tick * hour;
            let spoilt = tick % 97 == 96;
            if spoilt {
                bundle = "spoilt".to_owned();
            }
            // A look does as many steps as there are, the last of which is to wait.
            for _ in 0..8 {
                let trust =
                    if bundle == kept.bundle() { Trust::Bundle(seen) } else { Trust::Other };
                match next(&kept, trust, &names(), now, pace()) {
                    Step::MakeCurrent => {
                        kept.current = Some(Pair::make(&names(), now, pace().lifetime).unwrap());
                    }
                    Step::MakeNext => {
                        kept.next = Some(Pair::make(&names(), now, pace().lifetime).unwrap());
                    }
                    Step::Forget => kept = kept.forgetting(now),
                    Step::Bundle => (bundle, seen) = (kept.bundle(), Duration::ZERO),
                    Step::Promote => kept = kept.promoted(),
                    Step::Wait => break,
                }
                let current = kept.current.clone().unwrap();
                if served.last() != Some(&current) {
                    // The very first is served before anybody can have heard of it.
                    assert!(
                        served.is_empty() || bundle.contains(&current.ca_pem),
                        "untrusted at hour {tick}"
                    );
                    served.push(current);
                }
            }
            seen += hour;
            let alive = served.iter().filter(|pair| pair.not_after > now);
            assert!(alive.clone().next().is_some() && alive.clone().count() <= 2);
            assert!(
                alive.into_iter().all(|pair| bundle.contains(&pair.ca_pem)),
                "untrusted after hour {tick}"
            );
        }
        assert!((18..=20).contains(&served.len()), "{}", served.len());
        assert_eq!(
            bundle.matches("BEGIN").count(),
            served.iter().filter(|pair| pair.not_after > at(365)).count()
        );
    }
}
