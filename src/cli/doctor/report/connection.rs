//! The handshakes with a server, as the members that `--format json` prints.

use std::time::SystemTime;

use serde::Serialize;

use super::super::probe::{CertificatePresentation, ConnectionProbe, TlsProbe, WithoutCertificate};
use super::super::units::ms;
use crate::identity::{Certificate, format_timestamp};
use crate::sources::DatabaseExamination;

/// The most names that are shown of a certificate, and the most characters of each: a stranger may
/// have written them.
const NAMES_MAX: usize = 32;
const NAME_MAX_CHARS: usize = 256;

/// A connection to a source's server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in super::super) struct ConnectionReport {
    pub(in super::super) certificate: Option<CertificateReport>,
    pub(in super::super) protocol: Option<String>,
    pub(in super::super) key_exchange: Option<String>,
    /// Whether the handshake asks for a client certificate; `None`: there is no TLS.
    pub(in super::super) asks_for_certificate: Option<bool>,
    /// How the server treats a client without a certificate.
    pub(in super::super) without_certificate: Option<WithoutCertificate>,
    pub(in super::super) connect_ms: f64,
    pub(in super::super) handshake_ms: Option<f64>,
}

/// The server's certificate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in super::super) struct CertificateReport {
    pub(in super::super) names: Vec<String>,
    pub(in super::super) issuer: String,
    pub(in super::super) not_before: String,
    pub(in super::super) not_after: String,
    pub(in super::super) fingerprint: String,
    #[serde(skip)]
    pub(in super::super) ends: SystemTime,
}

impl ConnectionReport {
    /// `None`: there is no connection.
    pub(super) fn of(connection: &ConnectionProbe) -> Option<Self> {
        match connection {
            ConnectionProbe::Unreachable(_) | ConnectionProbe::TimedOut(_) => None,
            ConnectionProbe::Plain { connect } => Some(Self {
                certificate: None,
                protocol: None,
                key_exchange: None,
                asks_for_certificate: None,
                without_certificate: None,
                connect_ms: ms(*connect),
                handshake_ms: None,
            }),
            ConnectionProbe::Tls(tls) => Some(Self::of_tls(tls)),
        }
    }

    /// With what a database's own session says of a client without a certificate, which its
    /// handshake does not.
    pub(super) fn with_session(self, database: Option<&DatabaseExamination>) -> Self {
        let Some(database) = database else { return self };
        let by_session = database.lets_in_without_certificate.map(|is_let_in| {
            if is_let_in { WithoutCertificate::Accepted } else { WithoutCertificate::Refused }
        });
        Self { without_certificate: by_session.or(self.without_certificate), ..self }
    }

    fn of_tls(tls: &TlsProbe) -> Self {
        let inspection = &tls.inspection;
        let proof = match &tls.presentation {
            CertificatePresentation::Accepted(proof) => proof.as_ref(),
            CertificatePresentation::Refused(_) | CertificatePresentation::TimedOut(_) => None,
        };
        // Over TLS 1.2 a server that demands a certificate ends the inspection, which presents
        // none, before the protocol is agreed on. The handshake with the sidecar's certificate then
        // shows it.
        let protocol = inspection.protocol.or(proof.map(|proof| proof.protocol));
        let key_exchange = inspection.group.or(proof.and_then(|proof| proof.group));
        Self {
            certificate: inspection.certificate.as_ref().map(CertificateReport::of),
            protocol: protocol.map(str::to_owned),
            key_exchange: key_exchange.map(str::to_owned),
            asks_for_certificate: Some(inspection.asked_for_certificate),
            without_certificate: tls.without_certificate,
            connect_ms: ms(inspection.connect),
            handshake_ms: Some(ms(inspection.handshake)),
        }
    }
}

impl CertificateReport {
    pub(super) fn of(certificate: &Certificate) -> Self {
        Self {
            names: certificate_names(certificate),
            issuer: certificate.issuer.clone(),
            not_before: format_timestamp(certificate.not_before),
            not_after: format_timestamp(certificate.not_after),
            fingerprint: certificate.fingerprint.clone(),
            ends: certificate.not_after,
        }
    }
}

/// The names of a certificate: URIs, DNS names, addresses; control characters escaped.
pub(super) fn certificate_names(certificate: &Certificate) -> Vec<String> {
    let texts = certificate.uris.iter().chain(&certificate.dns).cloned();
    let texts = texts.chain(certificate.ips.iter().map(ToString::to_string)).take(NAMES_MAX);
    texts
        .map(|name| name.chars().take(NAME_MAX_CHARS).flat_map(char::escape_debug).collect())
        .collect()
}
