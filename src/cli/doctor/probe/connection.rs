//! TLS handshakes with a source's server: once to look, once without a certificate, once with the
//! sidecar's. No byte of a request is sent.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};
use tower_service::Service as _;

use super::context::DoctorContext;
use crate::domain::{Mutuality, ServerIdentity, Source, SourceKind};
use crate::identity::{
    ConnectError, ConnectErrorKind, Connector, Identity, IdentityMetrics, Inspection,
    MutualityProof, ProbeRefusal, inspect, probe_without_certificate,
};

/// How long to wait for a refusal: in TLS 1.3 a server refuses our certificate after our last
/// message.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(250);

/// The results of the handshakes with a source's server.
#[derive(Debug)]
pub(in super::super) enum ConnectionProbe {
    /// There is no connection to it; in words.
    Unreachable(String),
    /// There was no connection within this time.
    TimedOut(Duration),
    /// It is asked without TLS.
    Plain {
        /// How long the TCP connection took, the name's resolution included.
        connect: Duration,
    },
    /// It is asked over TLS.
    Tls(Box<TlsProbe>),
}

/// The three handshakes with one server.
#[derive(Debug)]
pub(in super::super) struct TlsProbe {
    pub(in super::super) inspection: Inspection,
    /// How it treats a client without a certificate; `None`: unknown.
    pub(in super::super) without_certificate: Option<WithoutCertificate>,
    pub(in super::super) presentation: CertificatePresentation,
}

/// How a server treated the sidecar's certificate.
#[derive(Debug)]
pub(in super::super) enum CertificatePresentation {
    /// It accepted it; with the proof of the handshake.
    Accepted(Option<MutualityProof>),
    /// There was no connection that a request could be sent over.
    Refused(ConnectError),
    /// The handshake did not end within this time.
    TimedOut(Duration),
}

/// How a server treats a client without a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum WithoutCertificate {
    /// It ends the handshake.
    Refused,
    /// It completes the handshake.
    Accepted,
    /// It ended the connection, and did not say why.
    Closed,
}

impl ConnectionProbe {
    /// Whether a request may be sent: nothing that was seen would refuse it.
    pub(super) fn may_be_asked(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) => false,
            Self::Plain { .. } => true,
            Self::Tls(tls) => {
                let is_accepted = matches!(tls.presentation, CertificatePresentation::Accepted(_));
                is_accepted && tls.inspection.problem.is_none()
            }
        }
    }
}

/// Looks at `source`'s server.
pub(super) async fn probe_connection(source: &Source, context: &DoctorContext) -> ConnectionProbe {
    let (origin, server, is_tls) = match &source.kind {
        SourceKind::Http(http) => {
            let is_tls = http.url.origin.scheme_str() == Some("https");
            (Some(http.url.origin.clone()), Some(&http.server), is_tls)
        }
        SourceKind::Postgres(postgres) => {
            let server = postgres.database.server.as_ref();
            (postgres.database.origin(), server, server.is_some())
        }
        SourceKind::Mongo(mongo) => {
            let server = mongo.database.server.as_ref();
            (mongo.database.origin(), server, server.is_some())
        }
    };
    let Some(uri) = origin else {
        return ConnectionProbe::Unreachable("its URL cannot be put together".to_owned());
    };
    match (&context.identity, server) {
        (Some(identity), Some(server)) if is_tls => {
            probe_mutual(source, &uri, server, identity, context).await
        }
        _ => probe_plain(&uri, context).await,
    }
}

async fn probe_mutual(
    source: &Source,
    uri: &Uri,
    server: &ServerIdentity,
    identity: &Arc<Identity>,
    context: &DoctorContext,
) -> ConnectionProbe {
    let tls = context.tls;
    let is_request_demanded = source.mutual() == Mutuality::Proven;
    // This handshake comes first and alone, so that no other one is in its latency.
    let inspection =
        match timeout(context.timeout, inspect(uri, identity, server, is_request_demanded, tls))
            .await
        {
            Ok(Ok(inspection)) => inspection,
            Ok(Err(error)) => return ConnectionProbe::Unreachable(error.detail),
            Err(_) => return ConnectionProbe::TimedOut(context.timeout),
        };
    let (identity, metrics) = (Arc::clone(identity), IdentityMetrics::default());
    let connector = match &source.kind {
        SourceKind::Http(_) => Connector::mutual(identity.clone(), server.clone(), tls, metrics),
        SourceKind::Mongo(_) => Connector::mongo(&identity, server.clone(), tls, metrics),
        SourceKind::Postgres(_) => {
            let server = server.clone();
            Connector::postgres(identity.clone(), server, is_request_demanded, tls, metrics)
        }
    };
    let (without, presented) = tokio::join!(
        timeout(context.timeout, probe_without_certificate(uri, &identity, server, tls)),
        timeout(context.timeout, present_certificate(connector, uri)),
    );
    // PostgreSQL refuses after the handshake: its session is looked at elsewhere.
    let has_session = matches!(source.kind, SourceKind::Postgres(_));
    let without = without.ok().filter(|_| !has_session);
    let without_certificate = without.and_then(Result::ok).map(|refusal| match refusal {
        ProbeRefusal::DemandsCertificate => WithoutCertificate::Refused,
        ProbeRefusal::AcceptsWithout => WithoutCertificate::Accepted,
        ProbeRefusal::Unknown(_) => WithoutCertificate::Closed,
    });
    let presentation = match presented {
        Ok(Ok(proof)) => CertificatePresentation::Accepted(proof),
        Ok(Err(error)) => CertificatePresentation::Refused(error),
        Err(_) => CertificatePresentation::TimedOut(context.timeout),
    };
    ConnectionProbe::Tls(Box::new(TlsProbe { inspection, without_certificate, presentation }))
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
    // A server that accepts our certificate waits for a request, or greets.
    if let Ok(Err(error)) = timeout(REFUSAL_TIMEOUT, stream.read(&mut greeting)).await {
        let broken_off =
            || refused(format!("it broke the connection off at our certificate: {}", error.kind()));
        return Err(ConnectError::cause_of(&error).unwrap_or_else(broken_off));
    }
    let _ = timeout(REFUSAL_TIMEOUT, stream.shutdown()).await;
    Ok(proof)
}

async fn probe_plain(uri: &Uri, context: &DoctorContext) -> ConnectionProbe {
    let began = Instant::now();
    match timeout(context.timeout, Connector::plain().call(uri.clone())).await {
        Ok(Ok(_)) => ConnectionProbe::Plain { connect: began.elapsed() },
        Ok(Err(error)) => ConnectionProbe::Unreachable(error.detail),
        Err(_) => ConnectionProbe::TimedOut(context.timeout),
    }
}
