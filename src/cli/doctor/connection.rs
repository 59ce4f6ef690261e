//! What a source's server shows in handshakes: once to look, once without a certificate, once with
//! ours. No request byte.

use std::time::{Duration, SystemTime};

use http::Uri;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};
use tower_service::Service as _;

use super::examine::Asker;
use super::finding::Finding;
use super::judge;
use super::own::names;
use super::report::ms;
use crate::domain::Source;
use crate::identity::{
    Certificate, ConnectError, ConnectErrorKind, Connector, Identity, Inspection, Metrics, Proof,
    Refusal, inspect, moment, refuses_without_certificate,
};

/// In TLS 1.3 a server refuses our certificate after our last message: so long is listened for
/// that.
const REFUSES_WITHIN: Duration = Duration::from_millis(250);

/// What is known of the server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Facts {
    pub(super) certificate: Option<Presented>,
    pub(super) protocol: Option<String>,
    pub(super) key_exchange: Option<String>,
    /// In the handshake; `None`: there is no TLS.
    pub(super) asks_for_certificate: Option<bool>,
    /// What it does with a client that has none.
    pub(super) without_certificate: Option<Without>,
    pub(super) connect_ms: f64,
    pub(super) handshake_ms: Option<f64>,
}

/// The server's certificate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Presented {
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
pub(super) enum Without {
    /// It ends the handshake.
    Refused,
    /// It completes the handshake.
    Accepted,
    /// It ended the connection, and did not say why.
    Closed,
}

/// Looks at `source`'s server.
pub(super) async fn look(source: &Source, asker: &Asker) -> (Option<Facts>, Vec<Finding>) {
    let uri = &source.http.url.origin;
    match &asker.identity {
        Some(identity) if uri.scheme_str() == Some("https") => {
            secure(source, identity, asker).await
        }
        _ => plain(uri, asker).await,
    }
}

async fn secure(
    source: &Source,
    identity: &std::sync::Arc<Identity>,
    asker: &Asker,
) -> (Option<Facts>, Vec<Finding>) {
    let (uri, server, tls) = (&source.http.url.origin, &source.http.server, asker.tls);
    // First and alone: the others would be in its latency.
    let seen = match timeout(asker.timeout, inspect(uri, identity, server, tls)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => return (None, vec![unreachable(error.detail)]),
        Err(_) => return (None, vec![too_slow(asker.timeout)]),
    };
    let connector = Connector::mutual(identity.clone(), server.clone(), tls, Metrics::default());
    let (without, mutual) = tokio::join!(
        timeout(asker.timeout, refuses_without_certificate(uri, identity, server, tls)),
        timeout(asker.timeout, present(connector, uri)),
    );
    let without = without.ok().and_then(Result::ok).map(|refusal| match refusal {
        Refusal::DemandsCertificate => Without::Refused,
        Refusal::AcceptsWithout => Without::Accepted,
        Refusal::Unknown(_) => Without::Closed,
    });
    let mut findings = match &mutual {
        Ok(mutual) => handshakes(&seen, mutual.as_ref().err()),
        Err(_) => vec![too_slow(asker.timeout)],
    };
    findings.extend(judge::without(seen.asked_for_certificate, without));
    if findings.is_empty() {
        let certificate = seen.certificate.as_ref();
        findings.extend(
            certificate.and_then(|it| judge::expiry("its certificate", it, SystemTime::now())),
        );
    }
    let proof = mutual.ok().and_then(Result::ok).flatten();
    (Some(facts(&seen, proof.as_ref(), without)), findings)
}

/// What the handshakes say: the one with our certificate has the last word on whether a request may
/// be sent.
fn handshakes(seen: &Inspection, refused: Option<&ConnectError>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match (refused, &seen.problem) {
        (Some(error), _) => findings.push(match error.kind {
            ConnectErrorKind::Connect => unreachable(error.detail.clone()),
            ConnectErrorKind::Tls | ConnectErrorKind::ClosedUnanswered => {
                Finding::error("tls", error.detail.clone())
            }
            ConnectErrorKind::NotMutual => judge::not_mutual(),
        }),
        (None, Some(problem)) => findings.push(
            Finding::error("tls", format!("one of two connections would be refused: {problem}"))
                .hint("are there several servers behind its address?"),
        ),
        (None, None) => {}
    }
    // A wrong identity hides that it does not ask either.
    let finished = seen.protocol.is_some();
    if finished
        && !seen.asked_for_certificate
        && refused.is_some_and(|e| e.kind == ConnectErrorKind::Tls)
    {
        findings.push(judge::not_mutual());
    }
    findings
}

fn facts(seen: &Inspection, proof: Option<&Proof>, without: Option<Without>) -> Facts {
    Facts {
        certificate: seen.certificate.as_ref().map(presented),
        // A server that demands a certificate ends the look itself over TLS 1.2: then the proof
        // knows.
        protocol: seen.protocol.or(proof.map(|proof| proof.protocol)).map(str::to_owned),
        key_exchange: seen.group.or(proof.and_then(|proof| proof.group)).map(str::to_owned),
        asks_for_certificate: Some(seen.asked_for_certificate),
        without_certificate: without,
        connect_ms: ms(seen.connect),
        handshake_ms: Some(ms(seen.handshake)),
    }
}

pub(super) fn presented(certificate: &Certificate) -> Presented {
    Presented {
        names: names(certificate),
        issuer: certificate.issuer.clone(),
        not_before: moment(certificate.not_before),
        not_after: moment(certificate.not_after),
        fingerprint: certificate.fingerprint.clone(),
        ends: certificate.not_after,
    }
}

/// Presents our certificate, and listens for a refusal.
async fn present(mut connector: Connector, uri: &Uri) -> Result<Option<Proof>, ConnectError> {
    let connection = connector.call(uri.clone()).await?;
    let proof = connection.proof().cloned();
    let mut stream = TokioIo::new(connection);
    let mut greeting = [0; 64];
    let refused = |detail: String| ConnectError { kind: ConnectErrorKind::Tls, detail };
    // One that accepts us waits for a request, or greets.
    if let Ok(Err(error)) = timeout(REFUSES_WITHIN, stream.read(&mut greeting)).await {
        let unsaid =
            || refused(format!("it broke the connection off at our certificate: {}", error.kind()));
        return Err(ConnectError::cause_of(&error).unwrap_or_else(unsaid));
    }
    let _ = timeout(REFUSES_WITHIN, stream.shutdown()).await;
    Ok(proof)
}

async fn plain(uri: &Uri, asker: &Asker) -> (Option<Facts>, Vec<Finding>) {
    let began = Instant::now();
    match timeout(asker.timeout, Connector::plain().call(uri.clone())).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return (None, vec![unreachable(error.detail)]),
        Err(_) => return (None, vec![too_slow(asker.timeout)]),
    }
    let facts = Facts {
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

fn unreachable(detail: String) -> Finding {
    Finding::error("unreachable", detail)
}

fn too_slow(limit: Duration) -> Finding {
    let met = format!("no connection within {}", humantime::format_duration(limit));
    Finding::error("unreachable", met).hint("`--timeout` waits longer")
}
