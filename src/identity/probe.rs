//! Questions that `bfb doctor` asks a server, by handshakes only: no byte of a request is sent, no
//! session is kept.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{Error, RootCertStore};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;

use super::certificate::Certificate;
use super::connector::{self, ConnectTarget, UpstreamProtocol, client_config, close, handshake};
use super::error::{self, ConnectError};
use super::files::TrustStore;
use super::proof::{ClientCertResolver, HandshakeState};
use super::traffic_meter::{Socket, TrafficMeter};
use super::verifier::UpstreamVerifier;
use super::{Identity, TlsOptions, provider};
use crate::domain::ServerIdentity;

/// How long a server may take to refuse a handshake without a certificate: in TLS 1.3 it does so
/// after our last message.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The most that is read while waiting for a refusal, in bytes (an HTTP/2 server greets first).
const READ_MAX_BYTES: usize = 64 * 1024;

/// How a server treats a client that presents no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeRefusal {
    /// It ends the handshake: it demands one.
    DemandsCertificate,
    /// It completes the handshake. (Some servers then refuse each request; that is not tried.)
    AcceptsWithout,
    /// It ended the connection without a reason.
    Unknown(String),
}

/// Whether `uri`'s server refuses a client that presents no certificate. The server itself is
/// verified as always.
pub async fn probe_without_certificate(
    uri: &Uri,
    identity: &Identity,
    server: &ServerIdentity,
    tls: TlsOptions,
) -> Result<ProbeRefusal, ConnectError> {
    let verifier = UpstreamVerifier::new(identity.trust.clone(), server.clone(), &provider());
    let ProbedHandshake { target, outcome, handshake_state: mut state, .. } =
        probe_handshake(uri, verifier, tls).await?;
    let mut stream = match outcome {
        Ok(stream) => stream,
        Err(error) => {
            return refusal_of(&error, &state)
                .ok_or_else(|| handshake_error(&target, &error, &state, tls));
        }
    };
    if !state.certificate_requested {
        close(&mut stream, &mut state).await;
        return Ok(ProbeRefusal::AcceptsWithout);
    }
    let refusal = await_refusal(&mut stream, &mut state).await;
    close(&mut stream, &mut state).await;
    Ok(refusal)
}

/// A server's side of a handshake, whether or not it would be accepted.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// The fields of its certificate, where one arrived and could be read.
    pub certificate: Option<Certificate>,
    /// Why it would be refused, or why the handshake failed; `None`: it is as expected.
    pub problem: Option<String>,
    /// Whether it asked for a client certificate.
    pub asked_for_certificate: bool,
    /// `TLS 1.3`, where the handshake finished.
    pub protocol: Option<&'static str>,
    /// `X25519MLKEM768`, where the handshake finished.
    pub group: Option<&'static str>,
    /// How long the TCP connection took, the name's resolution included.
    pub connect: Duration,
    /// How long the handshake took.
    pub handshake: Duration,
}

/// Looks at `uri`'s server in a handshake that presents no certificate, and goes on where
/// verification would end it. That it does not ask for our certificate is a problem if
/// `is_request_demanded`.
pub async fn inspect(
    uri: &Uri,
    identity: &Identity,
    server: &ServerIdentity,
    is_request_demanded: bool,
    tls: TlsOptions,
) -> Result<Inspection, ConnectError> {
    let mut inspection = inspect_handshake(uri, identity.trust.clone(), server, tls).await?;
    if is_request_demanded
        && inspection.problem.is_none()
        && inspection.protocol.is_some()
        && !inspection.asked_for_certificate
    {
        inspection.problem = Some("it did not ask for a client certificate".to_owned());
    }
    Ok(inspection)
}

/// The same for a server that need not ask for our certificate: `authorities`, in PEM, may have
/// signed its own; without them the public ones.
pub async fn inspect_with_authorities(
    uri: &Uri,
    authorities: Option<&[u8]>,
    server: &ServerIdentity,
    tls: TlsOptions,
) -> Result<Inspection, ConnectError> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(pem) => {
            roots.add_parsable_certificates(
                CertificateDer::pem_slice_iter(pem).filter_map(Result::ok),
            );
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    inspect_handshake(uri, TrustStore::from_roots(roots), server, tls).await
}

async fn inspect_handshake(
    uri: &Uri,
    trust: TrustStore,
    server: &ServerIdentity,
    tls: TlsOptions,
) -> Result<Inspection, ConnectError> {
    let verifier = UpstreamVerifier::new(trust, server.clone(), &provider()).lenient();
    let ProbedHandshake { outcome, handshake_state: mut state, connect, handshake, .. } =
        probe_handshake(uri, verifier, tls).await?;
    let problem = match &outcome {
        _ if state.refusal.is_some() => state.refusal.as_ref().map(|fault| fault.detail.clone()),
        // Over TLS 1.2 a server that demands a certificate ends the handshake here, as it should.
        Err(error)
            if state.certificate_requested
                && refusal_of(error, &state) == Some(ProbeRefusal::DemandsCertificate) =>
        {
            None
        }
        Err(error) => Some(error::classify_tls_error(error, &state, tls).detail),
        Ok(_) => None,
    };
    let finished = outcome.as_ref().ok();
    let inspection = Inspection {
        certificate: state
            .leaf
            .as_ref()
            .and_then(|leaf: &CertificateDer<'_>| Certificate::read(leaf).ok()),
        problem,
        asked_for_certificate: state.certificate_requested,
        protocol: finished.map(connector::protocol_name),
        group: finished.and_then(connector::group_name),
        connect,
        handshake,
    };
    if let Ok(mut stream) = outcome {
        close(&mut stream, &mut state).await;
    }
    Ok(inspection)
}

/// A handshake that presents nothing, finished or failed.
struct ProbedHandshake {
    target: ConnectTarget,
    outcome: io::Result<TlsStream<Socket>>,
    handshake_state: HandshakeState,
    connect: Duration,
    handshake: Duration,
}

async fn probe_handshake(
    uri: &Uri,
    verifier: UpstreamVerifier,
    tls: TlsOptions,
) -> Result<ProbedHandshake, ConnectError> {
    let protocol = UpstreamProtocol::of_scheme(uri, true);
    let target = ConnectTarget::of(uri, protocol.scheme())?;
    let host = target.server_name()?;
    let began = Instant::now();
    let mut socket = connector::connect(connector::tcp_connector(), &target).await?;
    let connect = began.elapsed();
    protocol.start_tls(&mut socket, &target).await?;
    let mut config = client_config(verifier, ClientCertResolver::presenting_nothing(), tls);
    config.alpn_protocols = protocol.alpn();
    let stream = Socket::below_tls(socket, TrafficMeter::new(None));
    let (outcome, state) = handshake(Arc::new(config), host, stream).await;
    Ok(ProbedHandshake {
        target,
        outcome,
        handshake_state: state,
        connect,
        handshake: began.elapsed().saturating_sub(connect),
    })
}

fn handshake_error(
    target: &ConnectTarget,
    error: &io::Error,
    state: &HandshakeState,
    tls: TlsOptions,
) -> ConnectError {
    ConnectError::tls(&target.name, &error::classify_tls_error(error, state, tls))
}

/// Reads (and throws away) until the server ends the connection or the time is over.
async fn await_refusal(stream: &mut TlsStream<Socket>, state: &mut HandshakeState) -> ProbeRefusal {
    let waiting = async {
        let mut left = READ_MAX_BYTES;
        while left > 0 {
            match read_some(stream, state).await {
                Ok(0) => {
                    return ProbeRefusal::Unknown(
                        "it closed the connection without an alert".to_owned(),
                    );
                }
                Ok(count) => left = left.saturating_sub(count),
                Err(error) => {
                    let unknown = || {
                        ProbeRefusal::Unknown(format!(
                            "the connection broke without an alert: {error}"
                        ))
                    };
                    return refusal_of(&error, state).unwrap_or_else(unknown);
                }
            }
        }
        ProbeRefusal::AcceptsWithout
    };
    timeout(REFUSAL_TIMEOUT, waiting).await.unwrap_or(ProbeRefusal::AcceptsWithout)
}

async fn read_some(
    stream: &mut TlsStream<Socket>,
    state: &mut HandshakeState,
) -> io::Result<usize> {
    let mut space = [0; 4096];
    std::future::poll_fn(|cx| {
        let mut buf = ReadBuf::new(&mut space);
        state
            .poll_with(|| Pin::new(&mut *stream).poll_read(cx, &mut buf))
            .map_ok(|()| buf.filled().len())
    })
    .await
}

/// The refusal in an error, if it is about the missing certificate.
fn refusal_of(error: &io::Error, state: &HandshakeState) -> Option<ProbeRefusal> {
    match error::rustls_error(error) {
        Some(Error::AlertReceived(alert)) if state.certificate_requested && is_refusal(*alert) => {
            Some(ProbeRefusal::DemandsCertificate)
        }
        Some(Error::AlertReceived(alert)) if state.certificate_requested => {
            Some(ProbeRefusal::Unknown(format!(
                "it ended the connection with alert `{}`",
                error::alert_name(*alert)
            )))
        }
        _ => None,
    }
}

/// In TLS 1.2 a missing certificate is a `handshake_failure`.
fn is_refusal(alert: rustls::AlertDescription) -> bool {
    alert == rustls::AlertDescription::HandshakeFailure || error::is_certificate_refusal(alert)
}
