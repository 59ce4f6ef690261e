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

use super::certificate_secret::{CertificateSecret, KeyPair};

/// How a certificate is turned over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RotationSchedule {
    /// How long a certificate lasts.
    pub lifetime: Duration,
    /// How long before its end its successor is made.
    pub renew_before: Duration,
    /// How long API servers are given to learn of a bundle.
    pub propagation_time: Duration,
}

impl RotationSchedule {
    /// Renewed after two thirds of its life.
    pub(super) fn for_lifetime(lifetime: Duration) -> Self {
        Self {
            lifetime,
            renew_before: lifetime / 3,
            propagation_time: (lifetime / 10).min(Duration::from_mins(1)),
        }
    }
}

/// What API servers are known to trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BundleTrust {
    /// Something else than [`CertificateSecret::bundle`].
    Other,
    /// Exactly that, seen for so long.
    Current(Duration),
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RotationStep {
    /// Make a pair, and keep it as the current one: there is none that anybody could believe.
    MakeCurrent,
    /// Make a pair, and keep it as the next one.
    MakeNext,
    /// Forget authorities whose certificates are over.
    ForgetExpired,
    /// Tell the API servers whom to trust.
    WriteBundle,
    /// Serve the next pair.
    Promote,
    /// Nothing, for now.
    Wait,
}

/// Says what is to be done.
pub(super) fn next_step(
    stored: &CertificateSecret,
    trust: BundleTrust,
    names: &BTreeSet<String>,
    now: SystemTime,
    schedule: RotationSchedule,
) -> RotationStep {
    let is_valid = |pair: &KeyPair| pair.not_after > now;
    let Some(current) = stored.current.as_ref().filter(|pair| is_valid(pair)) else {
        return RotationStep::MakeCurrent;
    };
    let fits = |pair: &KeyPair| {
        names.is_subset(&pair.names) && pair.not_after > now + schedule.renew_before
    };
    let has_successor = stored.next.as_ref().is_some_and(fits);
    if !fits(current) && !has_successor {
        return RotationStep::MakeNext;
    }
    if stored.has_expired_authority(now) {
        return RotationStep::ForgetExpired;
    }
    match trust {
        BundleTrust::Other => RotationStep::WriteBundle,
        BundleTrust::Current(held_for)
            if has_successor && held_for >= schedule.propagation_time =>
        {
            RotationStep::Promote
        }
        BundleTrust::Current(_) => RotationStep::Wait,
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

    fn pace() -> RotationSchedule {
        RotationSchedule::for_lifetime(30 * DAY)
    }

    /// A pair that was made on that day.
    fn made(on_day: u32) -> KeyPair {
        KeyPair::issue(&names(), at(on_day), pace().lifetime).unwrap()
    }

    fn pair() -> KeyPair {
        made(0)
    }

    fn current() -> CertificateSecret {
        CertificateSecret { current: Some(pair()), ..CertificateSecret::default() }
    }

    fn at(days: u32) -> SystemTime {
        SystemTime::now() + days * DAY
    }

    const SEEN: BundleTrust = BundleTrust::Current(Duration::from_mins(2));

    #[test]
    fn the_first_certificate_is_served_at_once() {
        assert_eq!(
            next_step(&CertificateSecret::default(), BundleTrust::Other, &names(), at(0), pace()),
            RotationStep::MakeCurrent
        );
        assert_eq!(
            next_step(&current(), BundleTrust::Other, &names(), at(0), pace()),
            RotationStep::WriteBundle
        );
        assert_eq!(
            next_step(&current(), BundleTrust::Current(Duration::ZERO), &names(), at(0), pace()),
            RotationStep::Wait
        );
        assert_eq!(next_step(&current(), SEEN, &names(), at(19), pace()), RotationStep::Wait);
        assert_eq!(
            next_step(&current(), SEEN, &names(), at(31), pace()),
            RotationStep::MakeCurrent
        );
    }

    #[test]
    fn a_successor_is_trusted_before_it_is_served() {
        let kept = current();
        assert_eq!(next_step(&kept, SEEN, &names(), at(21), pace()), RotationStep::MakeNext);
        let kept = CertificateSecret { next: Some(made(21)), ..kept };
        let first = kept.current.clone().unwrap();
        let second = kept.next.clone().unwrap();
        assert_eq!(
            next_step(&kept, BundleTrust::Other, &names(), at(21), pace()),
            RotationStep::WriteBundle
        );
        assert_eq!(kept.bundle(), format!("{}{}", first.ca_pem, second.ca_pem));
        assert_eq!(
            next_step(
                &kept,
                BundleTrust::Current(Duration::from_secs(59)),
                &names(),
                at(21),
                pace()
            ),
            RotationStep::Wait
        );
        assert_eq!(next_step(&kept, SEEN, &names(), at(21), pace()), RotationStep::Promote);
        let kept = kept.promote_next();
        assert_eq!((&kept.current, &kept.next), (&Some(second.clone()), &None));
        assert_eq!(kept.bundle(), format!("{}{}", second.ca_pem, first.ca_pem));
        assert_eq!(next_step(&kept, SEEN, &names(), at(22), pace()), RotationStep::Wait);
        assert_eq!(next_step(&kept, SEEN, &names(), at(31), pace()), RotationStep::ForgetExpired);
        let kept = kept.without_expired(at(31));
        assert_eq!(kept.bundle(), second.ca_pem);
        assert_eq!(
            next_step(&kept, BundleTrust::Other, &names(), at(31), pace()),
            RotationStep::WriteBundle
        );
    }

    #[test]
    fn a_bundle_that_somebody_overwrote_is_written_again_at_any_moment() {
        for kept in [
            current(),
            CertificateSecret { next: Some(pair()), ..current() },
            CertificateSecret { next: Some(pair()), ..current() }.promote_next(),
        ] {
            assert_eq!(
                next_step(&kept, BundleTrust::Other, &names(), at(1), pace()),
                RotationStep::WriteBundle
            );
        }
    }

    #[test]
    fn new_names_are_a_reason_to_renew() {
        let names = BTreeSet::from(["other.bfb-system.svc".to_owned()]);
        assert_eq!(next_step(&current(), SEEN, &names, at(0), pace()), RotationStep::MakeNext);
        let kept = CertificateSecret {
            next: Some(KeyPair::issue(&names, at(0), pace().lifetime).unwrap()),
            ..current()
        };
        assert_eq!(
            next_step(&kept, BundleTrust::Other, &names, at(0), pace()),
            RotationStep::WriteBundle
        );
        assert_eq!(next_step(&kept, SEEN, &names, at(0), pace()), RotationStep::Promote);
        assert_eq!(
            next_step(&kept.promote_next(), SEEN, &names, at(0), pace()),
            RotationStep::Wait
        );
    }

    #[test]
    fn a_successor_that_waited_too_long_is_replaced() {
        let kept = CertificateSecret { next: Some(made(1)), ..current() };
        assert_eq!(next_step(&kept, SEEN, &names(), at(22), pace()), RotationStep::MakeNext);
    }

    /// Whatever a replica still serves is trusted until its end, for a year of a look an hour in
    /// which somebody spoils the bundle now and then: it is untrusted in the hour of that and in no
    /// other.
    #[test]
    fn whatever_is_served_is_trusted_for_a_year() {
        let hour = Duration::from_hours(1);
        let began = at(0);
        let mut kept = CertificateSecret::default();
        let mut bundle = String::new();
        let mut seen = Duration::ZERO;
        let mut served: Vec<KeyPair> = Vec::new();
        for tick in 0..365 * 24_u32 {
            let now = began + tick * hour;
            let spoilt = tick % 97 == 96;
            if spoilt {
                bundle = "spoilt".to_owned();
            }
            // A look does as many steps as there are, the last of which is to wait.
            for _ in 0..8 {
                let trust = if bundle == kept.bundle() {
                    BundleTrust::Current(seen)
                } else {
                    BundleTrust::Other
                };
                match next_step(&kept, trust, &names(), now, pace()) {
                    RotationStep::MakeCurrent => {
                        kept.current =
                            Some(KeyPair::issue(&names(), now, pace().lifetime).unwrap());
                    }
                    RotationStep::MakeNext => {
                        kept.next = Some(KeyPair::issue(&names(), now, pace().lifetime).unwrap());
                    }
                    RotationStep::ForgetExpired => kept = kept.without_expired(now),
                    RotationStep::WriteBundle => (bundle, seen) = (kept.bundle(), Duration::ZERO),
                    RotationStep::Promote => kept = kept.promote_next(),
                    RotationStep::Wait => break,
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
