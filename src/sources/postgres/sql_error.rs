//! What a database's error means: whose fault it is, whether to retry, and the words for it.
//!
//! The server's own text is never passed on: it may quote a value. Its SQLSTATE is, a code of five
//! characters (PostgreSQL's documentation, "PostgreSQL Error Codes").

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

use super::inbound::InboundError;
use crate::domain::Reference;
use crate::identity::ConnectError;
use crate::sources::Reason;
use crate::sources::attempt_error::AttemptError;

/// When an error of a statement came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatementStage {
    /// While the statement was parsed, its values converted, and its plan made.
    Preparation,
    /// While it ran.
    Execution,
}

/// Why no connection was opened.
pub(super) fn connect_error(error: &Error) -> AttemptError {
    let Some(refusal) = error.as_db_error() else {
        if wants_password(error) {
            let detail = "wants a password, and its URL has none";
            return AttemptError::of_unhealthy_source(Reason::Connect, detail).without_retry();
        }
        return connection_error(error);
    };
    let code = refusal.code().code();
    let detail = match code {
        "28P01" => "refused the user or the password of its URL (SQLSTATE 28P01)".to_owned(),
        "28000" => "refused the user of its URL (SQLSTATE 28000): see `pg_hba.conf`".to_owned(),
        "3D000" => format!("has no database of this name (SQLSTATE {code})"),
        "53300" => format!("has no connection left (SQLSTATE {code}): see `concurrency`"),
        _ => format!("took no connection (SQLSTATE {code})"),
    };
    let error = AttemptError::of_unhealthy_source(Reason::Connect, detail);
    if matches!(code, "28P01" | "28000" | "3D000") { error.without_retry() } else { error }
}

/// Whether the server let us past its `pg_hba.conf`, to the wish for a password: `None` where that
/// cannot be told.
pub(super) fn is_let_past(error: &Error) -> Option<bool> {
    match error.code().map(SqlState::code) {
        Some("28P01") => Some(true),
        Some("28000") => Some(false),
        Some(_) => None,
        None => wants_password(error).then_some(true),
    }
}

/// Whether the server asked for a password that we do not have.
fn wants_password(error: &Error) -> bool {
    use std::error::Error as _;
    error.source().is_some_and(|cause| cause.to_string().contains("password missing"))
}

/// Why a connection ended.
pub(super) fn connection_error(error: &Error) -> AttemptError {
    if let Some(refusal) = error.as_db_error() {
        return server_error(refusal);
    }
    match InboundError::cause_of(error) {
        Some(InboundError::TooMuch) => {
            AttemptError::answered(Reason::TooLarge, "sent more than `max_body` allows")
        }
        Some(error) => {
            AttemptError::of_unhealthy_source(Reason::Status, error.to_string()).without_retry()
        }
        None if let Some(error) = ConnectError::cause_of(error) => {
            AttemptError::from_connect(error)
        }
        None if error.is_closed() || has_io_cause(error) => AttemptError::of_lost_connection(),
        None => AttemptError::of_unhealthy_source(Reason::Status, "answered as no PostgreSQL does"),
    }
}

fn has_io_cause(error: &Error) -> bool {
    use std::error::Error as _;
    error.source().is_some_and(|cause| cause.downcast_ref::<std::io::Error>().is_some())
}

/// Whether an error is one of a statement alone: the server goes on with what was sent behind it.
pub(super) fn is_statement_error(error: &Error) -> bool {
    let severity = error.as_db_error().and_then(DbError::parsed_severity);
    severity == Some(Severity::Error)
}

/// Why a transaction could not begin.
pub(super) fn whole_error(error: &Error) -> AttemptError {
    error.as_db_error().map_or_else(|| connection_error(error), server_error)
}

/// Why a statement gave no rows, where no statement of its transaction failed before it.
pub(super) fn statement_error(
    error: &Error,
    stage: StatementStage,
    parameters: &[Reference],
) -> AttemptError {
    let Some(refusal) = error.as_db_error() else { return connection_error(error) };
    let parameter = unconverted_parameter(refusal).filter(|_| stage == StatementStage::Preparation);
    match parameter.and_then(|number| parameters.get(number - 1)) {
        Some(reference) => conversion_error(refusal, reference),
        None => server_error(refusal),
    }
}

/// The number of the parameter whose value could not be converted to the type that the statement
/// gives it, or that a domain of it refuses: a data exception or a violated constraint, whose
/// context names the parameter (since PostgreSQL 13). The same error without that context is one of
/// the statement itself, which the planner may run in part.
fn unconverted_parameter(error: &DbError) -> Option<usize> {
    const DATA_EXCEPTION: &str = "22";
    let number = error.where_().and_then(parameter_number)?;
    let code = error.code();
    let is_of_value = code.code().starts_with(DATA_EXCEPTION)
        || [SqlState::CHECK_VIOLATION, SqlState::NOT_NULL_VIOLATION].contains(code);
    is_of_value.then_some(number)
}

fn conversion_error(error: &DbError, reference: &Reference) -> AttemptError {
    let code = error.code().code();
    if *reference == Reference::Key {
        let detail =
            format!("the key is of another type than its query compares it with (SQLSTATE {code})");
        return AttemptError::inconclusive(Reason::BadKey, detail);
    }
    let detail = format!(
        "a value that its query refers to is of another type than it is compared with \
         (SQLSTATE {code})"
    );
    AttemptError::inconclusive(Reason::MissingReference, detail)
}

/// The parameter that the context of an error names: `unnamed portal parameter $1`. The value may
/// stand behind it, and the words are in the server's language. A context with quotes or several
/// lines before it is one of a statement inside of a function.
fn parameter_number(context: &str) -> Option<usize> {
    let (_, after) = context.split_once('$').filter(|(before, _)| !before.contains(['"', '\n']))?;
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..end].parse().ok().filter(|number| *number > 0)
}

/// Any other error of the server.
fn server_error(error: &DbError) -> AttemptError {
    let code = error.code().code();
    let answered = |reason, detail: &str| {
        AttemptError::answered(reason, format!("{detail} (SQLSTATE {code})"))
    };
    let unhealthy = |reason, detail: &str| {
        AttemptError::of_unhealthy_source(reason, format!("{detail} (SQLSTATE {code})"))
    };
    match code {
        "57014" => unhealthy(Reason::Timeout, "ended the statement, whose time was over"),
        "25006" => answered(Reason::Status, "refused to write: a source only reads"),
        "42501" => answered(Reason::Status, "refused the statement: its user lacks a right"),
        // The server or a pooler goes away, is not there yet, or had to give the snapshot up.
        _ if code.starts_with("57") || code.starts_with("08") => {
            unhealthy(Reason::Connect, "ended the connection")
        }
        _ if code.starts_with("53") || code.starts_with("58") || code.starts_with("XX") => {
            unhealthy(Reason::Status, "has trouble of its own")
        }
        // Where no statement before it failed, the server has ended the transaction by itself.
        _ if code.starts_with("40") || code == "25P02" => {
            unhealthy(Reason::Status, "could not keep the instant that it was read at")
        }
        _ if code.starts_with("42") => {
            answered(Reason::Status, "does not understand the statement")
        }
        _ => answered(Reason::Status, "refused the statement"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_of_a_conversion_is_found_in_its_context() {
        for (context, number) in [
            ("unnamed portal parameter $1", Some(1)),
            ("unnamed portal parameter $12 = 'x'", Some(12)),
            ("unbenanntes Portal, Parameter $2 = '''$3'''", Some(2)),
            ("unnamed portal parameter $", None),
            ("parameter $0", None),
            ("SQL statement \"SELECT $1::int\"", None),
            ("SQL function\nunnamed portal parameter $1", None),
            ("", None),
        ] {
            assert_eq!(parameter_number(context), number, "{context}");
        }
    }
}
