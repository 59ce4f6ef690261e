//! The errors of connecting: every failure of TCP and TLS has its own text, with a hint where there
//! is a next step.
//!
//! Texts name the server, the value found and the value expected. Foreign text is escaped and
//! bounded (see `certificate`); no request data is known here.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, Error, PeerIncompatible};

use super::TlsOptions;
use super::proof::HandshakeState;
use super::tls_error::{TlsError, closed_unanswered, unfit_key_error};

/// The kind of a TLS stream's errors; no other error of an HTTP connection has it.
pub(super) const TLS_ERROR: io::ErrorKind = io::ErrorKind::InvalidData;
/// The kind of the error for a server that closed the connection behind the handshake. Only
/// `accept(2)` has this kind otherwise.
pub(super) const CLOSED_UNANSWERED: io::ErrorKind = io::ErrorKind::ConnectionAborted;

/// Why no connection came about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ConnectError {
    /// Which of them it was.
    pub kind: ConnectErrorKind,
    /// The value found and the value expected, in words; never data.
    pub detail: String,
}

/// The kinds of [`ConnectError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectErrorKind {
    /// No TCP connection (name, refusal, route).
    Connect,
    /// TLS failed, or the certificate is not the expected one.
    Tls,
    /// The server closed the connection behind a TLS 1.3 handshake, before a byte of HTTP.
    ClosedUnanswered,
    /// The server did not ask for our certificate.
    NotMutual,
}

impl ConnectError {
    /// The connection error that caused `error`, however deep in its chain.
    ///
    /// Also finds it inside an [`io::Error`], whose `source()` skips the error that it wraps: after
    /// a TLS 1.3 handshake the alert of a server that refuses our certificate arrives with the
    /// first read. The HTTP/2 library keeps nothing of such an error but its kind and its text;
    /// only TLS makes these kinds here.
    pub fn cause_of(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found.clone());
            }
            let io = error.downcast_ref::<io::Error>();
            let wrapped =
                io.and_then(io::Error::get_ref).map(|inner| inner as &(dyn StdError + 'static));
            let kind = match io.map(io::Error::kind) {
                Some(TLS_ERROR) => Some(ConnectErrorKind::Tls),
                Some(CLOSED_UNANSWERED) => Some(ConnectErrorKind::ClosedUnanswered),
                _ => None,
            };
            match (kind, wrapped) {
                (Some(kind), Some(words)) if !words.is::<Self>() => {
                    return Some(Self { kind, detail: words.to_string() });
                }
                _ => next = wrapped.or_else(|| error.source()),
            }
        }
        None
    }

    pub(super) fn connect(server: &str, error: &(dyn StdError + 'static)) -> Self {
        Self { kind: ConnectErrorKind::Connect, detail: describe_connect_failure(server, error) }
    }

    pub(super) fn tls(server: &str, fault: &TlsError) -> Self {
        Self { kind: ConnectErrorKind::Tls, detail: format!("`{server}`: {}", fault.detail) }
    }

    /// The server closed a connection behind the handshake, and before HTTP began on it.
    pub fn closed_unanswered() -> Self {
        Self { kind: ConnectErrorKind::ClosedUnanswered, detail: closed_unanswered().detail }
    }

    pub(super) fn not_mutual(server: &str) -> Self {
        let detail = format!(
            "`{server}` did not ask for a client certificate, so nothing was sent; \
             expected it to demand one in the handshake"
        );
        Self { kind: ConnectErrorKind::NotMutual, detail }
    }
}

/// Classifies an error of the TLS stream.
pub(super) fn classify_tls_error(
    error: &io::Error,
    state: &HandshakeState,
    tls: TlsOptions,
) -> TlsError {
    match rustls_error(error) {
        Some(error) => classify_rustls(error, state, tls),
        None => classify_io(error),
    }
}

fn classify_io(error: &io::Error) -> TlsError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => TlsError::new(
            "closed",
            "it closed the connection during the TLS handshake without saying why",
        ),
        io::ErrorKind::TimedOut => {
            TlsError::new("timeout", "the TLS handshake did not finish in time")
        }
        _ => TlsError::new("io", format!("the connection broke during the TLS handshake: {error}")),
    }
}

fn classify_rustls(error: &Error, state: &HandshakeState, tls: TlsOptions) -> TlsError {
    match error {
        Error::InvalidCertificate(_) => state.refusal.clone().unwrap_or_else(|| {
            TlsError::new("bad-certificate", format!("its certificate was refused: {error}"))
        }),
        Error::AlertReceived(alert) => classify_alert(*alert, tls),
        Error::PeerIncompatible(
            PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => version_error(tls),
        Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => {
            unfit_key_error()
        }
        Error::PeerIncompatible(what) => {
            TlsError::new("no-shared-cipher", format!("no TLS parameters in common: {what:?}"))
        }
        Error::InvalidMessage(what) => TlsError::new(
            "not-tls",
            format!("its answer is not TLS ({what:?}); hint: is this the port of `http://`?"),
        ),
        Error::NoCertificatesPresented => {
            TlsError::new("bad-certificate", "it presented no certificate")
        }
        other => TlsError::new("protocol", format!("the TLS handshake failed: {other}")),
    }
}

fn classify_alert(alert: AlertDescription, tls: TlsOptions) -> TlsError {
    use AlertDescription as A;
    let name = alert_name(alert);
    match alert {
        A::ProtocolVersion => version_error(tls),
        A::HandshakeFailure | A::InsufficientSecurity => TlsError::new(
            "no-shared-cipher",
            format!(
                "it found no TLS parameters in common, or does not accept our certificate \
                 (alert `{name}`)"
            ),
        ),
        A::NoApplicationProtocol => TlsError::new(
            "no-shared-protocol",
            "it speaks neither HTTP/2 nor HTTP/1.1 (alert `no_application_protocol`)",
        ),
        alert if is_certificate_refusal(alert) => {
            TlsError::new("refused-us", format!("it refused our certificate (alert `{name}`)"))
        }
        _ => TlsError::new("alert", format!("it ended the TLS handshake (alert `{name}`)")),
    }
}

fn version_error(tls: TlsOptions) -> TlsError {
    let detail = if tls.tls12 {
        "it speaks neither TLS 1.3 nor TLS 1.2; expected one of them"
    } else {
        "it does not speak TLS 1.3; hint: `--tls12` allows TLS 1.2 too, \
         older ones are never spoken"
    };
    TlsError::new("version", detail)
}

/// Whether an alert blames our certificate, or the lack of one.
pub(super) fn is_certificate_refusal(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::CertificateRequired
            | A::NoCertificate
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            | A::DecryptError
    )
}

/// The TLS library's error inside a stream's.
pub(super) fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// RFC 8446's name: `certificate_required`.
pub(super) fn alert_name(alert: AlertDescription) -> String {
    if alert == AlertDescription::UnknownCA {
        return "unknown_ca".to_owned();
    }
    let mut name = String::new();
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn describe_connect_failure(server: &str, error: &(dyn StdError + 'static)) -> String {
    let is_dns = error.to_string().starts_with("dns error");
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
    match kind {
        _ if is_dns => format!("the name in `{server}` does not resolve: {cause}"),
        Some(io::ErrorKind::ConnectionRefused) => {
            format!("`{server}` refused the connection; expected it to listen there")
        }
        Some(io::ErrorKind::TimedOut) => format!("`{server}` did not answer in time"),
        _ => format!("cannot connect to `{server}`: {cause}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_their_names_of_the_rfc() {
        assert_eq!(alert_name(AlertDescription::CertificateRequired), "certificate_required");
        assert_eq!(alert_name(AlertDescription::UnknownCA), "unknown_ca");
        assert_eq!(alert_name(AlertDescription::ProtocolVersion), "protocol_version");
    }

    #[test]
    fn the_cause_is_found_inside_an_io_error_too() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        let cause = ConnectError::not_mutual("a:1");
        let outer = Outer(io::Error::other(cause.clone()));
        assert_eq!(ConnectError::cause_of(&outer), Some(cause.clone()));
        let in_words = Outer(io::Error::new(TLS_ERROR, cause.to_string()));
        assert_eq!(ConnectError::cause_of(&in_words).unwrap().detail, cause.detail);
        assert_eq!(ConnectError::cause_of(&Outer(io::Error::other("else"))), None);
    }
}
