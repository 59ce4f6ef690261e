//! The examination: every source's connection, a few at once; then, with a key, the answers in the
//! order of their needs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream;
use http::uri::PathAndQuery;

use super::answer::{self, Asked};
use super::connection;
use super::finding::{Finding, Level};
use super::judge;
use super::own::Own;
use super::redis::RedisReport;
use super::report::{DomainReport, Report, SourceReport};
use crate::bus;
use crate::domain::{Atomicity, Domain, Domains, Source, check_value};
use crate::identity::{Identity, TlsOptions};
use crate::sources::{self, Part, Shared};

/// How many sources are looked at at once.
const AT_ONCE: usize = 8;

/// Who asks, and how.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) tls: TlsOptions,
    /// How long a connection, and each answer, may take.
    pub(super) timeout: Duration,
    pub(super) shared: Shared,
    /// The fleet's Redis, if one is given.
    pub(super) redis: Option<bus::Settings>,
}

/// One source under examination.
struct Patient {
    report: SourceReport,
    /// What it gave, for those that need it.
    part: Option<Part>,
    settled: bool,
}

/// One domain under examination.
struct Ward<'d> {
    domain: &'d Domain,
    patients: Vec<Patient>,
    findings: Vec<Finding>,
}

/// Examines every source of `domains`; asks those that a request may go to for `key`.
pub(super) async fn all(domains: &Domains, asker: &Asker, key: Option<&str>) -> Report {
    // The first random number of a thread costs aws-lc a tenth of a second, which is nobody's
    // latency.
    let _ = aws_lc_rs::rand::fill(&mut [0; 32]);
    let mut wards = look(domains, asker).await;
    if let Some(key) = key {
        for ward in &mut wards {
            if check_value(key).is_ok() && ward.domain.key.matches(key) {
                ward.ask(key, asker).await;
            } else {
                let warning = Finding::warning(
                    "bad-key",
                    "`--key` is no key of this domain, its sources were not asked",
                );
                let pattern = &ward.domain.key.text;
                ward.findings.push(
                    warning.expected(format!("one that matches `{pattern}`, without dot segments")),
                );
            }
        }
    }
    let redis = match &asker.redis {
        Some(settings) => {
            let domains: Vec<&str> = domains.keys().map(|name| &**name).collect();
            let found = bus::examine::examine(settings, &domains, asker.timeout).await;
            Some(RedisReport::of(&found, settings))
        }
        None => None,
    };
    let own = asker.identity.as_ref().map(|identity| Own::of(identity, SystemTime::now()));
    Report::new(key.is_some(), own, redis, wards.into_iter().map(Ward::report).collect())
}

async fn look<'d>(domains: &'d Domains, asker: &Asker) -> Vec<Ward<'d>> {
    let sources: Vec<&Source> = domains.values().flat_map(|domain| &domain.sources).collect();
    let looks = sources
        .into_iter()
        .map(|source| async move { patient(source, connection::look(source, asker).await) });
    let looked: Vec<Patient> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    let mut looked = looked.into_iter();
    let ward = |domain: &'d Arc<Domain>| {
        let patients = looked.by_ref().take(domain.sources.len()).collect();
        Ward { domain, patients, findings: Vec::new() }
    };
    domains.values().map(ward).collect()
}

fn patient(
    source: &Source,
    (connection, findings): (Option<connection::Facts>, Vec<Finding>),
) -> Patient {
    // Whom no request may go to is not asked.
    let settled =
        connection.is_none() || findings.iter().any(|finding| finding.level == Level::Error);
    let report = SourceReport {
        name: source.name.to_string(),
        origin: source.http.url.origin.to_string().trim_end_matches('/').to_owned(),
        server: source.http.server.to_string(),
        connection,
        answer: None,
        findings,
    };
    Patient { report, part: None, settled }
}

impl Ward<'_> {
    /// Asks in waves: each asks those whose needs are settled. Sources form a DAG, so each wave
    /// settles some.
    async fn ask(&mut self, key: &str, asker: &Asker) {
        loop {
            let open = |at: &usize| !self.patients[*at].settled;
            let free = |at: &usize| {
                self.domain.sources[*at].needs.iter().all(|need| self.patients[need.0].settled)
            };
            let wave: Vec<usize> = (0..self.patients.len()).filter(open).filter(free).collect();
            if wave.is_empty() {
                return;
            }
            let asks = wave.iter().map(|&at| self.ask_one(at, key, asker));
            let outcomes: Vec<Asked> = stream::iter(asks).buffered(AT_ONCE).collect().await;
            for (at, outcome) in wave.into_iter().zip(outcomes) {
                self.settle(at, outcome);
            }
        }
    }

    async fn ask_one(&self, at: usize, key: &str, asker: &Asker) -> Asked {
        let source = &self.domain.sources[at];
        match self.target(source, key) {
            Ok(target) => answer::ask(source, &target, asker).await,
            Err(finding) => Asked { part: None, facts: None, findings: vec![finding] },
        }
    }

    fn target(&self, source: &Source, key: &str) -> Result<PathAndQuery, Finding> {
        let given = |index: crate::domain::SourceIndex| {
            let patient = &self.patients[index.0];
            (patient.report.name.as_str(), patient.part.as_ref())
        };
        if let Some((name, _)) =
            source.needs.iter().map(|need| given(*need)).find(|(_, part)| part.is_none())
        {
            let met = format!("not asked, for its URL needs `{name}`, which gave no part");
            return Err(Finding::warning("not-asked", met));
        }
        sources::render(&source.name, &source.http.url, key, given)
            .map_err(|failure| Finding::error(failure.reason.as_str(), failure.detail))
    }

    fn settle(&mut self, at: usize, asked: Asked) {
        let patient = &mut self.patients[at];
        patient.settled = true;
        patient.part = asked.part;
        patient.report.findings.extend(asked.findings);
        if let Some(facts) = &asked.facts {
            patient.report.findings.extend(judge::answer(
                self.domain,
                &self.domain.sources[at],
                facts,
            ));
        }
        patient.report.answer = asked.facts;
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
            sources: self.patients.into_iter().map(|patient| patient.report).collect(),
        }
    }
}
