//! One transaction: its statements out in one write, their rows back in order.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt as _;
use futures_util::future::poll_immediate;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error, RowStream};

use super::pool::Checkout;
use super::sql_error::{StatementStage, is_statement_error, statement_error, whole_error};
use crate::domain::{Reference, Rows};
use crate::resources::WorkMemory;
use crate::sources::Reason;
use crate::sources::attempt_error::AttemptError;
use crate::sources::part_text::{PartOutcome, PartText, ROWS_MAX};

/// What the answer to a statement takes beside its rows, and each row beside its text, in bytes.
const STATEMENT_OVERHEAD_BYTES: u64 = 4 << 10;
const ROW_OVERHEAD_BYTES: u64 = 16;
/// How long the end of a transaction may take whose rows are read.
const END_TIMEOUT: Duration = Duration::from_millis(100);

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
    /// How long it may take, from when it is its turn.
    pub(in crate::sources) timeout: Option<Duration>,
    /// When its part must be there in any case.
    pub(in crate::sources) deadline: Instant,
    pub(in crate::sources) memory: &'a WorkMemory,
}

impl StatementRead<'_> {
    /// When it ends, if it is its turn at `start`.
    fn end(&self, start: Instant) -> Instant {
        self.timeout.map_or(self.deadline, |timeout| self.deadline.min(start + timeout))
    }

    /// The bytes that its rows may have: of two rows, where one is expected, the second is read as
    /// well.
    fn room(&self) -> u64 {
        let rows = if self.rows == Rows::One { 2 } else { 1 };
        rows * self.bytes_max as u64
    }
}

/// How a transaction ended.
#[derive(Debug)]
pub(in crate::sources) struct TransactionEnd<'a> {
    /// The outcomes, in the order of the statements: where not all are read, one has failed.
    pub(in crate::sources) outcomes: Vec<PartOutcome<'a>>,
    /// The connection ended before the transaction began: the server may have ended it while nobody
    /// used it.
    pub(in crate::sources) is_broken_unread: bool,
    /// The slot of the connection.
    pub(in crate::sources) slot: OwnedSemaphorePermit,
}

/// Why a statement gave no part.
struct StatementFailure {
    error: AttemptError,
    /// Whether the server goes on with what was sent behind it.
    goes_on: bool,
}

impl Checkout<'_> {
    /// Reads the statements in one transaction, the first of which began at `started`, and keeps
    /// the connection if all that was sent is answered.
    pub(in crate::sources) async fn read<'a>(
        mut self,
        statements: &[StatementRead<'a>],
        started: Instant,
    ) -> TransactionEnd<'a> {
        let room: u64 = statements.iter().map(StatementRead::room).sum();
        let overhead = STATEMENT_OVERHEAD_BYTES * (statements.len() as u64 + 2);
        let expected = room + overhead + row_overhead(room);
        self.connection.expect_bytes(expected);
        let mut outcomes = Vec::with_capacity(statements.len());
        let unshared = WorkMemory::unshared();
        let memory = statements.first().map_or(&unshared, |statement| statement.memory);
        let mut has_begun = false;
        let read = async |client: &Client| {
            read_statements(client, statements, started, &mut outcomes, &mut has_begun).await
        };
        let end = self.connection.drive(memory, read).await;
        let mut is_broken_unread = false;
        let is_answered = match end {
            Ok(Ok(is_answered)) => is_answered,
            Ok(Err(error)) | Err(error) => {
                is_broken_unread = !has_begun && error.reason == Reason::Connect;
                fail_rest(&mut outcomes, statements.len(), &error);
                false
            }
        };
        let rows: u64 = outcomes.iter().map(PartOutcome::bytes).sum();
        outcomes.resize_with(statements.len(), || PartOutcome::Unreached);
        let used = rows + overhead + row_overhead(rows);
        let may_be_kept = self.connection.settle_bytes(expected, used) && is_answered;
        TransactionEnd { outcomes, is_broken_unread, slot: self.end(may_be_kept) }
    }
}

/// The connection's error is that of every statement that was not read; what is too large is the
/// fault of the one whose turn it was.
fn fail_rest(outcomes: &mut Vec<PartOutcome<'_>>, count: usize, error: &AttemptError) {
    let has_failed = matches!(outcomes.last(), Some(PartOutcome::Failed(_)));
    let until = match error.reason {
        _ if has_failed => outcomes.len(),
        Reason::TooLarge => count.min(outcomes.len() + 1),
        _ => count,
    };
    while outcomes.len() < until {
        outcomes.push(PartOutcome::Failed(error.clone()));
    }
}

/// What the rows of so many bytes of parts may take beside them: each is at least two bytes.
fn row_overhead(bytes: u64) -> u64 {
    (bytes / 2).min(ROWS_MAX as u64) * ROW_OVERHEAD_BYTES
}

type RowsFuture<'f> = Pin<Box<dyn Future<Output = Result<RowStream, Error>> + Send + 'f>>;
type BatchFuture<'f> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'f>>;

/// A message that was sent, and its answer once it has come.
struct Sent<F: Future> {
    answer: F,
    ready: Option<F::Output>,
}

impl<F: Future + Unpin> Sent<F> {
    /// Sends it: a future of the driver does so at its first poll.
    async fn send(mut answer: F) -> Self {
        let ready = poll_immediate(&mut answer).await;
        Self { answer, ready }
    }

    async fn answer(self) -> F::Output {
        match self.ready {
            Some(answer) => answer,
            None => self.answer.await,
        }
    }
}

/// A statement that was sent, behind the setting of its timeout where it differs from the one
/// before.
struct SentStatement<'f> {
    setting: Option<Sent<BatchFuture<'f>>>,
    rows: Sent<RowsFuture<'f>>,
}

/// Sends everything, then reads the rows statement by statement. Returns whether all that was sent
/// is answered; an error is one of the whole connection.
async fn read_statements<'a>(
    client: &Client,
    statements: &[StatementRead<'a>],
    started: Instant,
    outcomes: &mut Vec<PartOutcome<'a>>,
    has_begun: &mut bool,
) -> Result<bool, AttemptError> {
    let begin_text = begin_text(statements, started);
    let begin: BatchFuture<'_> = Box::pin(client.batch_execute(&begin_text));
    let begin = Sent::send(begin).await;
    let mut sent = VecDeque::with_capacity(statements.len());
    let mut last_timeout = statements.first().map(|it| server_timeout(it, started));
    for statement in statements {
        let timeout = server_timeout(statement, started);
        let setting = if last_timeout == Some(timeout) {
            None
        } else {
            let text = format!("set local statement_timeout = {timeout}");
            let set: BatchFuture<'_> = Box::pin(async move { client.batch_execute(&text).await });
            Some(Sent::send(set).await)
        };
        last_timeout = Some(timeout);
        let values: Vec<_> =
            statement.values.iter().map(|it| (TextValue(it), Type::UNKNOWN)).collect();
        let rows: RowsFuture<'_> = Box::pin(client.query_typed_raw(statement.text, values));
        sent.push_back(SentStatement { setting, rows: Sent::send(rows).await });
    }
    let commit: BatchFuture<'_> = Box::pin(client.batch_execute("commit"));
    let commit = Sent::send(commit).await;

    let Some(first) = statements.first() else { return Ok(false) };
    let mut start = started;
    match timeout_at(first.end(start), begin.answer()).await {
        Ok(Ok(())) => *has_begun = true,
        Ok(Err(error)) => return Err(whole_error(&error)),
        Err(_) => {
            outcomes.push(PartOutcome::Failed(timeout_error(first, start)));
            return Ok(false);
        }
    }
    for statement in statements {
        let Some(SentStatement { setting, rows }) = sent.pop_front() else { break };
        let read = read_statement(setting, rows, statement);
        let failure = match timeout_at(statement.end(start), read).await {
            Ok(Ok(outcome)) => {
                outcomes.push(outcome);
                start = Instant::now();
                continue;
            }
            // The connection's own error says more than that it is closed.
            Ok(Err(StatementFailure { error, goes_on: false }))
                if error.reason == Reason::Connect =>
            {
                return Err(error);
            }
            Ok(Err(failure)) => failure,
            Err(_) => StatementFailure { error: timeout_error(statement, start), goes_on: false },
        };
        outcomes.push(PartOutcome::Failed(failure.error));
        return Ok(failure.goes_on && is_drained(sent, commit).await);
    }
    // The rows are read. A connection whose end does not come is not used again.
    Ok(matches!(timeout(END_TIMEOUT, commit.answer()).await, Ok(Ok(()))))
}

/// Reads the answers to what stands behind a statement that failed, rows or refusals, to the end of
/// the transaction. Longer than a moment they are not worth.
async fn is_drained(sent: VecDeque<SentStatement<'_>>, commit: Sent<BatchFuture<'_>>) -> bool {
    let drain = async {
        for SentStatement { setting, rows } in sent {
            if let Some(setting) = setting {
                let _ = setting.answer().await;
            }
            if let Ok(rows) = rows.answer().await {
                let mut rows = pin!(rows);
                while let Some(Ok(_)) = rows.next().await {
                    tokio::task::consume_budget().await;
                }
            }
        }
        commit.answer().await.is_ok()
    };
    timeout(END_TIMEOUT, drain).await.unwrap_or(false)
}

/// Begins the transaction. What a pooler's other clients may have set differently is set for it,
/// the timeout first. Nothing runs outside of a transaction: with `begin` carried out, an error of
/// what follows it ends all.
fn begin_text(statements: &[StatementRead<'_>], now: Instant) -> String {
    let first = statements.first().map_or(1, |it| server_timeout(it, now));
    let longest = statements.iter().map(|it| server_timeout(it, now)).max().unwrap_or(1);
    let mut text = format!(
        "begin isolation level repeatable read, read only; \
         set local statement_timeout = {first}; \
         set local idle_in_transaction_session_timeout = {longest}"
    );
    for (name, value) in [
        ("role", "default"),
        ("search_path", "default"),
        ("time zone", "'UTC'"),
        ("standard_conforming_strings", "on"),
        ("datestyle", "'ISO'"),
        ("intervalstyle", "postgres"),
        ("bytea_output", "hex"),
        ("extra_float_digits", "1"),
    ] {
        let to = if name == "time zone" { "" } else { "to " };
        let _ = write!(text, "; set local {name} {to}{value}");
    }
    text
}

/// The time that a statement has if its turn is now, in milliseconds as PostgreSQL takes it: zero
/// would be none.
fn server_timeout(statement: &StatementRead<'_>, now: Instant) -> u128 {
    let left = statement.end(now).saturating_duration_since(now);
    left.as_millis().clamp(1, i32::MAX as u128)
}

/// Reads one statement's rows.
async fn read_statement<'a>(
    setting: Option<Sent<BatchFuture<'_>>>,
    rows: Sent<RowsFuture<'_>>,
    statement: &StatementRead<'a>,
) -> Result<PartOutcome<'a>, StatementFailure> {
    let failed = |stage| {
        move |error: Error| {
            let goes_on = is_statement_error(&error);
            StatementFailure {
                error: statement_error(&error, stage, statement.parameters),
                goes_on,
            }
        }
    };
    let refused = |error| StatementFailure { error, goes_on: false };
    if let Some(setting) = setting {
        setting.answer().await.map_err(failed(StatementStage::Execution))?;
    }
    let mut rows = pin!(rows.answer().await.map_err(failed(StatementStage::Preparation))?);
    let mut text = PartText::new(statement.rows, statement.bytes_max, statement.memory);
    let mut surplus = None;
    while let Some(row) = rows.next().await {
        let row = row.map_err(failed(StatementStage::Execution))?;
        // Many small rows are no long stretch on the event loop.
        tokio::task::consume_budget().await;
        let Ok(json) = row.try_get::<_, &str>(0) else {
            return Err(refused(not_json_error()));
        };
        match text.count_row() {
            Ok(()) => text.push(json.as_bytes()).await.map_err(refused)?,
            // There is no third row.
            Err(error) if error.reason == Reason::Rows => surplus = Some(error),
            Err(error) => return Err(refused(error)),
        }
    }
    match surplus {
        Some(error) => Err(StatementFailure { error, goes_on: true }),
        None => text.finish().await.map_err(refused),
    }
}

fn not_json_error() -> AttemptError {
    let detail = "sent a row that is no text, expected JSON";
    AttemptError::answered(Reason::NotJson, detail)
}

fn timeout_error(statement: &StatementRead<'_>, start: Instant) -> AttemptError {
    let had: Duration = statement.end(start).saturating_duration_since(start);
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
