//! What an error of the driver means: whose fault it is, whether to retry, and the words for it.
//!
//! Neither the server's own text nor the driver's is passed on: it may quote a value. The server's
//! code is, a number (MongoDB's documentation, "Error Codes").

use std::error::Error as _;

use mongodb::error::{Error, ErrorKind};

use crate::sources::Reason;
use crate::sources::attempt_error::{AttemptError, Resend};

/// Why a query gave no documents.
pub(super) fn query_error(error: &Error) -> AttemptError {
    match &*error.kind {
        ErrorKind::Command(refusal) => server_error(refusal.code),
        _ => server_trouble(error),
    }
}

/// Why a server cannot be asked.
pub(super) fn server_trouble(error: &Error) -> AttemptError {
    match &*error.kind {
        ErrorKind::Command(refusal) if matches!(refusal.code, 11 | 18) => refused_user(),
        ErrorKind::Command(refusal) => server_error(refusal.code),
        ErrorKind::Authentication { .. } => refused_user(),
        ErrorKind::Io(error) => io_error(error),
        ErrorKind::DnsResolve { .. } => connect("its host has no address"),
        ErrorKind::ServerSelection { .. } => connect("no server of it can be asked"),
        ErrorKind::ConnectionPoolCleared { .. } => lost_connection(),
        ErrorKind::InvalidTlsConfig { .. } => tls("the identity's files are none for its driver"),
        ErrorKind::IncompatibleServer { .. } | ErrorKind::SessionsNotSupported => {
            status("speaks another version of the protocol than its driver").without_retry()
        }
        ErrorKind::InvalidResponse { .. } | ErrorKind::BsonDeserialization(_) => {
            status("answered as no MongoDB does").without_retry()
        }
        ErrorKind::Shutdown => AttemptError::inconclusive(Reason::Connect, "is not asked any more"),
        _ => status("its driver failed"),
    }
}

fn io_error(error: &std::io::Error) -> AttemptError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    if let Some(cause) = cause {
        return tls(tls_detail(cause));
    }
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => connect("refused the connection"),
        std::io::ErrorKind::TimedOut => {
            AttemptError::of_unhealthy_source(Reason::Timeout, "gave no answer in its time")
        }
        _ if error.source().is_some_and(<dyn std::error::Error>::is::<rustls::Error>) => {
            tls("broke the handshake off")
        }
        _ => lost_connection(),
    }
}

/// The server may have ended it while nobody used it, and with it the driver ends all others.
fn lost_connection() -> AttemptError {
    AttemptError { resend: Resend::OnFreshConnection, ..AttemptError::of_lost_connection() }
}

fn tls_detail(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(_) => {
            "its certificate is none of the trusted authorities' for its host and this time"
        }
        rustls::Error::AlertReceived(_) => "broke the handshake off, at our certificate perhaps",
        _ => "does no TLS that we do",
    }
}

fn connect(detail: &str) -> AttemptError {
    AttemptError::of_unhealthy_source(Reason::Connect, detail)
}

fn tls(detail: &str) -> AttemptError {
    AttemptError::of_unhealthy_source(Reason::Tls, detail).without_retry()
}

fn status(detail: &str) -> AttemptError {
    AttemptError::of_unhealthy_source(Reason::Status, detail)
}

fn refused_user() -> AttemptError {
    let detail = "refused the user of its URL, or our certificate as one";
    AttemptError::of_unhealthy_source(Reason::Connect, detail).without_retry()
}

/// An error that a server answered with.
fn server_error(code: i32) -> AttemptError {
    let unhealthy = |reason, detail: &str| {
        AttemptError::of_unhealthy_source(reason, format!("{detail} (code {code})"))
    };
    let answered =
        |detail: &str| AttemptError::answered(Reason::Status, format!("{detail} (code {code})"));
    match code {
        // MaxTimeMSExpired, ExceededTimeLimit, LockTimeout, NetworkTimeout.
        50 | 262 | 24 | 89 => unhealthy(Reason::Timeout, "ended the query, whose time was over"),
        // Unauthorized.
        13 => answered("refused the query: its user lacks a right"),
        // It goes away, or is not (yet) the one that can be read.
        6 | 7 | 91 | 189 | 9001 | 10058 | 10107 | 11600 | 11602 | 13435 | 13436 => {
            unhealthy(Reason::Connect, "is not the one to read, or goes away")
        }
        // WriteConflict, SnapshotTooOld, SnapshotUnavailable, StaleConfig and its like.
        112 | 134 | 239 | 246 | 63 | 13388 => {
            unhealthy(Reason::Status, "could not keep the instant that it was read at")
        }
        // CursorNotFound, QueryPlanKilled, CursorKilled, Interrupted.
        43 | 175 | 237 | 11601 => unhealthy(Reason::Status, "gave the query up"),
        // InternalError, OutOfDiskSpace, OperationFailed; snapshots that it turns out not to have.
        1 | 14031 | 96 | 123 => unhealthy(Reason::Status, "has trouble of its own"),
        // BadValue, FailedToParse, and what the server says of operators it does not know.
        2 | 9 | 168 => answered("does not understand the query"),
        _ => answered("refused the query"),
    }
}
