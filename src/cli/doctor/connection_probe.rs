//! What a source's server shows in handshakes: once to look, once without a certificate, once with
//! ours. No request byte.

use std::time::{Duration, SystemTime};

use http::Uri;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};
use tower_service::Service as _;

use super::finding::Finding;
use super::identity_report::certificate_names;
use super::probe::DoctorContext;
use super::report::ms;
use super::source_findings;
use crate::domain::Source;
use crate::identity::{
    Certificate, ConnectError, ConnectErrorKind, Connector, Identity, IdentityMetrics, Inspection,
    MutualityProof, ProbeRefusal, inspect, moment, refuses_without_certificate,
};

/// In TLS 1.3 a server refuses our certificate after our last message: so long is listened for
/// that.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(250);

/// What is known of the server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ConnectionFacts {
    pub(super) certificate: Option<ServerCertificate>,
    pub(super) protocol: Option<String>,
    pub(super) key_exchange: Option<String>,
    /// In the handshake; `None`: there is no TLS.
    pub(super) asks_for_certificate: Option<bool>,
    /// What it does with a client that has none.
    pub(super) without_certificate: Option<WithoutCertificate>,
    pub(super) connect_ms: f64,
    pub(super) handshake_ms: Option<f64>,
}

/// The server's certificate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ServerCertificate {
    pub(super) names: Vec<String>,
    pub(super) issuer: String,
    pub(super) not_before: String,
    pub(super) not_after: String,
    pub(super) fingerprint: String,
    #[serde(skip)]
    pub(super) ends: SystemTime,
}

/// What a server does with a client that has no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WithoutCertificate {
    /// It ends the handshake.
    Refused,
    /// It completes the handshake.
    Accepted,
    /// It ended the connection, and did not say why.
    Closed,
}

/// Looks at `source`'s server.
pub(super) async fn probe_connection(
    source: &Source,
    context: &DoctorContext,
) -> (Option<ConnectionFacts>, Vec<Finding>) {
    let uri = &source.http.url.origin;
    match &context.identity {
        Some(identity) if uri.scheme_str() == Some("https") => {
            probe_mutual(source, identity, context).await
        }
        _ => probe_plain(uri, context).await,
    }
}

async fn probe_mutual(
    source: &Source,
    identity: &std::sync::Arc<Identity>,
    context: &DoctorContext,
) -> (Option<ConnectionFacts>, Vec<Finding>) {
    let (uri, server, tls) = (&source.http.url.origin, &source.http.server, context.tls);
    // First and alone: the others would be in its latency.
    let inspection = match timeout(context.timeout, inspect(uri, identity, server, tls)).await {
        Ok(Ok(inspection)) => inspection,
        Ok(Err(error)) => return (None, vec![unreachable_finding(error.detail)]),
        Err(_) => return (None, vec![too_slow_finding(context.timeout)]),
    };
    let connector =
        Connector::mutual(identity.clone(), server.clone(), tls, IdentityMetrics::default());
    let (without, mutual) = tokio::join!(
        timeout(context.timeout, refuses_without_certificate(uri, identity, server, tls)),
        timeout(context.timeout, present_certificate(connector, uri)),
    );
    let without = without.ok().and_then(Result::ok).map(|refusal| match refusal {
        ProbeRefusal::DemandsCertificate => WithoutCertificate::Refused,
        ProbeRefusal::AcceptsWithout => WithoutCertificate::Accepted,
        ProbeRefusal::Unknown(_) => WithoutCertificate::Closed,
    });
    let mut findings = match &mutual {
        Ok(mutual) => handshake_findings(&inspection, mutual.as_ref().err()),
        Err(_) => vec![too_slow_finding(context.timeout)],
    };
    findings.extend(source_findings::optional_certificate_finding(
        inspection.asked_for_certificate,
        without,
    ));
    if findings.is_empty() {
        let certificate = inspection.certificate.as_ref();
        findings.extend(certificate.and_then(|it| {
            source_findings::expiry_finding("its certificate", it, SystemTime::now())
        }));
    }
    let proof = mutual.ok().and_then(Result::ok).flatten();
    (Some(connection_facts(&inspection, proof.as_ref(), without)), findings)
}

/// What the handshakes say: the one with our certificate has the last word on whether a request may
/// be sent.
fn handshake_findings(inspection: &Inspection, refusal: Option<&ConnectError>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match (refusal, &inspection.problem) {
        (Some(error), _) => findings.push(match error.kind {
            ConnectErrorKind::Connect => unreachable_finding(error.detail.clone()),
            ConnectErrorKind::Tls | ConnectErrorKind::ClosedUnanswered => {
                Finding::error("tls", error.detail.clone())
            }
            ConnectErrorKind::NotMutual => source_findings::not_mutual_finding(),
        }),
        (None, Some(problem)) => findings.push(
            Finding::error("tls", format!("one of two connections would be refused: {problem}"))
                .hint("are there several servers behind its address?"),
        ),
        (None, None) => {}
    }
    // A wrong identity hides that it does not ask either.
    let is_finished = inspection.protocol.is_some();
    if is_finished
        && !inspection.asked_for_certificate
        && refusal.is_some_and(|e| e.kind == ConnectErrorKind::Tls)
    {
        findings.push(source_findings::not_mutual_finding());
    }
    findings
}

fn connection_facts(
    inspection: &Inspection,
    proof: Option<&MutualityProof>,
    without: Option<WithoutCertificate>,
) -> ConnectionFacts {
    ConnectionFacts {
        certificate: inspection.certificate.as_ref().map(server_certificate),
        // A server that demands a certificate ends the look itself over TLS 1.2: then the proof
        // knows.
        protocol: inspection.protocol.or(proof.map(|proof| proof.protocol)).map(str::to_owned),
        key_exchange: inspection.group.or(proof.and_then(|proof| proof.group)).map(str::to_owned),
        asks_for_certificate: Some(inspection.asked_for_certificate),
        without_certificate: without,
        connect_ms: ms(inspection.connect),
        handshake_ms: Some(ms(inspection.handshake)),
    }
}

pub(super) fn server_certificate(certificate: &Certificate) -> ServerCertificate {
    ServerCertificate {
        names: certificate_names(certificate),
        issuer: certificate.issuer.clone(),
        not_before: moment(certificate.not_before),
        not_after: moment(certificate.not_after),
        fingerprint: certificate.fingerprint.clone(),
        ends: certificate.not_after,
    }
}

/// Presents our certificate, and listens for a refusal.
async fn present_certificate(
    mut connector: Connector,
    uri: &Uri,
) -> Result<Option<MutualityProof>, ConnectError> {
    let connection = connector.call(uri.clone()).await?;
    let proof = connection.proof().cloned();
    let mut stream = TokioIo::new(connection);
    let mut greeting = [0; 64];
    let refused = |detail: String| ConnectError { kind: ConnectErrorKind::Tls, detail };
    // One that accepts us waits for a request, or greets.
    if let Ok(Err(error)) = timeout(REFUSAL_TIMEOUT, stream.read(&mut greeting)).await {
        let broken_off =
            || refused(format!("it broke the connection off at our certificate: {}", error.kind()));
        return Err(ConnectError::cause_of(&error).unwrap_or_else(broken_off));
    }
    let _ = timeout(REFUSAL_TIMEOUT, stream.shutdown()).await;
    Ok(proof)
}

async fn probe_plain(
    uri: &Uri,
    context: &DoctorContext,
) -> (Option<ConnectionFacts>, Vec<Finding>) {
    let began = Instant::now();
    match timeout(context.timeout, Connector::plain().call(uri.clone())).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return (None, vec![unreachable_finding(error.detail)]),
        Err(_) => return (None, vec![too_slow_finding(context.timeout)]),
    }
    let facts = ConnectionFacts {
        certificate: None,
        protocol: None,
        key_exchange: None,
        asks_for_certificate: None,
        without_certificate: None,
        connect_ms: ms(began.elapsed()),
        handshake_ms: None,
    };
    let warning =
        Finding::warning("plain", "plain, not mutual: anyone on the way can read and change it");
    (
        Some(facts),
        vec![warning.expected("`https://`").hint("`--insecure-upstreams` is for development")],
    )
}

fn unreachable_finding(detail: String) -> Finding {
    Finding::error("unreachable", detail)
}

fn too_slow_finding(limit: Duration) -> Finding {
    let observation = format!("no connection within {}", humantime::format_duration(limit));
    Finding::error("unreachable", observation).hint("`--timeout` waits longer")
}
