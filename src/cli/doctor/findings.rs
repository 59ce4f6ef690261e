//! Judges the results of the probes: each finding follows from them alone. Pure.

mod answer;
mod certificate;
mod connection;
mod database;
mod finding;
mod identity;
mod redis_log;
mod redis_server;
mod redis_settings;

use std::time::SystemTime;

pub(super) use finding::{Finding, FindingLevel};
pub(super) use identity::identity_findings;
pub(super) use redis_log::log_findings;
pub(super) use redis_server::{server_findings, silent_server_finding};

use super::probe::{DomainProbe, SourceProbe};

/// The findings about a domain, but for its sources.
pub(super) fn domain_findings(probe: &DomainProbe<'_>) -> Vec<Finding> {
    let bad_key = || {
        let text = "`--key` is no key of this domain, its sources were not asked";
        let pattern = &probe.domain.key.text;
        Finding::warning("bad-key", text)
            .expected(format!("one that matches `{pattern}`, without dot segments"))
    };
    probe.rejects_key.then(bad_key).into_iter().collect()
}

/// The findings about a source.
pub(super) fn source_findings(
    probe: &DomainProbe<'_>,
    source: &SourceProbe<'_>,
    now: SystemTime,
) -> Vec<Finding> {
    let mut findings = connection::connection_findings(source.source, &source.connection, now);
    let of_database = |it| database::database_findings(source.source, it);
    findings.extend(source.database.iter().flat_map(of_database));
    let of_answer = |it| answer::answer_findings(probe.domain, source.source, it);
    findings.extend(source.answer.iter().flat_map(of_answer));
    findings
}
