//! The findings about the handshakes with a source's server.

use std::time::{Duration, SystemTime};

use super::super::probe::{CertificatePresentation, ConnectionProbe, TlsProbe, WithoutCertificate};
use super::certificate::expiry_finding;
use super::finding::Finding;
use crate::domain::Source;
use crate::identity::{ConnectError, ConnectErrorKind, Inspection};

/// The findings about a source's connection.
pub(super) fn connection_findings(
    source: &Source,
    connection: &ConnectionProbe,
    now: SystemTime,
) -> Vec<Finding> {
    match connection {
        ConnectionProbe::Unreachable(detail) => vec![unreachable_finding(detail.clone())],
        ConnectionProbe::TimedOut(limit) => vec![too_slow_finding(*limit)],
        ConnectionProbe::Plain { .. } => vec![plain_finding(source)],
        ConnectionProbe::Tls(tls) => tls_findings(tls, now),
    }
}

fn tls_findings(tls: &TlsProbe, now: SystemTime) -> Vec<Finding> {
    let inspection = &tls.inspection;
    let mut findings = match &tls.presentation {
        CertificatePresentation::Accepted(_) => handshake_findings(inspection, None),
        CertificatePresentation::Refused(error) => handshake_findings(inspection, Some(error)),
        CertificatePresentation::TimedOut(limit) => vec![too_slow_finding(*limit)],
    };
    findings.extend(optional_certificate_finding(
        inspection.asked_for_certificate,
        tls.without_certificate,
    ));
    if findings.is_empty() {
        let certificate = inspection.certificate.as_ref();
        findings.extend(certificate.and_then(|it| expiry_finding("its certificate", it, now)));
    }
    findings
}

/// The findings about the handshakes. The one that presented our certificate decides whether a
/// request may be sent.
fn handshake_findings(inspection: &Inspection, refusal: Option<&ConnectError>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match (refusal, &inspection.problem) {
        (Some(error), _) => findings.push(match error.kind {
            ConnectErrorKind::Connect => unreachable_finding(error.detail.clone()),
            ConnectErrorKind::Tls | ConnectErrorKind::ClosedUnanswered => {
                Finding::error("tls", error.detail.clone())
            }
            ConnectErrorKind::NotMutual => not_mutual_finding(),
        }),
        (None, Some(problem)) => findings.push(
            Finding::error("tls", format!("one of two connections would be refused: {problem}"))
                .hint("are there several servers behind its address?"),
        ),
        (None, None) => {}
    }
    // A server with a wrong identity is refused before it could be seen not to ask.
    let is_finished = inspection.protocol.is_some();
    if is_finished
        && !inspection.asked_for_certificate
        && refusal.is_some_and(|error| error.kind == ConnectErrorKind::Tls)
    {
        findings.push(not_mutual_finding());
    }
    findings
}

/// The finding about a server that does not ask for our certificate.
fn not_mutual_finding() -> Finding {
    Finding::error(
        "not-mutual",
        "it does not ask for a client certificate, so no request is ever sent to it",
    )
    .expected("it to demand one in the handshake")
    .hint("nginx: `ssl_verify_client on`; Envoy: `require_client_certificate: true`")
}

/// The finding about a server that asks for a certificate, but goes on without one.
fn optional_certificate_finding(
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

fn plain_finding(source: &Source) -> Finding {
    let expected = if source.http().is_some() { "`https://`" } else { "TLS" };
    Finding::warning("plain", "plain, not mutual: anyone on the way can read and change it")
        .expected(expected)
        .hint("`--insecure-upstreams` is for development")
}

fn unreachable_finding(detail: String) -> Finding {
    Finding::error("unreachable", detail)
}

fn too_slow_finding(limit: Duration) -> Finding {
    let observation = format!("no connection within {}", humantime::format_duration(limit));
    Finding::error("unreachable", observation).hint("`--timeout` waits longer")
}

#[cfg(test)]
mod tests {
    use super::*;

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
