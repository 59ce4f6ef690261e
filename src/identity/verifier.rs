//! Verifies a server's certificate against the domain file: a chain to `ca.crt`, dates, and exactly
//! the expected identity.
//!
//! Names are compared as a whole: another identity of the same trust domain, a wildcard, or a
//! second URI SAN is refused, each with its own text. The text goes to the connection's handshake
//! state; the TLS library gets the error that makes the right alert.

use std::fmt;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::certificate::{Certificate, format_timestamp};
use super::files::TrustStore;
use super::proof;
use super::tls_error::TlsError;
use crate::domain::ServerIdentity;

/// Accepts one server identity under some trust anchors.
pub(super) struct UpstreamVerifier {
    trust: TrustStore,
    expected: ServerIdentity,
    algorithms: WebPkiSupportedAlgorithms,
    /// For inspection only: errors are recorded and the handshake goes on.
    lenient: bool,
}

impl fmt::Debug for UpstreamVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl UpstreamVerifier {
    pub(super) fn new(
        trust: TrustStore,
        expected: ServerIdentity,
        provider: &CryptoProvider,
    ) -> Self {
        Self {
            trust,
            expected,
            algorithms: provider.signature_verification_algorithms,
            lenient: false,
        }
    }

    /// A verifier that records errors and lets the handshake go on. No request may be sent over
    /// such a connection.
    pub(super) fn lenient(self) -> Self {
        Self { lenient: true, ..self }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), RefusedCertificate> {
        let certificate = Certificate::read(leaf).map_err(|error| {
            RefusedCertificate::new(
                CertificateError::BadEncoding,
                "malformed",
                format!("its certificate: {error}"),
            )
        })?;
        ParsedCertificate::try_from(leaf)
            .and_then(|parsed| {
                verify_server_cert_signed_by_trust_anchor(
                    &parsed,
                    &self.trust.roots,
                    others,
                    now,
                    self.algorithms.all,
                )
            })
            .map_err(|error| chain_refusal(&certificate, error))?;
        if let Some(revocations) = &self.trust.revocations {
            let roots = &self.trust.roots;
            revocations
                .check(leaf, others, roots, now, self.algorithms.all)
                .map_err(|error| revocation_refusal(&error))?;
        }
        check_identity(&certificate, &self.expected)
    }
}

impl ServerCertVerifier for UpstreamVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _url_host: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.check(leaf, others, now);
        proof::update_polled(|state| {
            state.leaf = Some(leaf.clone().into_owned());
            state.refusal = checked.as_ref().err().map(|refused| refused.refusal.clone());
        });
        match checked {
            Err(refused) if !self.lenient => Err(refused.error),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A certificate that was refused: once for the TLS library, once for people.
#[derive(Debug)]
struct RefusedCertificate {
    error: Error,
    refusal: TlsError,
}

impl RefusedCertificate {
    fn new(error: CertificateError, reason: &'static str, detail: String) -> Self {
        Self { error: Error::InvalidCertificate(error), refusal: TlsError { reason, detail } }
    }
}

fn revocation_refusal(error: &webpki::Error) -> RefusedCertificate {
    match error {
        webpki::Error::CertRevoked => {
            let detail = "its certificate, or an issuer of it, was revoked (`crl.pem`)".to_owned();
            RefusedCertificate::new(CertificateError::Revoked, "revoked", detail)
        }
        other => {
            let detail = format!(
                "whether its certificate was revoked cannot be told (`crl.pem`): {other:?}"
            );
            RefusedCertificate::new(
                CertificateError::UnknownRevocationStatus,
                "bad-revocation-list",
                detail,
            )
        }
    }
}

fn chain_refusal(certificate: &Certificate, error: Error) -> RefusedCertificate {
    use CertificateError as E;
    let (reason, detail) = match &error {
        Error::InvalidCertificate(E::UnknownIssuer | E::BadSignature) => (
            "unknown-issuer",
            format!(
                "its certificate was issued by `{}`, which none of the trusted certificates \
                 vouches for",
                certificate.issuer
            ),
        ),
        Error::InvalidCertificate(E::ExpiredContext { not_after, .. }) => {
            ("expired", describe_date(certificate.not_after, *not_after, "expired at"))
        }
        Error::InvalidCertificate(E::NotValidYetContext { not_before, .. }) => (
            "not-yet-valid",
            describe_date(certificate.not_before, *not_before, "is not valid before"),
        ),
        Error::InvalidCertificate(E::InvalidPurpose | E::InvalidPurposeContext { .. }) => (
            "wrong-usage",
            "its certificate is not for a TLS server (extended key usage)".to_owned(),
        ),
        _ if certificate.not_before < SystemTime::UNIX_EPOCH
            || certificate.not_after < SystemTime::UNIX_EPOCH =>
        {
            let (first, last) =
                (format_timestamp(certificate.not_before), format_timestamp(certificate.not_after));
            (
                "bad-certificate",
                format!(
                    "its certificate is dated before 1970 (from {first} to {last}), expected later"
                ),
            )
        }
        other => ("bad-certificate", format!("its certificate was refused: {other}")),
    };
    RefusedCertificate { error, refusal: TlsError { reason, detail } }
}

/// webpki gives the date that failed, not its certificate: where it is not the leaf's, it is an
/// issuer's.
fn describe_date(leaf: SystemTime, failed_at: UnixTime, words: &str) -> String {
    let failed_at = SystemTime::UNIX_EPOCH + Duration::from_secs(failed_at.as_secs());
    let whose = if failed_at == leaf { "its certificate" } else { "an issuer of its certificate" };
    format!("{whose} {words} {}", format_timestamp(failed_at))
}

fn check_identity(
    certificate: &Certificate,
    expected: &ServerIdentity,
) -> Result<(), RefusedCertificate> {
    let mismatch = |hint: &str| {
        let detail = format!(
            "its certificate is for {}, expected `{expected}`{hint}",
            certificate.describe_names()
        );
        Err(RefusedCertificate::new(
            CertificateError::ApplicationVerificationFailure,
            "wrong-identity",
            detail,
        ))
    };
    match expected {
        ServerIdentity::Spiffe(_) if certificate.uris.len() > 1 => {
            let detail = format!(
                "its certificate carries {} URI names, expected `{expected}` and no other: {}",
                certificate.uris.len(),
                certificate.describe_names()
            );
            Err(RefusedCertificate::new(
                CertificateError::ApplicationVerificationFailure,
                "many-identities",
                detail,
            ))
        }
        ServerIdentity::Spiffe(id) if certificate.uris == [id.as_str()] => Ok(()),
        ServerIdentity::Dns(name)
            if certificate.dns.iter().any(|dns| dns.eq_ignore_ascii_case(name)) =>
        {
            Ok(())
        }
        ServerIdentity::Dns(name)
            if certificate.dns.iter().any(|dns| is_wildcard_of(dns, name)) =>
        {
            mismatch("; a wildcard does not stand in for it")
        }
        ServerIdentity::Ip(ip) if certificate.ips.contains(ip) => Ok(()),
        _ => mismatch(""),
    }
}

fn is_wildcard_of(wildcard: &str, name: &str) -> bool {
    let (Some(rest), Some((_, parent))) = (wildcard.strip_prefix("*."), name.split_once('.'))
    else {
        return false;
    };
    rest.eq_ignore_ascii_case(parent)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn certificate(uris: &[&str], dns: &[&str], ips: &[&str]) -> Certificate {
        Certificate {
            subject: "CN=s".to_owned(),
            issuer: "CN=i".to_owned(),
            uris: uris.iter().map(ToString::to_string).collect(),
            dns: dns.iter().map(ToString::to_string).collect(),
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            not_before: SystemTime::UNIX_EPOCH,
            not_after: SystemTime::UNIX_EPOCH,
            fingerprint: String::new(),
            client_auth: true,
            server_auth: true,
        }
    }

    fn says(certificate: &Certificate, expected: &ServerIdentity) -> Result<(), String> {
        check_identity(certificate, expected).map_err(|refused| refused.refusal.detail)
    }

    #[test]
    fn a_spiffe_id_is_the_one_and_only_uri() {
        let expected = ServerIdentity::Spiffe("spiffe://d/a".to_owned());
        assert_eq!(says(&certificate(&["spiffe://d/a"], &["other"], &[]), &expected), Ok(()));
        for wrong in ["spiffe://d/b", "spiffe://d/a/", "spiffe://d/A", "spiffe://e/a", "spiffe://d"]
        {
            let met = says(&certificate(&[wrong], &[], &[]), &expected).unwrap_err();
            assert_eq!(met, format!("its certificate is for `{wrong}`, expected `spiffe://d/a`"));
        }
        let two =
            says(&certificate(&["spiffe://d/a", "spiffe://d/b"], &[], &[]), &expected).unwrap_err();
        assert!(two.starts_with("its certificate carries 2 URI names"), "{two}");
        assert!(
            says(&certificate(&["spiffe://d/a", "spiffe://d/a"], &[], &[]), &expected).is_err()
        );
        assert!(
            says(&certificate(&[], &["spiffe://d/a"], &[]), &expected).is_err(),
            "a DNS name is no URI"
        );
    }

    #[test]
    fn a_dns_name_is_met_exactly_but_for_case() {
        let expected = ServerIdentity::Dns("profile.crm".to_owned());
        assert_eq!(says(&certificate(&[], &["a", "PROFILE.crm"], &[]), &expected), Ok(()));
        let wildcard = says(&certificate(&[], &["*.crm"], &[]), &expected).unwrap_err();
        assert!(wildcard.ends_with("a wildcard does not stand in for it"), "{wildcard}");
        assert!(says(&certificate(&[], &["profile.crm.evil"], &[]), &expected).is_err());
        assert!(
            says(&certificate(&["profile.crm"], &[], &[]), &expected).is_err(),
            "a URI is no DNS name"
        );
    }

    #[test]
    fn an_address_is_met_among_addresses_only() {
        let expected = ServerIdentity::Ip("127.0.0.1".parse().unwrap());
        assert_eq!(says(&certificate(&[], &[], &["::1", "127.0.0.1"]), &expected), Ok(()));
        assert!(says(&certificate(&[], &["127.0.0.1"], &[]), &expected).is_err());
    }
}
