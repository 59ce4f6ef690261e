//! A database, as the members that `--format json` prints.

use serde::Serialize;

use crate::sources::{DatabaseExamination, StatementFacts};

/// A database that let us in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in super::super) struct DatabaseReport {
    pub(in super::super) product: &'static str,
    pub(in super::super) version: String,
    /// What its servers are together, where there may be several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) deployment: Option<&'static str>,
    /// `None`: it does not take the query.
    pub(in super::super) statement: Option<StatementReport>,
}

/// A query that the database can plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in super::super) struct StatementReport {
    pub(in super::super) parameters: Vec<TypedName>,
    pub(in super::super) columns: Vec<TypedName>,
    pub(in super::super) unindexed_tables: Vec<String>,
}

/// A reference or a column, and its type.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in super::super) struct TypedName {
    pub(in super::super) name: String,
    #[serde(rename = "type")]
    pub(in super::super) type_name: String,
}

impl DatabaseReport {
    /// `None`: it let nobody in.
    pub(super) fn of(examination: &DatabaseExamination) -> Option<Self> {
        let facts = examination.facts.as_ref().ok()?;
        let statement = facts.statement.as_ref().ok().map(StatementReport::of);
        let (product, version) = (facts.product, facts.version.clone());
        Some(Self { product, version, deployment: facts.deployment, statement })
    }
}

impl StatementReport {
    fn of(facts: &StatementFacts) -> Self {
        let typed = |(name, type_name): &(String, String)| TypedName {
            name: name.clone(),
            type_name: type_name.clone(),
        };
        Self {
            parameters: facts.parameters.iter().map(typed).collect(),
            columns: facts.columns.iter().map(typed).collect(),
            unindexed_tables: facts.unindexed_tables.clone(),
        }
    }
}
