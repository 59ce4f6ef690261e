//! Asks the world: every source's connection, a few at once; then, with a key, the answers in the
//! order of their needs; then the fleet's Redis. What it returns is what was seen; `findings` says
//! what follows from it.

mod answer;
mod connection;
mod context;

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;

pub(super) use answer::{AnswerFacts, AnswerProbe, EtagStrength, RowsFacts};
pub(super) use connection::{
    CertificatePresentation, ConnectionProbe, TlsProbe, WithoutCertificate,
};
pub(super) use context::DoctorContext;

use crate::bus::examine::{self, Examination};
use crate::domain::{Domain, Domains, Source, SourceIndex, check_value};
use crate::sources::{self, DatabaseExamination, Part, RequestTarget};

/// How many sources are looked at at once.
const PROBES_AT_ONCE: usize = 8;

/// All that was seen.
#[derive(Debug)]
pub(super) struct DoctorProbe<'d> {
    /// Sources were asked with a key.
    pub(super) has_key: bool,
    pub(super) domains: Vec<DomainProbe<'d>>,
    /// `None`: no Redis was given.
    pub(super) redis: Option<Examination>,
}

/// The results of probing a domain.
#[derive(Debug)]
pub(super) struct DomainProbe<'d> {
    pub(super) domain: &'d Domain,
    /// The key is none of this domain's, so its sources were not asked.
    pub(super) rejects_key: bool,
    pub(super) sources: Vec<SourceProbe<'d>>,
}

/// The results of probing a source.
#[derive(Debug)]
pub(super) struct SourceProbe<'d> {
    pub(super) source: &'d Source,
    pub(super) connection: ConnectionProbe,
    /// `None`: it is no database, or there is no connection to it.
    pub(super) database: Option<DatabaseExamination>,
    /// `None`: it was not asked: there is no key, or a source that it needs gave no part.
    pub(super) answer: Option<AnswerProbe>,
    /// Its part, for the sources that need it.
    part: Option<Part>,
}

/// Looks at every source of `domains`, asks those that a request may go to for `key`, and looks at
/// the fleet's Redis.
pub(super) async fn probe_all<'d>(
    domains: &'d Domains,
    context: &DoctorContext,
    key: Option<&str>,
) -> DoctorProbe<'d> {
    // The first random number of a thread costs aws-lc a tenth of a second, which is nobody's
    // latency.
    let _ = aws_lc_rs::rand::fill(&mut [0; 32]);
    let mut probes = probe_connections(domains, context).await;
    if let Some(key) = key {
        for probe in &mut probes {
            probe.rejects_key = check_value(key).is_err() || !probe.domain.key.matches(key);
            if !probe.rejects_key {
                probe.ask(key, context).await;
            }
        }
    }
    let redis = match &context.redis {
        Some(settings) => {
            let names: Vec<&str> = domains.keys().map(|name| &**name).collect();
            Some(examine::examine(settings, &names, context.timeout).await)
        }
        None => None,
    };
    DoctorProbe { has_key: key.is_some(), domains: probes, redis }
}

async fn probe_connections<'d>(
    domains: &'d Domains,
    context: &DoctorContext,
) -> Vec<DomainProbe<'d>> {
    let sources: Vec<(&Source, &Domain)> = domains
        .values()
        .flat_map(|domain| domain.sources.iter().map(move |source| (source, domain.as_ref())))
        .collect();
    let probes = sources.into_iter().map(|(source, domain)| async move {
        let connection = connection::probe_connection(source, context).await;
        let database = if connection.may_be_asked() {
            probe_database(source, domain, context).await
        } else {
            None
        };
        SourceProbe { source, connection, database, answer: None, part: None }
    });
    let probed: Vec<SourceProbe<'d>> =
        stream::iter(probes).buffered(PROBES_AT_ONCE).collect().await;
    let mut probed = probed.into_iter();
    let of_domain = |domain: &'d Arc<Domain>| {
        let sources = probed.by_ref().take(domain.sources.len()).collect();
        DomainProbe { domain, rejects_key: false, sources }
    };
    domains.values().map(of_domain).collect()
}

async fn probe_database(
    source: &Source,
    domain: &Domain,
    context: &DoctorContext,
) -> Option<DatabaseExamination> {
    let names: Vec<&str> = domain.sources.iter().map(|source| source.name.as_ref()).collect();
    sources::examine_database(source, &names, &context.shared, context.timeout).await
}

impl SourceProbe<'_> {
    /// It was asked, or no request may go to it.
    fn is_settled(&self) -> bool {
        self.answer.is_some() || !self.may_be_asked()
    }

    /// Nothing that was seen would refuse a request.
    fn may_be_asked(&self) -> bool {
        let is_let_in = self.database.as_ref().is_none_or(|database| database.facts.is_ok());
        self.connection.may_be_asked() && is_let_in
    }
}

impl DomainProbe<'_> {
    /// Asks in waves: each asks those whose needs are settled. Sources form a DAG, so each wave
    /// settles some.
    async fn ask(&mut self, key: &str, context: &DoctorContext) {
        loop {
            let is_open = |at: &usize| !self.sources[*at].is_settled();
            let has_its_needs = |at: &usize| {
                let needs = &self.sources[*at].source.needs;
                needs.iter().all(|need| self.sources[need.0].is_settled())
            };
            let wave: Vec<usize> =
                (0..self.sources.len()).filter(is_open).filter(has_its_needs).collect();
            if wave.is_empty() {
                return;
            }
            let asks = wave.iter().map(|&at| self.ask_one(at, key, context));
            let answers: Vec<(AnswerProbe, Option<Part>)> =
                stream::iter(asks).buffered(PROBES_AT_ONCE).collect().await;
            for (at, (answer, part)) in wave.into_iter().zip(answers) {
                self.sources[at].answer = Some(answer);
                self.sources[at].part = part;
            }
        }
    }

    async fn ask_one(
        &self,
        at: usize,
        key: &str,
        context: &DoctorContext,
    ) -> (AnswerProbe, Option<Part>) {
        let source = self.sources[at].source;
        match self.target(source, key) {
            Ok(target) => answer::probe_answer(source, &target, context).await,
            Err(not_asked) => (not_asked, None),
        }
    }

    fn target(&self, source: &Source, key: &str) -> Result<RequestTarget, AnswerProbe> {
        let part_of = |index: SourceIndex| {
            let needed = &self.sources[index.0];
            (&*needed.source.name, needed.part.as_ref())
        };
        let without_part =
            source.needs.iter().map(|need| part_of(*need)).find(|(_, part)| part.is_none());
        if let Some((name, _)) = without_part {
            return Err(AnswerProbe::NotAsked { needed: name.to_owned() });
        }
        sources::render_target(source, key, part_of)
            .map_err(|error| AnswerProbe::Failed { error, has_next_page: false })
    }
}
