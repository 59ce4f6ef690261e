//! What a database's error means: whose fault it is, whether to retry, and the words for it.
//!
//! The server's own text is never passed on: it may quote a value. Its SQLSTATE is, a code of five
//! characters (PostgreSQL's documentation, "PostgreSQL Error Codes").

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use super::inbound::InboundError;
use crate::domain::{PostgresDatabase, Reference};
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
pub(super) fn connect_error(error: &Error, database: &PostgresDatabase) -> AttemptError {
    let Some(refusal) = error.as_db_error() else {
        if error.to_string().contains("password missing") {
            let detail = "wants a password, and its URL has none";
            return AttemptError::of_unhealthy_source(Reason::Connect, detail).without_retry();
        }
        return connection_error(error);
    };
    let code = refusal.code().code();
    let detail = match code {
        "28P01" | "28000" => format!(
            "refused the user of its URL (SQLSTATE {code}): {}",
            if database.password.is_some() { "user or password" } else { "`pg_hba.conf`" }
        ),
        "3D000" => format!("has no database of this name (SQLSTATE {code})"),
        "53300" => format!("has no connection left (SQLSTATE {code}): see `concurrency`"),
        _ => format!("took no connection (SQLSTATE {code})"),
    };
    let error = AttemptError::of_unhealthy_source(Reason::Connect, detail);
    if matches!(code, "28P01" | "28000" | "3D000") { error.without_retry() } else { error }
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

/// Why a statement gave no rows. `None`: an earlier statement of its transaction failed.
pub(super) fn statement_error(
    error: &Error,
    stage: StatementStage,
    parameters: &[Reference],
) -> Option<AttemptError> {
    let Some(refusal) = error.as_db_error() else { return Some(connection_error(error)) };
    if *refusal.code() == SqlState::IN_FAILED_SQL_TRANSACTION {
        return None;
    }
    let parameter = unconverted_parameter(refusal).filter(|_| stage == StatementStage::Preparation);
    Some(match parameter.and_then(|number| parameters.get(number - 1)) {
        Some(reference) => conversion_error(refusal, reference),
        None => server_error(refusal),
    })
}

/// The number of the parameter whose value could not be converted to the type that the statement
/// gives it: a data exception, whose context names the parameter (since PostgreSQL 13). The same
/// error without that context is one of the statement itself, which the planner may run in part.
fn unconverted_parameter(error: &DbError) -> Option<usize> {
    const DATA_EXCEPTION: &str = "22";
    let number = error.where_().and_then(parameter_number)?;
    error.code().code().starts_with(DATA_EXCEPTION).then_some(number)
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
/// stand behind it, and the words are in the server's language.
fn parameter_number(context: &str) -> Option<usize> {
    let (_, after) = context.split_once('$')?;
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
        _ if code.starts_with("40") => {
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
            ("", None),
        ] {
            assert_eq!(parameter_number(context), number, "{context}");
        }
    }
}
