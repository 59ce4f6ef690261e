//! The examination: every source's connection, a few at once; then, with a key, the answers in the
//! order of their needs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream;
use http::uri::PathAndQuery;

use super::answer_probe::{self, AnswerCheck};
use super::connection_probe;
use super::finding::{Finding, FindingLevel};
use super::identity_report::IdentityReport;
use super::redis::RedisReport;
use super::report::{DoctorReport, DomainReport, SourceReport};
use super::source_findings;
use crate::bus;
use crate::domain::{Atomicity, Domain, Domains, Source, check_value};
use crate::identity::{Identity, TlsOptions};
use crate::sources::{self, Part, SharedSources};

/// How many sources are looked at at once.
const PROBES_AT_ONCE: usize = 8;

/// Who asks, and how.
#[derive(Debug)]
pub(super) struct DoctorContext {
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) tls: TlsOptions,
    /// How long a connection, and each answer, may take.
    pub(super) timeout: Duration,
    pub(super) shared: SharedSources,
    /// The fleet's Redis, if one is given.
    pub(super) redis: Option<bus::BusConfig>,
}

/// One source under examination.
struct SourceCheck {
    report: SourceReport,
    /// What it gave, for those that need it.
    part: Option<Part>,
    is_settled: bool,
}

/// One domain under examination.
struct DomainCheck<'d> {
    domain: &'d Domain,
    sources: Vec<SourceCheck>,
    findings: Vec<Finding>,
}

/// Examines every source of `domains`; asks those that a request may go to for `key`.
pub(super) async fn probe_all(
    domains: &Domains,
    context: &DoctorContext,
    key: Option<&str>,
) -> DoctorReport {
    // The first random number of a thread costs aws-lc a tenth of a second, which is nobody's
    // latency.
    let _ = aws_lc_rs::rand::fill(&mut [0; 32]);
    let mut checks = probe_connections(domains, context).await;
    if let Some(key) = key {
        for check in &mut checks {
            if check_value(key).is_ok() && check.domain.key.matches(key) {
                check.ask(key, context).await;
            } else {
                let warning = Finding::warning(
                    "bad-key",
                    "`--key` is no key of this domain, its sources were not asked",
                );
                let pattern = &check.domain.key.text;
                check.findings.push(
                    warning.expected(format!("one that matches `{pattern}`, without dot segments")),
                );
            }
        }
    }
    let redis = match &context.redis {
        Some(settings) => {
            let domains: Vec<&str> = domains.keys().map(|name| &**name).collect();
            let found = bus::examine::examine(settings, &domains, context.timeout).await;
            Some(RedisReport::of(&found, settings))
        }
        None => None,
    };
    let identity =
        context.identity.as_ref().map(|identity| IdentityReport::of(identity, SystemTime::now()));
    DoctorReport::new(
        key.is_some(),
        identity,
        redis,
        checks.into_iter().map(DomainCheck::report).collect(),
    )
}

async fn probe_connections<'d>(
    domains: &'d Domains,
    context: &DoctorContext,
) -> Vec<DomainCheck<'d>> {
    let sources: Vec<&Source> = domains.values().flat_map(|domain| &domain.sources).collect();
    let probes = sources.into_iter().map(|source| async move {
        new_source_check(source, connection_probe::probe_connection(source, context).await)
    });
    let probed: Vec<SourceCheck> = stream::iter(probes).buffered(PROBES_AT_ONCE).collect().await;
    let mut probed = probed.into_iter();
    let check = |domain: &'d Arc<Domain>| {
        let sources = probed.by_ref().take(domain.sources.len()).collect();
        DomainCheck { domain, sources, findings: Vec::new() }
    };
    domains.values().map(check).collect()
}

fn new_source_check(
    source: &Source,
    (connection, findings): (Option<connection_probe::ConnectionFacts>, Vec<Finding>),
) -> SourceCheck {
    // Whom no request may go to is not asked.
    let is_settled =
        connection.is_none() || findings.iter().any(|finding| finding.level == FindingLevel::Error);
    let report = SourceReport {
        name: source.name.to_string(),
        origin: source.http.url.origin.to_string().trim_end_matches('/').to_owned(),
        server: source.http.server.to_string(),
        connection,
        answer: None,
        findings,
    };
    SourceCheck { report, part: None, is_settled }
}

impl DomainCheck<'_> {
    /// Asks in waves: each asks those whose needs are settled. Sources form a DAG, so each wave
    /// settles some.
    async fn ask(&mut self, key: &str, context: &DoctorContext) {
        loop {
            let is_open = |at: &usize| !self.sources[*at].is_settled;
            let has_its_needs = |at: &usize| {
                self.domain.sources[*at].needs.iter().all(|need| self.sources[need.0].is_settled)
            };
            let wave: Vec<usize> =
                (0..self.sources.len()).filter(is_open).filter(has_its_needs).collect();
            if wave.is_empty() {
                return;
            }
            let asks = wave.iter().map(|&at| self.ask_one(at, key, context));
            let outcomes: Vec<AnswerCheck> =
                stream::iter(asks).buffered(PROBES_AT_ONCE).collect().await;
            for (at, outcome) in wave.into_iter().zip(outcomes) {
                self.settle(at, outcome);
            }
        }
    }

    async fn ask_one(&self, at: usize, key: &str, context: &DoctorContext) -> AnswerCheck {
        let source = &self.domain.sources[at];
        match self.target(source, key) {
            Ok(target) => answer_probe::probe_answer(source, &target, context).await,
            Err(finding) => AnswerCheck { part: None, facts: None, findings: vec![finding] },
        }
    }

    fn target(&self, source: &Source, key: &str) -> Result<PathAndQuery, Finding> {
        let part_of = |index: crate::domain::SourceIndex| {
            let needed = &self.sources[index.0];
            (needed.report.name.as_str(), needed.part.as_ref())
        };
        if let Some((name, _)) =
            source.needs.iter().map(|need| part_of(*need)).find(|(_, part)| part.is_none())
        {
            let observation = format!("not asked, for its URL needs `{name}`, which gave no part");
            return Err(Finding::warning("not-asked", observation));
        }
        sources::render(&source.name, &source.http.url, key, part_of)
            .map_err(|failure| Finding::error(failure.reason.as_str(), failure.detail))
    }

    fn settle(&mut self, at: usize, answer_check: AnswerCheck) {
        let source = &mut self.sources[at];
        source.is_settled = true;
        source.part = answer_check.part;
        source.report.findings.extend(answer_check.findings);
        if let Some(facts) = &answer_check.facts {
            source.report.findings.extend(source_findings::answer_findings(
                self.domain,
                &self.domain.sources[at],
                facts,
            ));
        }
        source.report.answer = answer_check.facts;
    }

    fn report(self) -> DomainReport {
        DomainReport {
            name: self.domain.name.to_string(),
            file: self.domain.file.display().to_string(),
            atomicity: match self.domain.atomicity {
                Atomicity::Complete => "complete",
                Atomicity::Snapshot { .. } => "snapshot",
            },
            findings: self.findings,
            sources: self.sources.into_iter().map(|patient| patient.report).collect(),
        }
    }
}
