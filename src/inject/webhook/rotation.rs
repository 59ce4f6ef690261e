//! The rotation of a generated certificate, such that no API server ever gets a certificate that it
//! does not trust. Pure: the next step follows from the Secret, from the bundles that API servers
//! trust, and from the time.
//!
//! A new pair first becomes the *next* pair of the Secret. Its authority joins the bundle, beside
//! those of all pairs that may be served. Once each webhook of the configuration has been seen to
//! hold this bundle for a while (an API server learns of a change a little later), the next pair
//! becomes the current pair, which each replica serves as soon as it reads the Secret. The previous
//! authority stays in the bundle until its certificate expires, so that API servers still trust a
//! replica that has not read the Secret since.
//!
//! Each step writes over the objects that were read, and gets a conflict if they have changed. The
//! configuration is read *before* the Secret: so a leader that writes a bundle has read a Secret
//! that is at least as new as the bundle before it, and an earlier leader cannot remove an
//! authority that its successor has added.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::certificate_secret::{CertificateSecret, KeyPair};

/// The times of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RotationSchedule {
    /// The lifetime of a certificate.
    pub lifetime: Duration,
    /// The time before its expiry at which its successor is generated.
    pub renew_before: Duration,
    /// The time that API servers are given to learn of a bundle.
    pub propagation_time: Duration,
}

impl RotationSchedule {
    /// A certificate is renewed after two thirds of its lifetime.
    pub(super) fn for_lifetime(lifetime: Duration) -> Self {
        Self {
            lifetime,
            renew_before: lifetime / 3,
            propagation_time: (lifetime / 10).min(Duration::from_mins(1)),
        }
    }
}

/// The bundle that API servers are known to trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BundleTrust {
    /// Another one than [`CertificateSecret::bundle`].
    Other,
    /// Exactly that one, observed for this long.
    Current(Duration),
}

/// A step of the rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RotationStep {
    /// Generate the current pair: there is none, or it has expired.
    MakeCurrent,
    /// Generate the next pair.
    MakeNext,
    /// Remove the authorities of expired certificates.
    ForgetExpired,
    /// Write the bundle into the configuration.
    WriteBundle,
    /// Make the next pair the current one.
    Promote,
    /// Wait: there is nothing to do now.
    Wait,
}

/// The next step.
pub(super) fn next_step(
    secret: &CertificateSecret,
    trust: BundleTrust,
    names: &BTreeSet<String>,
    now: SystemTime,
    schedule: RotationSchedule,
) -> RotationStep {
    let is_valid = |pair: &KeyPair| pair.not_after > now;
    let Some(current) = secret.current.as_ref().filter(|pair| is_valid(pair)) else {
        return RotationStep::MakeCurrent;
    };
    let fits = |pair: &KeyPair| {
        names.is_subset(&pair.names) && pair.not_after > now + schedule.renew_before
    };
    let has_successor = secret.next.as_ref().is_some_and(fits);
    if !fits(current) && !has_successor {
        return RotationStep::MakeNext;
    }
    if secret.has_expired_authority(now) {
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

    fn schedule() -> RotationSchedule {
        RotationSchedule::for_lifetime(30 * DAY)
    }

    /// A pair that was generated on that day.
    fn pair_of_day(on_day: u32) -> KeyPair {
        KeyPair::issue(&names(), at(on_day), schedule().lifetime).unwrap()
    }

    fn pair() -> KeyPair {
        pair_of_day(0)
    }

    fn current() -> CertificateSecret {
        CertificateSecret { current: Some(pair()), ..CertificateSecret::default() }
    }

    fn at(days: u32) -> SystemTime {
        SystemTime::now() + days * DAY
    }

    const PROPAGATED: BundleTrust = BundleTrust::Current(Duration::from_mins(2));

    #[test]
    fn the_first_certificate_is_served_at_once() {
        assert_eq!(
            next_step(
                &CertificateSecret::default(),
                BundleTrust::Other,
                &names(),
                at(0),
                schedule()
            ),
            RotationStep::MakeCurrent
        );
        assert_eq!(
            next_step(&current(), BundleTrust::Other, &names(), at(0), schedule()),
            RotationStep::WriteBundle
        );
        assert_eq!(
            next_step(
                &current(),
                BundleTrust::Current(Duration::ZERO),
                &names(),
                at(0),
                schedule()
            ),
            RotationStep::Wait
        );
        assert_eq!(
            next_step(&current(), PROPAGATED, &names(), at(19), schedule()),
            RotationStep::Wait
        );
        assert_eq!(
            next_step(&current(), PROPAGATED, &names(), at(31), schedule()),
            RotationStep::MakeCurrent
        );
    }

    #[test]
    fn a_successor_is_trusted_before_it_is_served() {
        let secret = current();
        assert_eq!(
            next_step(&secret, PROPAGATED, &names(), at(21), schedule()),
            RotationStep::MakeNext
        );
        let secret = CertificateSecret { next: Some(pair_of_day(21)), ..secret };
        let first = secret.current.clone().unwrap();
        let second = secret.next.clone().unwrap();
        assert_eq!(
            next_step(&secret, BundleTrust::Other, &names(), at(21), schedule()),
            RotationStep::WriteBundle
        );
        assert_eq!(secret.bundle(), format!("{}{}", first.ca_pem, second.ca_pem));
        assert_eq!(
            next_step(
                &secret,
                BundleTrust::Current(Duration::from_secs(59)),
                &names(),
                at(21),
                schedule()
            ),
            RotationStep::Wait
        );
        assert_eq!(
            next_step(&secret, PROPAGATED, &names(), at(21), schedule()),
            RotationStep::Promote
        );
        let secret = secret.promote_next();
        assert_eq!((&secret.current, &secret.next), (&Some(second.clone()), &None));
        assert_eq!(secret.bundle(), format!("{}{}", second.ca_pem, first.ca_pem));
        assert_eq!(
            next_step(&secret, PROPAGATED, &names(), at(22), schedule()),
            RotationStep::Wait
        );
        assert_eq!(
            next_step(&secret, PROPAGATED, &names(), at(31), schedule()),
            RotationStep::ForgetExpired
        );
        let secret = secret.without_expired(at(31));
        assert_eq!(secret.bundle(), second.ca_pem);
        assert_eq!(
            next_step(&secret, BundleTrust::Other, &names(), at(31), schedule()),
            RotationStep::WriteBundle
        );
    }

    #[test]
    fn a_bundle_that_somebody_overwrote_is_written_again_at_any_moment() {
        for secret in [
            current(),
            CertificateSecret { next: Some(pair()), ..current() },
            CertificateSecret { next: Some(pair()), ..current() }.promote_next(),
        ] {
            assert_eq!(
                next_step(&secret, BundleTrust::Other, &names(), at(1), schedule()),
                RotationStep::WriteBundle
            );
        }
    }

    #[test]
    fn new_names_are_a_reason_to_renew() {
        let names = BTreeSet::from(["other.bfb-system.svc".to_owned()]);
        assert_eq!(
            next_step(&current(), PROPAGATED, &names, at(0), schedule()),
            RotationStep::MakeNext
        );
        let secret = CertificateSecret {
            next: Some(KeyPair::issue(&names, at(0), schedule().lifetime).unwrap()),
            ..current()
        };
        assert_eq!(
            next_step(&secret, BundleTrust::Other, &names, at(0), schedule()),
            RotationStep::WriteBundle
        );
        assert_eq!(
            next_step(&secret, PROPAGATED, &names, at(0), schedule()),
            RotationStep::Promote
        );
        assert_eq!(
            next_step(&secret.promote_next(), PROPAGATED, &names, at(0), schedule()),
            RotationStep::Wait
        );
    }

    #[test]
    fn a_successor_that_waited_too_long_is_replaced() {
        let secret = CertificateSecret { next: Some(pair_of_day(1)), ..current() };
        assert_eq!(
            next_step(&secret, PROPAGATED, &names(), at(22), schedule()),
            RotationStep::MakeNext
        );
    }

    /// A year with a reconciliation an hour, in which somebody overwrites the bundle now and then:
    /// each pair that a replica may still serve is trusted until its expiry, except in the hours in
    /// which the bundle is overwritten.
    #[test]
    fn whatever_is_served_is_trusted_for_a_year() {
        let hour = Duration::from_hours(1);
        let began = at(0);
        let mut secret = CertificateSecret::default();
        let mut bundle = String::new();
        let mut observed_for = Duration::ZERO;
        let mut served: Vec<KeyPair> = Vec::new();
        for tick in 0..365 * 24_u32 {
            let now = began + tick * hour;
            let spoilt = tick % 97 == 96;
            if spoilt {
                bundle = "spoilt".to_owned();
            }
            // A reconciliation takes all steps there are, the last of which is to wait.
            for _ in 0..8 {
                let trust = if bundle == secret.bundle() {
                    BundleTrust::Current(observed_for)
                } else {
                    BundleTrust::Other
                };
                match next_step(&secret, trust, &names(), now, schedule()) {
                    RotationStep::MakeCurrent => {
                        secret.current =
                            Some(KeyPair::issue(&names(), now, schedule().lifetime).unwrap());
                    }
                    RotationStep::MakeNext => {
                        secret.next =
                            Some(KeyPair::issue(&names(), now, schedule().lifetime).unwrap());
                    }
                    RotationStep::ForgetExpired => secret = secret.without_expired(now),
                    RotationStep::WriteBundle => {
                        bundle = secret.bundle();
                        observed_for = Duration::ZERO;
                    }
                    RotationStep::Promote => secret = secret.promote_next(),
                    RotationStep::Wait => break,
                }
                let current = secret.current.clone().unwrap();
                if served.last() != Some(&current) {
                    // The first one is served before API servers can know its authority.
                    assert!(
                        served.is_empty() || bundle.contains(&current.ca_pem),
                        "untrusted at hour {tick}"
                    );
                    served.push(current);
                }
            }
            observed_for += hour;
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
