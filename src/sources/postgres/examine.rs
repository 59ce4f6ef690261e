//! What `bfb doctor` asks a database: a session with our certificate and one without, the types of
//! the query's parameters and columns, and the plan that it would run by. No row is read.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::connection::{OpenError, PostgresConnection};
use super::sql_error::is_let_past;
use super::transaction::statement_text;
use crate::domain::{Mutuality, PostgresDatabase, PostgresSource, Source};
use crate::identity::Connector;
use crate::resources::WorkMemory;
use crate::sources::attempt_error::AttemptError;
use crate::sources::{DatabaseExamination, DatabaseFacts, Reason, SharedSources, StatementFacts};

/// What a server may send during an examination, in bytes.
const EXAMINATION_BYTES_MAX: u64 = 1 << 20;
/// The levels of a plan that are looked at.
const PLAN_DEPTH_MAX: usize = 64;

/// Examines the database of `source`; each of its sessions may take as long as `limit`.
pub(in crate::sources) async fn examine(
    source: &Source,
    postgres: &PostgresSource,
    names: &[&str],
    shared: &SharedSources,
    limit: Duration,
) -> DatabaseExamination {
    let fail = |error: AttemptError| Err(error.into_source_error(&source.name));
    let facts = match timeout(limit, examine_session(postgres, names, shared)).await {
        Ok(Ok(facts)) => Ok(facts),
        Ok(Err(error)) => fail(error),
        Err(_) => fail(AttemptError::inconclusive(
            Reason::Timeout,
            format!("gave no answer within {} ms", limit.as_millis()),
        )),
    };
    let without = timeout(limit, is_let_in_without_certificate(&postgres.database, shared)).await;
    DatabaseExamination { facts, lets_in_without_certificate: without.ok().flatten() }
}

async fn examine_session(
    postgres: &PostgresSource,
    names: &[&str],
    shared: &SharedSources,
) -> Result<DatabaseFacts, AttemptError> {
    let connector = connector(&postgres.database, shared)?;
    let connection = PostgresConnection::open(connector, &postgres.database).await;
    let mut connection = connection.map_err(OpenError::into_attempt_error)?;
    connection.expect_bytes(EXAMINATION_BYTES_MAX);
    let memory = WorkMemory::unshared();
    let version = connection.drive(&memory, async |client| server_version(client).await).await?;
    let examine = async |client: &Client| examine_statement(client, postgres, names).await;
    let statement = connection.drive(&memory, examine).await?;
    Ok(DatabaseFacts {
        product: "PostgreSQL",
        version,
        deployment: None,
        statement: statement.map_err(|error| server_words(&error)),
    })
}

fn connector(
    database: &PostgresDatabase,
    shared: &SharedSources,
) -> Result<Connector, AttemptError> {
    let Some(server) = &database.server else { return Ok(Connector::plain()) };
    let Some(identity) = &shared.identity else {
        let detail = "is asked over TLS, but there is no identity: `--identity` gives one";
        return Err(AttemptError::inconclusive(Reason::Tls, detail));
    };
    let identity = identity.borrow().clone();
    let is_request_demanded = database.mutual != Mutuality::None;
    let metrics = shared.identity_metrics.clone();
    Ok(Connector::postgres(identity, server.clone(), is_request_demanded, shared.tls, metrics))
}

/// Whether the server gets past its `pg_hba.conf` somebody who presents no certificate: to a
/// session, or to the wish for a password. `None` where that is how it is meant, or it cannot be
/// told.
async fn is_let_in_without_certificate(
    database: &PostgresDatabase,
    shared: &SharedSources,
) -> Option<bool> {
    let server = database.server.clone().filter(|_| database.mutual == Mutuality::Proven)?;
    let identity = shared.identity.as_ref()?.borrow().clone();
    let metrics = shared.identity_metrics.clone();
    let connector = Connector::postgres_without_certificate(&identity, server, shared.tls, metrics);
    match PostgresConnection::open(connector, database).await {
        Ok(_) => Some(true),
        Err(OpenError::Refused(error)) => is_let_past(&error),
        // TLS without a certificate was refused.
        Err(OpenError::Unopened(error)) => (error.reason == Reason::Tls).then_some(false),
    }
}

async fn server_version(client: &Client) -> String {
    let rows = client.simple_query("show server_version").await.unwrap_or_default();
    let version = rows.iter().find_map(|row| match row {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    version.unwrap_or_else(|| "unknown".to_owned())
}

/// Prepares the query and looks at its plan, in a transaction that is rolled back.
async fn examine_statement(
    client: &Client,
    postgres: &PostgresSource,
    names: &[&str],
) -> Result<StatementFacts, Error> {
    client.batch_execute("begin read only").await?;
    let query = &postgres.query;
    let statement = client.prepare(&query.text).await?;
    // As it is sent: some statements can stand alone only.
    client.prepare(&statement_text(&query.text, postgres.rows)).await?;
    let types = statement.params().iter().map(|it| it.name().to_owned());
    let references = query.parameters.iter().map(|it| it.in_braces(names));
    let columns = statement.columns().iter();
    let columns = columns.map(|it| (it.name().to_owned(), it.type_().name().to_owned()));
    let mut facts = StatementFacts {
        parameters: references.zip(types).collect(),
        columns: columns.collect(),
        unindexed_tables: Vec::new(),
        missing_table: None,
    };
    if let Some(plan) = explain(client, postgres).await? {
        unindexed_tables(&plan, &mut facts.unindexed_tables, PLAN_DEPTH_MAX);
        facts.unindexed_tables.sort_unstable();
        facts.unindexed_tables.dedup();
    }
    client.batch_execute("rollback").await?;
    Ok(facts)
}

/// The plan for any key, where a scan of a whole table is the last resort.
async fn explain(client: &Client, postgres: &PostgresSource) -> Result<Option<Value>, Error> {
    let nulls = vec!["null"; postgres.query.parameters.len()].join(", ");
    let arguments = if nulls.is_empty() { String::new() } else { format!("({nulls})") };
    client
        .batch_execute(&format!(
            "set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off; \
             prepare bfb_doctor as {}",
            postgres.query.text
        ))
        .await?;
    let explained = client
        .simple_query(&format!("explain (format json) execute bfb_doctor{arguments}"))
        .await?;
    client.batch_execute("deallocate bfb_doctor").await?;
    let text = explained.iter().find_map(|row| match row {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(text.and_then(|text| serde_json::from_str(text).ok()))
}

/// The tables that are read whole although a parameter is in the condition on them.
fn unindexed_tables(plan: &Value, tables: &mut Vec<String>, depth: usize) {
    if depth == 0 {
        return;
    }
    let text = |name: &str| plan[name].as_str().unwrap_or_default();
    if text("Node Type") == "Seq Scan" && text("Filter").contains('$') {
        tables.push(text("Relation Name").to_owned());
    }
    let children = match plan {
        Value::Array(items) => items.iter().collect(),
        Value::Object(members) => members.values().collect(),
        _ => Vec::new(),
    };
    for child in children {
        unindexed_tables(child, tables, depth - 1);
    }
}

/// What the server says against the query. No value was sent to it.
fn server_words(error: &Error) -> String {
    match error.as_db_error() {
        Some(error) => {
            let hint = error.hint().map_or(String::new(), |hint| format!(" ({hint})"));
            format!("{}{hint}, SQLSTATE {}", error.message(), error.code().code())
        }
        None => "the connection broke off".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_are_read_whole_for_a_key_are_found_anywhere_in_a_plan() {
        let plan = serde_json::json!([{"Plan": {"Node Type": "Nested Loop", "Plans": [
            {"Node Type": "Seq Scan", "Relation Name": "a", "Filter": "(x = $1)"},
            {"Node Type": "Seq Scan", "Relation Name": "b", "Filter": "(x = 1)"},
            {"Node Type": "Index Scan", "Relation Name": "c", "Filter": "(x = $1)"},
            {"Node Type": "Seq Scan", "Relation Name": "d"},
        ]}}]);
        let mut tables = Vec::new();
        unindexed_tables(&plan, &mut tables, PLAN_DEPTH_MAX);
        assert_eq!(tables, ["a"]);
    }
}
