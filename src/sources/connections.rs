//! Pooled connections to one origin, HTTP/1.1 or HTTP/2 as ALPN says. A new identity gets a new pool.
//!
//! The pool cannot drop single connections, so each generation of our identity has one of its own: requests take the
//! newest, and the old pool goes with its idle connections; a connection with a request on it ends with that request.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use super::fault::Fault;
use super::{Reason, Shared};
use crate::domain::{ServerIdentity, Source};
use crate::identity::{self, Connector, Identity, TlsOptions};

pub(super) type HttpClient = legacy::Client<Connector, Empty<Bytes>>;

/// A pool of connections, cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Http {
    pub(super) pooled: HttpClient,
    /// Opens a connection for each request.
    pub(super) unpooled: HttpClient,
    /// Counts what is given up because it brings too little for the work that it is.
    pub(super) floods: Counter,
}

/// Idle connections are closed before most servers do it (nginx after 75 s), so that a request seldom meets one that is
/// just being closed; where a server is quicker (Node.js and Apache httpd after 5 s) the pool sends it again if nothing
/// had gone out, else a retry does. It is also how long a source that nobody asks keeps connections of an old identity.
const IDLE: Duration = Duration::from_secs(20);
/// The header block and the read buffer of HTTP/1.1, in bytes.
const H1_BUFFER_MAX: usize = 64 * 1024;
/// The header list of HTTP/2, in bytes. Answers are held to less (`exchange`): beyond this h2 cannot say any more what
/// was wrong.
pub(super) const H2_HEADERS_MAX: u32 = 128 * 1024;
const HEADERS_COUNT_MAX: usize = 128;
/// A dead HTTP/2 connection is found after both together; one of HTTP/1.1 dies with the request that times out on it.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// The connections of one source.
#[derive(Debug)]
pub(super) enum Connections {
    /// `http://`.
    Plain(Http),
    /// `https://`, but nobody gave us an identity.
    Nameless,
    /// `https://`.
    Mutual(Mutual),
}

/// What makes connections of the newest identity.
#[derive(Debug)]
pub(super) struct Mutual {
    identity: watch::Receiver<Arc<Identity>>,
    server: ServerIdentity,
    tls: TlsOptions,
    metrics: identity::Metrics,
    concurrency: NonZeroUsize,
    floods: Counter,
    /// The newest generation and its pool; held while the pool is looked up or replaced, never across an `.await`.
    newest: Mutex<Option<(u64, Http)>>,
}

impl Connections {
    pub(super) fn new(source: &Source, shared: &Shared) -> Self {
        let floods = shared.metrics.floods(&source.name);
        match (source.http.url.origin.scheme_str(), &shared.identity) {
            (Some("http"), _) => Self::Plain(pool(Connector::plain(), source.concurrency, floods)),
            (_, None) => Self::Nameless,
            (_, Some(identity)) => Self::Mutual(Mutual {
                identity: identity.clone(),
                server: source.http.server.clone(),
                tls: shared.tls,
                metrics: shared.identity_metrics.clone(),
                concurrency: source.concurrency,
                floods,
                newest: Mutex::new(None),
            }),
        }
    }

    /// The pool that a request beginning now is to use.
    pub(super) fn current(&self) -> Result<Http, Fault> {
        match self {
            Self::Plain(http) => Ok(http.clone()),
            Self::Nameless => {
                Err(Fault::unasked(Reason::Tls, "has an `https` URL, but there is no identity: `--identity` gives one"))
            }
            Self::Mutual(mutual) => Ok(mutual.current()),
        }
    }
}

impl Mutual {
    fn current(&self) -> Http {
        let identity = Arc::clone(&self.identity.borrow());
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*newest {
            // Who read the identity just before it changed must not bring the old one back.
            Some((generation, http)) if *generation >= identity.generation => http.clone(),
            _ => {
                let generation = identity.generation;
                let connector = Connector::mutual(identity, self.server.clone(), self.tls, self.metrics.clone());
                let http = pool(connector, self.concurrency, self.floods.clone());
                *newest = Some((generation, http.clone()));
                http
            }
        }
    }
}

fn pool(connector: Connector, concurrency: NonZeroUsize, floods: Counter) -> Http {
    let connector = connector.ending_floods(concurrency, floods.clone());
    let client = |idle_max| {
        legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(idle_max)
            .http1_max_buf_size(H1_BUFFER_MAX)
            .http1_max_headers(HEADERS_COUNT_MAX)
            .http2_max_header_list_size(H2_HEADERS_MAX)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(connector.clone())
    };
    Http { pooled: client(concurrency.get()), unpooled: client(0), floods }
}
