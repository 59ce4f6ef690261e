//! Why no connection came about, in words: every failure of TCP and TLS gets its own, with a hint
//! where there is a next step.
//!
//! Texts name the server, what was met and what was expected. A stranger's text comes in escaped
//! and bounded (see `certificate`); no request data is known here.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, Error, PeerIncompatible};

use super::TlsOptions;
use super::proof::HandshakeState;

/// What a TLS stream's errors are, and nothing else in an HTTP connection.
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
    /// In words: what was met and expected, never data.
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
    /// The one that caused `error`, however deep in its chain.
    ///
    /// Also finds it inside an [`io::Error`], whose `source()` skips what it wraps: a server that
    /// refuses our certificate says so after a TLS 1.3 handshake, so the error comes out of the
    /// first read. The HTTP/2 library keeps nothing of such an error but its kind and its words;
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

/// What went wrong in TLS: a word for the metric's label, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsError {
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

impl TlsError {
    fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// What an error of the TLS stream means.
    pub(super) fn of(error: &io::Error, mark: &HandshakeState, tls: TlsOptions) -> Self {
        match rustls_error(error) {
            Some(error) => Self::of_tls(error, mark, tls),
            None => Self::of_io(error),
        }
    }

    fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Self::new(
                "closed",
                "it closed the connection during the TLS handshake without saying why",
            ),
            io::ErrorKind::TimedOut => {
                Self::new("timeout", "the TLS handshake did not finish in time")
            }
            _ => Self::new("io", format!("the connection broke during the TLS handshake: {error}")),
        }
    }

    fn of_tls(error: &Error, mark: &HandshakeState, tls: TlsOptions) -> Self {
        match error {
            Error::InvalidCertificate(_) => mark.refusal.clone().unwrap_or_else(|| {
                Self::new("bad-certificate", format!("its certificate was refused: {error}"))
            }),
            Error::AlertReceived(alert) => Self::of_alert(*alert, tls),
            Error::PeerIncompatible(
                PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired,
            ) => Self::version(tls),
            Error::PeerIncompatible(
                PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon,
            ) => unfit_key_error(),
            Error::PeerIncompatible(what) => {
                Self::new("no-shared-cipher", format!("no TLS parameters in common: {what:?}"))
            }
            Error::InvalidMessage(what) => Self::new(
                "not-tls",
                format!("its answer is not TLS ({what:?}); hint: is this the port of `http://`?"),
            ),
            Error::NoCertificatesPresented => {
                Self::new("bad-certificate", "it presented no certificate")
            }
            other => Self::new("protocol", format!("the TLS handshake failed: {other}")),
        }
    }

    fn of_alert(alert: AlertDescription, tls: TlsOptions) -> Self {
        use AlertDescription as A;
        let name = alert_name(alert);
        match alert {
            A::ProtocolVersion => Self::version(tls),
            A::HandshakeFailure | A::InsufficientSecurity => Self::new(
                "no-shared-cipher",
                format!(
                    "it found no TLS parameters in common, or does not accept our certificate \
                     (alert `{name}`)"
                ),
            ),
            A::NoApplicationProtocol => Self::new(
                "no-shared-protocol",
                "it speaks neither HTTP/2 nor HTTP/1.1 (alert `no_application_protocol`)",
            ),
            alert if is_certificate_refusal(alert) => {
                Self::new("refused-us", format!("it refused our certificate (alert `{name}`)"))
            }
            _ => Self::new("alert", format!("it ended the TLS handshake (alert `{name}`)")),
        }
    }

    fn version(tls: TlsOptions) -> Self {
        let detail = if tls.tls12 {
            "it speaks neither TLS 1.3 nor TLS 1.2; expected one of them"
        } else {
            "it does not speak TLS 1.3; hint: `--tls12` allows TLS 1.2 too, \
             older ones are never spoken"
        };
        Self::new("version", detail)
    }
}

/// It accepts no signature that our key can make.
pub(super) fn unfit_key_error() -> TlsError {
    TlsError::new(
        "unfit-key",
        "it accepts no signature that our key can make, so our certificate cannot be presented",
    )
}

/// It closed the connection behind the handshake and before a byte of HTTP.
pub(super) fn closed_unanswered() -> TlsError {
    let detail = "it closed the connection right behind the TLS 1.3 handshake, before a byte of \
                  HTTP; \
                  hint: a server that does not accept our certificate may do so without saying \
                  why, \
                  see its log";
    TlsError::new("closed-unanswered", detail)
}

/// Whether an alert says that our certificate, or the lack of one, was the reason.
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
