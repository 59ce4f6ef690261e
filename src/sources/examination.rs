//! What `bfb doctor` learns of a database without asking it for a part: whether it lets us in, and
//! only with our certificate, and what it makes of the query.

use std::time::Duration;

use super::{SharedSources, SourceError};
use crate::domain::Source;
#[cfg(any(feature = "postgres", feature = "mongodb"))]
use crate::domain::SourceKind;

/// What was learnt of a source's database.
#[derive(Debug, Clone)]
pub struct DatabaseExamination {
    /// Its facts, or why it let nobody in.
    pub facts: Result<DatabaseFacts, SourceError>,
    /// Whether it lets in who presents no certificate; `None`: nobody knows, or nobody cares.
    pub lets_in_without_certificate: Option<bool>,
}

/// The facts about a database.
#[derive(Debug, Clone)]
pub struct DatabaseFacts {
    /// What it is: `PostgreSQL`, `MongoDB`.
    pub product: &'static str,
    /// Its version, as it says: `15.14`.
    pub version: String,
    /// What its servers are together, where there may be several.
    pub deployment: Option<&'static str>,
    /// What it makes of the query, or its own words against it. They hold no data: none was sent.
    pub statement: Result<StatementFacts, String>,
}

/// The facts about a query.
#[derive(Debug, Clone, Default)]
pub struct StatementFacts {
    /// Each reference, as it stands in the query, and the type that the database gives it.
    pub parameters: Vec<(String, String)>,
    /// The columns of the rows, and their types.
    pub columns: Vec<(String, String)>,
    /// The tables that are read whole for each key, though the query has a condition on them: no
    /// index fits it.
    pub unindexed_tables: Vec<String>,
    /// The collection that is read and that is not there.
    pub missing_table: Option<String>,
}

/// Examines the database of `source`, beside sources of these names. `None`: it is none.
pub async fn examine_database(
    source: &Source,
    names: &[&str],
    shared: &SharedSources,
    limit: Duration,
) -> Option<DatabaseExamination> {
    #[cfg(feature = "postgres")]
    if let SourceKind::Postgres(postgres) = &source.kind {
        return Some(super::postgres::examine(source, postgres, names, shared, limit).await);
    }
    #[cfg(feature = "mongodb")]
    if let SourceKind::Mongo(mongo) = &source.kind {
        return Some(super::mongo::examine(source, mongo, names, shared, limit).await);
    }
    let _ = (source, names, shared, limit);
    None
}
