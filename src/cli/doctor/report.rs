//! The report: all that was found, in the members that `--format json` prints.

use std::time::Duration;

use serde::Serialize;

use super::answer_probe;
use super::connection_probe;
use super::finding::{Finding, FindingLevel};
use super::identity_report::IdentityReport;
use super::redis::RedisReport;

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
    /// `None`: there is no connection to it.
    pub(super) connection: Option<connection_probe::ConnectionFacts>,
    /// `None`: it was not asked, or gave no 200.
    pub(super) answer: Option<answer_probe::AnswerFacts>,
    pub(super) findings: Vec<Finding>,
}

impl SourceReport {
    /// The worst that was found of it.
    pub(super) fn level(&self) -> Option<FindingLevel> {
        self.findings.iter().map(|finding| finding.level).min()
    }
}

impl DoctorReport {
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

/// Milliseconds, to a hundredth.
pub(super) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

/// A time to come, for people: `364 days`, `7 hours`.
pub(super) fn span(duration: Duration) -> String {
    const HOUR: u64 = 3600;
    let (count, unit) = match duration.as_secs() {
        seconds if seconds < HOUR => (seconds / 60, "minute"),
        seconds if seconds < 48 * HOUR => (seconds / HOUR, "hour"),
        seconds => (seconds / (24 * HOUR), "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
