//! The findings about a certificate's expiry.

use std::time::{Duration, SystemTime};

use super::super::units::span;
use super::finding::Finding;
use crate::identity::Certificate;

/// The longest before its end that a certificate is warned of; of one that lives short, its last
/// third.
const EXPIRY_WARNING_MAX: Duration = Duration::from_hours(14 * 24);

/// A warning where `certificate`, which `subject` names, ends soon.
pub(super) fn expiry_finding(
    subject: &str,
    certificate: &Certificate,
    now: SystemTime,
) -> Option<Finding> {
    let life = certificate.not_after.duration_since(certificate.not_before).unwrap_or_default();
    let left = certificate.not_after.duration_since(now).unwrap_or_default();
    let soon = EXPIRY_WARNING_MAX.min(life / 3);
    (left < soon).then(|| {
        Finding::warning("expires-soon", format!("{subject} ends in {}", span(left)))
            .expected(format!("a new one {} before its end", span(soon)))
            .hint("is its renewal stuck?")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::identity::issue::{Authority, Leaf, Validity};

    const HOUR: Duration = Duration::from_hours(1);

    /// Whether a certificate with this whole life is warned of so long before its end.
    fn is_warned_of(life: Duration, left: Duration) -> bool {
        let now = SystemTime::now();
        let authority = Authority::new("test", Validity::days(1)).unwrap();
        let valid = Validity { not_before: now + left - life, not_after: now + left };
        let issued = authority.issue(&Leaf::new("a").valid(valid)).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(issued.cert_pem.as_bytes()).unwrap();
        expiry_finding("its certificate", &Certificate::read(&pem.contents).unwrap(), now).is_some()
    }

    #[test]
    fn a_certificate_is_warned_of_in_its_last_two_weeks_or_its_last_third() {
        let year = 365 * 24 * HOUR;
        assert!(!is_warned_of(year, 15 * 24 * HOUR));
        assert!(is_warned_of(year, 13 * 24 * HOUR));
        assert!(!is_warned_of(24 * HOUR, 9 * HOUR), "a short life is no reason to warn");
        assert!(is_warned_of(24 * HOUR, 7 * HOUR));
    }
}
