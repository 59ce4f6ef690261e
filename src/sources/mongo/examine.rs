//! What `bfb doctor` asks a deployment: what it is, whether the collection is there, and the plan
//! of the query for values that stand in for those of a key. No document is read.

use std::num::NonZeroUsize;
use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::deployment::DeploymentKind;
use super::pool::MongoPool;
use super::query::{BoundFind, BoundQuery, BoundRead};
use crate::domain::{MongoConversion, MongoSource, Source};
use crate::sources::attempt_error::AttemptError;
use crate::sources::{DatabaseExamination, DatabaseFacts, Reason, SharedSources, StatementFacts};

/// The levels of a plan that are looked at.
const PLAN_DEPTH_MAX: usize = 64;

/// Examines the database of `source`, which may take as long as `limit`.
pub(in crate::sources) async fn examine(
    source: &Source,
    mongo: &MongoSource,
    names: &[&str],
    shared: &SharedSources,
    limit: Duration,
) -> DatabaseExamination {
    let facts = match MongoPool::new(mongo.database.clone(), NonZeroUsize::MIN, shared).client() {
        Ok(client) => {
            let (mongo, names) = (mongo.clone(), names.iter().map(ToString::to_string).collect());
            let deployment = client.deployment.clone();
            // The driver's futures run in a task of their own; this process ends soon after it.
            let task = tokio::spawn(async move {
                let database = client.client.database(&mongo.database.name);
                let found = examine_database(&database, &mongo, names, limit).await;
                found
                    .map(|facts| DatabaseFacts {
                        deployment: client.deployment.kind().map(DeploymentKind::words),
                        ..facts
                    })
                    .map_err(|error| client.explained(&error))
            });
            match timeout(limit, AbortOnDropHandle::new(task)).await {
                Ok(Ok(found)) => found,
                Ok(Err(_)) => Err(AttemptError::inconclusive(Reason::Status, "its driver failed")),
                Err(_) => Err(deployment.trouble().unwrap_or_else(|| {
                    let detail = format!("gave no answer within {} ms", limit.as_millis());
                    AttemptError::inconclusive(Reason::Timeout, detail)
                })),
            }
        }
        Err(error) => Err(error),
    };
    let facts = facts.map_err(|error| error.into_source_error(&source.name));
    DatabaseExamination { facts, lets_in_without_certificate: None }
}

async fn examine_database(
    database: &Database,
    mongo: &MongoSource,
    names: Vec<String>,
    limit: Duration,
) -> Result<DatabaseFacts, Error> {
    let build = database.run_command(doc! {"buildInfo": 1}).await?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let parameter = |it: &crate::domain::MongoParameter| {
        (it.reference.in_braces(&names), it.conversion.type_name().to_owned())
    };
    let parameters = mongo.parameters.iter().map(parameter).collect();
    let missing_table = missing(database, mongo).await?;
    let statement = match examine_query(database, mongo, limit).await {
        // Nothing has an index of what is not there.
        Ok(_) if missing_table.is_some() => {
            Ok(StatementFacts { parameters, missing_table, ..StatementFacts::default() })
        }
        Ok(unindexed_tables) => {
            Ok(StatementFacts { parameters, unindexed_tables, ..StatementFacts::default() })
        }
        Err(error) => Err(server_words(error)?),
    };
    Ok(DatabaseFacts {
        product: "MongoDB",
        version: build.get_str("version").unwrap_or("unknown").to_owned(),
        deployment: None,
        statement,
    })
}

/// The collection, if there is none of its name.
async fn missing(database: &Database, mongo: &MongoSource) -> Result<Option<String>, Error> {
    let filter = doc! {"name": &*mongo.collection};
    match database.list_collection_names().filter(filter).await {
        Ok(found) if found.is_empty() => Ok(Some(mongo.collection.to_string())),
        Ok(_) => Ok(None),
        // Its user need not have the right to know.
        Err(error) => server_words(error).map(|_| None),
    }
}

/// The collections that are read whole for each key.
async fn examine_query(
    database: &Database,
    mongo: &MongoSource,
    limit: Duration,
) -> Result<Vec<String>, Error> {
    let stand_ins: Vec<String> =
        mongo.parameters.iter().map(|it| stand_in(it.conversion)).collect();
    let end = Instant::now() + limit;
    let query = BoundQuery::new(mongo, &stand_ins, None, end);
    let Some(query) = query else { return Ok(Vec::new()) };
    let command = match query.read {
        BoundRead::Find(bound) => {
            let BoundFind { filter, sort, projection, limit } = *bound;
            let limit = i64::from(limit);
            let mut find = doc! {"find": query.collection, "filter": filter, "limit": limit};
            find.extend(sort.map(|sort| ("sort".to_owned(), Bson::Document(sort))));
            find.extend(projection.map(|it| ("projection".to_owned(), Bson::Document(it))));
            find
        }
        BoundRead::Aggregate(stages) => {
            doc! {"aggregate": query.collection, "pipeline": stages, "cursor": {}}
        }
    };
    let explain = doc! {"explain": command, "verbosity": "queryPlanner"};
    let plan = match database.run_command(explain).await {
        Ok(plan) => plan,
        // Servers that only speak the protocol may not explain.
        Err(error) if command_code(&error) == Some(COMMAND_NOT_FOUND) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let is_scan = !mongo.parameters.is_empty() && has_scan(&plan, PLAN_DEPTH_MAX);
    Ok(if is_scan { vec![mongo.collection.to_string()] } else { Vec::new() })
}

const COMMAND_NOT_FOUND: i32 = 59;

fn command_code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(refusal) => Some(refusal.code),
        _ => None,
    }
}

/// What the server says against the query, to which no value was sent; or the error, if it is not
/// the server's.
fn server_words(error: Error) -> Result<String, Error> {
    match &*error.kind {
        ErrorKind::Command(refusal) => Ok(format!("{}, code {}", refusal.message, refusal.code)),
        _ => Err(error),
    }
}

/// A value that a plan is made for.
fn stand_in(conversion: MongoConversion) -> String {
    match conversion {
        MongoConversion::Text => String::new(),
        MongoConversion::Int => "0".to_owned(),
        MongoConversion::ObjectId => "0".repeat(24),
    }
}

/// Whether a plan reads a whole collection anywhere.
fn has_scan(plan: &Document, depth: usize) -> bool {
    depth > 0
        && plan.iter().any(|(name, value)| match value {
            Bson::String(stage) => name == "stage" && stage == "COLLSCAN",
            Bson::Document(inner) => name != "rejectedPlans" && has_scan(inner, depth - 1),
            Bson::Array(items) if name != "rejectedPlans" => {
                let mut inner = items.iter().filter_map(Bson::as_document);
                inner.any(|inner| has_scan(inner, depth - 1))
            }
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_is_found_anywhere_in_a_plan_that_won() {
        let scan = doc! {"stage": "COLLSCAN", "filter": {}};
        for (plan, is_scan) in [
            (doc! {"queryPlanner": {"winningPlan": {"stage": "LIMIT", "inputStage": &scan}}}, true),
            (doc! {"stages": [{"$cursor": {"queryPlanner": {"winningPlan": &scan}}}]}, true),
            (
                doc! {"queryPlanner": {
                    "winningPlan": {"stage": "FETCH", "inputStage": {"stage": "IXSCAN"}},
                    "rejectedPlans": [&scan],
                }},
                false,
            ),
            (doc! {"filter": "COLLSCAN"}, false),
        ] {
            assert_eq!(has_scan(&plan, PLAN_DEPTH_MAX), is_scan, "{plan}");
        }
        assert!(!has_scan(&doc! {"a": {"b": scan}}, 2));
    }
}
