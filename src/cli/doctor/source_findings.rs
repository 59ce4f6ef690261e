//! From facts to findings. Pure.

use std::time::{Duration, SystemTime};

use super::answer_probe::{AnswerFacts, EtagStrength};
use super::connection_probe::WithoutCertificate;
use super::finding::Finding;
use super::report::span;
use crate::domain::{Atomicity, Domain, Pages, Source};
use crate::identity::Certificate;

/// The longest before its end that a certificate is warned of; of one that lives short, its last
/// third.
const EXPIRY_WARNING_MAX: Duration = Duration::from_hours(14 * 24);

/// A warning where `certificate` ends soon.
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

/// The server did not ask for our certificate.
pub(super) fn not_mutual_finding() -> Finding {
    Finding::error(
        "not-mutual",
        "it does not ask for a client certificate, so no request is ever sent to it",
    )
    .expected("it to demand one in the handshake")
    .hint("nginx: `ssl_verify_client on`; Envoy: `require_client_certificate: true`")
}

/// A server that asks, but goes on without.
pub(super) fn optional_certificate_finding(
    is_requested: bool,
    without: Option<WithoutCertificate>,
) -> Option<Finding> {
    (is_requested && without == Some(WithoutCertificate::Accepted)).then(|| {
        Finding::warning(
            "certificate-optional",
            "it asks for a client certificate, \
                          but goes on without one",
        )
        .expected("it to end the handshake")
        .hint(
            "nginx: `ssl_verify_client on`, not `optional`; unless it refuses each request, \
                   anyone can ask it",
        )
    })
}

/// What is to be said of an answer that is a part.
pub(super) fn answer_findings(
    domain: &Domain,
    source: &Source,
    facts: &AnswerFacts,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.no_store {
        let retention = match domain.cache.ttl {
            Duration::ZERO => {
                "a domain file decides that alone, here it keeps nothing (`ttl: 0s`)".to_owned()
            }
            ttl => {
                format!("it is kept for {} all the same (`ttl`)", humantime::format_duration(ttl))
            }
        };
        let warning = Finding::warning(
            "no-store",
            format!("its `Cache-Control` says `no-store`, {retention}"),
        );
        findings.push(warning.hint("may its data be kept? where not, `cache: {ttl: 0s}`"));
    }
    // One source alone is a snapshot as it is.
    if matches!(domain.atomicity, Atomicity::Snapshot { .. }) && domain.sources.len() > 1 {
        findings.extend(if matches!(source.http.pages, Pages::Follow { .. }) {
            let observation =
                "its pages are followed, so it is read again in each round and compared";
            vec![Finding::note("followed-pages", observation)]
        } else {
            snapshot_findings(facts)
        });
    }
    if facts.next_page && source.http.pages == Pages::First {
        findings.push(Finding::note(
            "first-page",
            "has a next page, which is left out (`pages: first`)",
        ));
    }
    findings.extend(latency_finding(domain, source, facts));
    findings
}

fn snapshot_findings(facts: &AnswerFacts) -> Vec<Finding> {
    let again = |what: &str| format!("{what}, so it is read again in each round and compared");
    let note = |name, what| Finding::note(name, again(what)).expected("a strong `ETag`");
    let mut findings = Vec::new();
    match (facts.etag, facts.not_modified) {
        (EtagStrength::Weak, _) => findings.push(note("weak-validator", "its `ETag` is weak")),
        (EtagStrength::None, _) if facts.last_modified => {
            findings.push(note("no-validator", "it has a `Last-Modified` but no `ETag`"));
        }
        (EtagStrength::None, _) => findings.push(note("no-validator", "it has no `ETag`")),
        (EtagStrength::Strong, Some(false)) => findings.push(
            Finding::note("no-304", "answered in full to `If-None-Match` with its own `ETag`")
                .expected("304")
                .hint(
                    "does its `ETag` change with every answer? then no snapshot will ever be \
                       confirmed",
                ),
        ),
        (EtagStrength::Strong, _) => {}
    }
    if facts.aged {
        findings.push(
            Finding::warning(
                "cached",
                "answered from a cache (`Age`), though it was asked with `no-cache`",
            )
            .expected("its current state: a snapshot can be no better than its sources")
            .hint("ask the owning service itself, not a cache before it"),
        );
    }
    findings
}

/// Whether what was measured leaves room for a dataset.
fn latency_finding(domain: &Domain, source: &Source, facts: &AnswerFacts) -> Option<Finding> {
    let (limit, name) = match source.timeout {
        Some(timeout) if timeout < domain.deadline => (timeout, "timeout"),
        _ => (domain.deadline, "deadline"),
    };
    let limit_ms = super::report::ms(limit);
    let expected = format!("less than its `{name}`, {}", humantime::format_duration(limit));
    match facts.warm_ms {
        Some(warm) if warm > limit_ms => {
            let observation = format!("takes {warm:.0} ms for an answer (median)");
            Some(Finding::error("too-slow", observation).expected(expected))
        }
        _ if facts.first_ms > limit_ms => {
            let observation = format!("took {:.0} ms for its first answer", facts.first_ms);
            Some(Finding::warning("slow-start", observation).expected(expected))
        }
        _ => None,
    }
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

    #[test]
    fn only_who_asks_and_goes_on_without_is_called_optional() {
        assert!(optional_certificate_finding(true, Some(WithoutCertificate::Accepted)).is_some());
        assert!(
            optional_certificate_finding(false, Some(WithoutCertificate::Accepted)).is_none(),
            "that is worse, and said elsewhere"
        );
        assert!(
            optional_certificate_finding(true, Some(WithoutCertificate::Refused)).is_none()
                && optional_certificate_finding(true, None).is_none()
        );
    }
}
