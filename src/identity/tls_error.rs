//! A failure of TLS, as metrics and messages name it.

/// A failure of TLS: a word for the metric's label, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsError {
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

impl TlsError {
    pub(super) fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
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
