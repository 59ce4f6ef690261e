//! One transaction: its statements out in one write, their rows back in order.

use std::fmt::Write as _;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt as _;
use futures_util::future::poll_immediate;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error, RowStream};

use super::pool::Checkout;
use super::sql_error::{StatementStage, statement_error};
use crate::domain::{Reference, Rows};
use crate::resources::WorkMemory;
use crate::sources::Reason;
use crate::sources::attempt_error::AttemptError;
use crate::sources::part_text::{PartOutcome, PartText, ROWS_MAX};

/// What the answer to a statement takes beside its rows, and each row beside its text, in bytes.
const STATEMENT_OVERHEAD_BYTES: u64 = 4 << 10;
const ROW_OVERHEAD_BYTES: u64 = 16;
/// The statement that reads a part: its rows as the server's own JSON, one text each.
///
/// `part.*` is the whole row whatever its columns are called.
pub(in crate::sources) fn statement_text(query: &str, rows: Rows) -> String {
    let limit = match rows {
        Rows::One => " limit 2",
        Rows::Many => "",
    };
    format!("select pg_catalog.to_json(part.*)::pg_catalog.text from (\n{query}\n) as part{limit}")
}

/// One statement of a transaction.
#[derive(Debug, Clone, Copy)]
pub(in crate::sources) struct StatementRead<'a> {
    /// As [`statement_text`] makes it.
    pub(in crate::sources) text: &'a str,
    pub(in crate::sources) parameters: &'a [Reference],
    pub(in crate::sources) values: &'a [String],
    pub(in crate::sources) rows: Rows,
    /// The largest part, in bytes.
    pub(in crate::sources) bytes_max: usize,
    pub(in crate::sources) end: Instant,
    pub(in crate::sources) memory: &'a WorkMemory,
}

/// How a transaction ended.
#[derive(Debug)]
pub(in crate::sources) struct TransactionEnd<'a> {
    /// The outcomes, in the order of the statements.
    pub(in crate::sources) outcomes: Vec<PartOutcome<'a>>,
    /// The connection broke before the first row came: the server may have ended it while nobody
    /// used it.
    pub(in crate::sources) is_broken_unread: bool,
}

impl Checkout<'_> {
    /// Reads the statements in one transaction, and keeps the connection if all went well.
    pub(in crate::sources) async fn read<'a>(
        mut self,
        statements: &[StatementRead<'a>],
    ) -> TransactionEnd<'a> {
        let room: u64 = statements.iter().map(|it| it.bytes_max as u64).sum();
        let overhead = STATEMENT_OVERHEAD_BYTES * (statements.len() as u64 + 2);
        let expected = room + overhead + row_overhead(room);
        self.connection.expect_bytes(expected);
        let mut outcomes = Vec::with_capacity(statements.len());
        let unshared = WorkMemory::unshared();
        let memory = statements.first().map_or(&unshared, |statement| statement.memory);
        let read = async |client: &Client| read_statements(client, statements, &mut outcomes).await;
        let end = self.connection.drive(memory, read).await;
        let mut is_broken_unread = false;
        let is_committed = match end {
            Ok(Ok(())) => true,
            Ok(Err(None)) => false,
            Ok(Err(Some(error))) | Err(error) => {
                is_broken_unread = outcomes.is_empty() && error.reason == Reason::Connect;
                while outcomes.len() < statements.len() {
                    outcomes.push(PartOutcome::Failed(error.clone()));
                }
                false
            }
        };
        let rows: u64 = outcomes.iter().map(PartOutcome::bytes).sum();
        outcomes.resize_with(statements.len(), || PartOutcome::Unreached);
        let used = rows + overhead + row_overhead(rows);
        if self.connection.settle_bytes(expected, used) && is_committed {
            self.give_back();
        }
        TransactionEnd { outcomes, is_broken_unread }
    }
}

/// What the rows of so many bytes of parts may take beside them: each is at least two bytes.
fn row_overhead(bytes: u64) -> u64 {
    (bytes / 2).min(ROWS_MAX as u64) * ROW_OVERHEAD_BYTES
}

type StatementFuture<'f> = Pin<Box<dyn Future<Output = Result<RowStream, Error>> + Send + 'f>>;

/// Sends everything, then reads the rows statement by statement. `Err(None)`: a statement failed,
/// and its outcome says why; `Err(Some)`: the whole transaction did.
async fn read_statements<'a>(
    client: &Client,
    statements: &[StatementRead<'a>],
    outcomes: &mut Vec<PartOutcome<'a>>,
) -> Result<(), Option<AttemptError>> {
    let now = Instant::now();
    let begin_text = begin_text(statements, now);
    // A future is sent at its first poll: in this order.
    let mut begin = pin!(client.batch_execute(&begin_text));
    let mut begun = poll_immediate(&mut begin).await;
    let mut timeouts = Vec::new();
    let mut queries = Vec::with_capacity(statements.len());
    let mut last_timeout = statements.first().map(|it| milliseconds(it.end, now));
    for statement in statements {
        let timeout = milliseconds(statement.end, now);
        if last_timeout != Some(timeout) {
            last_timeout = Some(timeout);
            let text = format!("set local statement_timeout = {timeout}");
            let mut set = Box::pin(async move { client.batch_execute(&text).await });
            poll_immediate(&mut set).await;
            timeouts.push(set);
        }
        let values: Vec<_> =
            statement.values.iter().map(|it| (TextValue(it), Type::UNKNOWN)).collect();
        let mut query: StatementFuture<'_> =
            Box::pin(client.query_typed_raw(statement.text, values));
        let ready = poll_immediate(&mut query).await;
        queries.push((query, ready));
    }
    let mut commit = pin!(client.batch_execute("commit"));
    let committed = poll_immediate(&mut commit).await;

    if begun.is_none() {
        begun = Some(begin.await);
    }
    if let Some(Err(error)) = begun {
        return Err(statement_error(&error, StatementStage::Execution, &[]));
    }
    for (statement, (query, ready)) in statements.iter().zip(queries) {
        let query = async {
            match ready {
                Some(result) => result,
                None => query.await,
            }
        };
        let read = timeout_at(statement.end, read_rows(query, statement)).await;
        let outcome = match read {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(Some(error))) => PartOutcome::Failed(error),
            // A statement before it failed, which has said so.
            Ok(Err(None)) => return Err(None),
            Err(_) => PartOutcome::Failed(timeout_error(statement, now)),
        };
        let failed = matches!(outcome, PartOutcome::Failed(_));
        outcomes.push(outcome);
        if failed {
            return Err(None);
        }
    }
    // The rows are read; a connection whose end is not clean is not used again.
    let result = match committed {
        Some(result) => result,
        None => commit.await,
    };
    result.map_err(|_| None)
}

/// Begins the transaction. What a pooler's other clients may have set differently is set for it.
fn begin_text(statements: &[StatementRead<'_>], now: Instant) -> String {
    let first = statements.first().map_or(1, |it| milliseconds(it.end, now));
    let longest = statements.iter().map(|it| milliseconds(it.end, now)).max().unwrap_or(1);
    let mut text = "begin isolation level repeatable read, read only".to_owned();
    for (name, value) in [
        ("time zone", "'UTC'"),
        ("standard_conforming_strings =", "on"),
        ("intervalstyle =", "postgres"),
        ("bytea_output =", "hex"),
        ("extra_float_digits =", "1"),
    ] {
        let _ = write!(text, "; set local {name} {value}");
    }
    let _ = write!(
        text,
        "; set local statement_timeout = {first}; \
         set local idle_in_transaction_session_timeout = {longest}"
    );
    text
}

/// The time that is left, as PostgreSQL takes it: zero would be none.
fn milliseconds(end: Instant, now: Instant) -> u128 {
    end.saturating_duration_since(now).as_millis().clamp(1, i32::MAX as u128)
}

/// Reads one statement's rows. `Err(None)`: a statement before it failed.
async fn read_rows<'a>(
    query: impl Future<Output = Result<RowStream, Error>>,
    statement: &StatementRead<'a>,
) -> Result<PartOutcome<'a>, Option<AttemptError>> {
    let failed = |stage| move |error: Error| statement_error(&error, stage, statement.parameters);
    let mut rows = pin!(query.await.map_err(failed(StatementStage::Preparation))?);
    let mut text = PartText::new(statement.rows, statement.bytes_max, statement.memory);
    while let Some(row) = rows.next().await {
        let row = row.map_err(failed(StatementStage::Execution))?;
        // Many small rows are no long stretch on the event loop.
        tokio::task::consume_budget().await;
        let Ok(json) = row.try_get::<_, &str>(0) else {
            return Err(Some(not_json_error()));
        };
        text.count_row().map_err(Some)?;
        text.push(json.as_bytes()).await.map_err(Some)?;
    }
    text.finish().await.map_err(Some)
}

fn not_json_error() -> AttemptError {
    let detail = "sent a row that is no text, expected JSON";
    AttemptError::answered(Reason::NotJson, detail)
}

fn timeout_error(statement: &StatementRead<'_>, began: Instant) -> AttemptError {
    let had: Duration = statement.end.saturating_duration_since(began);
    let detail = format!("no rows within {} ms", had.as_millis());
    AttemptError::of_unhealthy_source(Reason::Timeout, detail)
}

/// A value that goes as text, so that the server gives it the type that the statement needs.
struct TextValue<'v>(&'v str);

impl std::fmt::Debug for TextValue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl ToSql for TextValue<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}
