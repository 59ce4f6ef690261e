//! The client of one source, whatever its kind, and how sources are asked together.
//!
//! Sources that read one database are asked in one transaction, and so belong to one instant; an
//! HTTP source is asked alone. Which sources go together is [`Client::shares_transaction_with`].

use std::sync::Arc;

use super::account::{ClientState, SourceAccount};
use super::http_client::HttpClient;
use super::render::RequestTarget;
use super::{Attempt, Fetched, PartRequest, SharedSources, SourceAnswer, SourceError};
use crate::domain::{Domain, Source, SourceKind};

#[cfg(any(feature = "postgres", feature = "mongodb"))]
use super::database_client::{self, DatabaseClient};

/// The client of one source: connections, slots, breaker and retry budget.
#[derive(Debug)]
pub struct Client {
    account: Arc<SourceAccount>,
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    Http(Box<HttpClient>),
    #[cfg(any(feature = "postgres", feature = "mongodb"))]
    Database(Box<DatabaseClient>),
    /// A database of a kind that this build does not have; `check` refuses it.
    Absent,
}

impl Client {
    /// The client of a source that is alone in its domain.
    pub fn new(source: Source, shared: &SharedSources) -> Self {
        Self::beside(source, &[], &[], shared)
    }

    /// The clients of a domain's sources, in their order. Those that `old` has for unchanged
    /// sources are taken from there, each once, with their connections, breakers and budgets.
    pub fn for_domain(
        domain: &Domain,
        old: &mut Vec<Arc<Self>>,
        shared: &SharedSources,
    ) -> Vec<Arc<Self>> {
        let mut clients: Vec<Arc<Self>> = Vec::with_capacity(domain.sources.len());
        for source in &domain.sources {
            let is_same = |client: &Arc<Self>| client.is_for(source, &domain.sources, &clients);
            let client = match old.iter().position(is_same) {
                Some(position) => old.swap_remove(position),
                None => Arc::new(Self::beside(source.clone(), &domain.sources, &clients, shared)),
            };
            clients.push(client);
        }
        clients
    }

    /// The client of a source beside `sources`, of which `clients` exist already.
    fn beside(
        source: Source,
        sources: &[Source],
        clients: &[Arc<Self>],
        shared: &SharedSources,
    ) -> Self {
        let account = Arc::new(SourceAccount::new(source, &shared.metrics));
        let backend = if let SourceKind::Http(http) = &account.source.kind {
            let http = HttpClient::new(Arc::clone(&account), http.clone(), shared);
            Backend::Http(Box::new(http))
        } else {
            Self::database_backend(&account, sources, clients, shared).unwrap_or(Backend::Absent)
        };
        Self { account, backend }
    }

    #[cfg(any(feature = "postgres", feature = "mongodb"))]
    fn database_backend(
        account: &Arc<SourceAccount>,
        sources: &[Source],
        clients: &[Arc<Self>],
        shared: &SharedSources,
    ) -> Option<Backend> {
        let others = clients.iter().filter_map(|client| client.database());
        let client = DatabaseClient::new(account, sources, others, shared)?;
        Some(Backend::Database(Box::new(client)))
    }

    #[cfg(not(any(feature = "postgres", feature = "mongodb")))]
    fn database_backend(
        _: &Arc<SourceAccount>,
        _: &[Source],
        _: &[Arc<Self>],
        _: &SharedSources,
    ) -> Option<Backend> {
        None
    }

    /// Whether it can go on as the client of `source` beside `sources`, of which `clients` exist.
    fn is_for(&self, source: &Source, sources: &[Source], clients: &[Arc<Self>]) -> bool {
        if self.source() != source {
            return false;
        }
        match &self.backend {
            Backend::Http(_) => true,
            Backend::Absent => {
                let _ = (sources, clients);
                false
            }
            #[cfg(any(feature = "postgres", feature = "mongodb"))]
            Backend::Database(database) => {
                let others = clients.iter().filter_map(|client| client.database());
                database.is_for(sources, others)
            }
        }
    }

    #[cfg(any(feature = "postgres", feature = "mongodb"))]
    fn database(&self) -> Option<&DatabaseClient> {
        match &self.backend {
            Backend::Http(_) | Backend::Absent => None,
            Backend::Database(database) => Some(database),
        }
    }

    /// The source it asks.
    pub fn source(&self) -> &Source {
        &self.account.source
    }

    /// How it is doing.
    pub fn state(&self) -> ClientState {
        self.account.state()
    }

    /// Counts a failure that prevented the request, or that only all sources together show.
    pub fn count_failure(&self, failure: &SourceError) {
        self.account.count_failure(failure);
    }

    /// Whether both are read together where they are asked at once: in one transaction, or in one
    /// snapshot where the servers can.
    pub fn shares_transaction_with(&self, other: &Self) -> bool {
        match (&self.backend, &other.backend) {
            #[cfg(any(feature = "postgres", feature = "mongodb"))]
            (Backend::Database(one), Backend::Database(other)) => one.shares_pool_with(other),
            _ => false,
        }
    }

    /// Asks alone, retries within its bounds, and never outlives the deadline. Every request made
    /// is pushed to `attempts`.
    pub async fn fetch(
        &self,
        ask: PartRequest<'_>,
        attempts: &mut Vec<Attempt>,
    ) -> Result<SourceAnswer, SourceError> {
        let fetched = fetch_together(vec![(self, ask)]).await.pop();
        let Some(Fetched { result: Some(result), attempts: made, .. }) = fetched else {
            return Err(SourceError::unreached(&self.source().name));
        };
        attempts.extend(made);
        result
    }
}

/// Asks sources that share a transaction, or one source alone: the results in the order of the
/// requests.
pub async fn fetch_together(requests: Vec<(&Client, PartRequest<'_>)>) -> Vec<Fetched> {
    if let [(client, request)] = requests[..]
        && let (Backend::Http(http), RequestTarget::Url(target)) = (&client.backend, request.target)
    {
        let mut attempts = Vec::new();
        let result = http.fetch(target, request, &mut attempts).await;
        return vec![Fetched { result: Some(result), attempts, at_one_instant: true }];
    }
    #[cfg(any(feature = "postgres", feature = "mongodb"))]
    {
        let count = requests.len();
        let members: Vec<_> = requests
            .into_iter()
            .filter_map(|(client, request)| Some((client.database()?, request)))
            .collect();
        if members.len() == count {
            return database_client::fetch_group(members).await;
        }
        debug_assert!(members.is_empty(), "requests of different kinds are not asked together");
    }
    Vec::new()
}
