//! The report: all that was found, in the members that `--format json` prints.

mod connection;
mod database;
mod identity;
mod redis;

use std::time::SystemTime;

use serde::Serialize;

pub(super) use connection::{CertificateReport, ConnectionReport};
pub(super) use database::{DatabaseReport, StatementReport, TypedName};
pub(super) use identity::IdentityReport;
pub(super) use redis::{LogReport, LogStateReport, RedisReport, ServerReport, ServerSettings};

use super::findings::{self, Finding, FindingLevel};
use super::probe::{
    AnswerFacts, AnswerProbe, DoctorContext, DoctorProbe, DomainProbe, RowsFacts, SourceProbe,
};
use crate::domain::Atomicity;

/// The whole report.
#[derive(Debug, Serialize)]
pub(super) struct DoctorReport {
    /// No finding is an error.
    pub(super) ok: bool,
    /// Whether sources were asked with a key.
    pub(super) asked: bool,
    /// `None`: no source is asked over TLS, and no identity was given.
    pub(super) identity: Option<IdentityReport>,
    /// `None`: none was given.
    pub(super) redis: Option<RedisReport>,
    pub(super) domains: Vec<DomainReport>,
}

/// One domain.
#[derive(Debug, Serialize)]
pub(super) struct DomainReport {
    pub(super) name: String,
    pub(super) file: String,
    /// `complete` or `snapshot`.
    pub(super) atomicity: &'static str,
    pub(super) findings: Vec<Finding>,
    pub(super) sources: Vec<SourceReport>,
}

/// One source.
#[derive(Debug, Serialize)]
pub(super) struct SourceReport {
    pub(super) name: String,
    /// Scheme and authority of its URL.
    pub(super) origin: String,
    /// The identity that its certificate must carry.
    pub(super) server: String,
    /// How far the connection is proven: `proven`, `unproven` or `no`.
    pub(super) mutual: &'static str,
    /// `None`: there is no connection to it.
    pub(super) connection: Option<ConnectionReport>,
    /// `None`: it was not asked, or gave no 200.
    pub(super) answer: Option<AnswerFacts>,
    /// `None`: it is no database, or it let nobody in.
    pub(super) database: Option<DatabaseReport>,
    /// `None`: it is no database, was not asked, or gave no rows.
    pub(super) rows: Option<RowsFacts>,
    pub(super) findings: Vec<Finding>,
}

impl DomainReport {
    fn of(probe: &DomainProbe<'_>, now: SystemTime) -> Self {
        let domain = probe.domain;
        let of_source = |source| SourceReport::of(probe, source, now);
        Self {
            name: domain.name.to_string(),
            file: domain.file.display().to_string(),
            atomicity: match domain.atomicity {
                Atomicity::Complete => "complete",
                Atomicity::Snapshot { .. } => "snapshot",
            },
            findings: findings::domain_findings(probe),
            sources: probe.sources.iter().map(of_source).collect(),
        }
    }
}

impl SourceReport {
    fn of(domain: &DomainProbe<'_>, probe: &SourceProbe<'_>, now: SystemTime) -> Self {
        let source = probe.source;
        let answer = match &probe.answer {
            Some(AnswerProbe::Answered(facts)) => Some(facts.clone()),
            _ => None,
        };
        let rows = match &probe.answer {
            Some(AnswerProbe::Rows(facts)) => Some(facts.clone()),
            _ => None,
        };
        Self {
            name: source.name.to_string(),
            origin: source.address(),
            server: source.server().map_or_else(|| "-".to_owned(), ToString::to_string),
            mutual: source.mutual().as_str(),
            connection: ConnectionReport::of(&probe.connection)
                .map(|report| report.with_session(probe.database.as_ref())),
            answer,
            database: probe.database.as_ref().and_then(DatabaseReport::of),
            rows,
            findings: findings::source_findings(domain, probe, now),
        }
    }

    /// The worst level of its findings.
    pub(super) fn level(&self) -> Option<FindingLevel> {
        self.findings.iter().map(|finding| finding.level).min()
    }
}

impl DoctorReport {
    /// The report of all that was seen, with its findings.
    pub(super) fn of(probe: &DoctorProbe<'_>, context: &DoctorContext, now: SystemTime) -> Self {
        let identity = context.identity.as_deref().map(|own| IdentityReport::of(own, now));
        let of_redis = |(found, settings)| RedisReport::of(found, settings, now);
        let redis = probe.redis.as_ref().zip(context.redis.as_ref()).map(of_redis);
        let domains = probe.domains.iter().map(|domain| DomainReport::of(domain, now)).collect();
        Self::new(probe.has_key, identity, redis, domains)
    }

    pub(super) fn new(
        asked: bool,
        identity: Option<IdentityReport>,
        redis: Option<RedisReport>,
        domains: Vec<DomainReport>,
    ) -> Self {
        let mut report = Self { ok: true, asked, identity, redis, domains };
        let ok = report.findings().all(|finding| finding.level != FindingLevel::Error);
        report.ok = ok;
        report
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        let of_domains = self.domains.iter().flat_map(|domain| {
            let of_sources = domain.sources.iter().flat_map(|source| &source.findings);
            domain.findings.iter().chain(of_sources)
        });
        let of_redis = self.redis.iter().flat_map(RedisReport::findings);
        self.identity.iter().flat_map(|own| &own.findings).chain(of_redis).chain(of_domains)
    }
}
