//! The findings about a database: who is let in, and what it makes of the query.

use super::finding::Finding;
use crate::domain::{Mutuality, Source};
use crate::sources::{DatabaseExamination, StatementFacts};

/// The findings about the database of `source`.
pub(super) fn database_findings(source: &Source, database: &DatabaseExamination) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &database.facts {
        Err(error) => findings.push(Finding::error(error.reason.as_str(), error.detail.clone())),
        Ok(facts) => match &facts.statement {
            Err(words) => {
                let text = format!("the database does not take the query: {words}");
                findings.push(Finding::error("query", text).expected("a query that it can plan"));
            }
            Ok(statement) => {
                findings.extend(missing_finding(statement));
                findings.extend(index_findings(statement));
            }
        },
    }
    if database.lets_in_without_certificate == Some(true) {
        findings.push(
            Finding::warning(
                "certificate-optional",
                "it asks for a client certificate, but lets in who presents none",
            )
            .expected("`pg_hba.conf` to demand one")
            .hint("`hostssl … cert`, or `clientcert=verify-full` behind another method"),
        );
    }
    match source.mutual() {
        Mutuality::Proven => {}
        Mutuality::Unproven => findings.push(Finding::note(
            "unproven",
            "its driver presents our certificate, and cannot tell whether it was asked for \
             (`mutual: unproven`)",
        )),
        Mutuality::None => findings.push(Finding::note(
            "password-only",
            "knows us by a password alone (`mutual: no`); its own certificate is verified",
        )),
    }
    findings
}

fn missing_finding(statement: &StatementFacts) -> Option<Finding> {
    let table = statement.missing_table.as_ref()?;
    let text = format!("has no collection and no view `{table}`, so that nothing is ever found");
    Some(Finding::warning("no-collection", text).expected("the name of one that is there"))
}

fn index_findings(statement: &StatementFacts) -> impl Iterator<Item = Finding> {
    statement.unindexed_tables.iter().map(|table| {
        let text = format!("reads the whole table `{table}` for each key: no index fits");
        Finding::note("no-index", text)
            .expected("an index on what the query compares with its references")
    })
}
