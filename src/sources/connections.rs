//! Pooled connections to one origin, HTTP/1.1 or HTTP/2 as ALPN negotiates. A new identity gets a
//! new pool.
//!
//! The pool cannot drop single connections, so each generation of the identity has one of its own:
//! requests take the newest, and the old pool goes with its idle connections; a connection with a
//! request on it ends with that request. In the same way a pool ends with the first certificate
//! that its connections were opened under, and after an hour: the proof of a server's identity
//! holds for no longer.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;
use tokio::time::Instant;

use super::attempt_error::AttemptError;
use super::{Reason, SharedSources};
use crate::domain::{HttpSource, ServerIdentity, Source};
use crate::identity::{self, Connector, Identity, TlsOptions};

pub(super) type HyperClient = legacy::Client<Connector, Empty<Bytes>>;

/// A pool of connections.
#[derive(Debug)]
pub(super) struct HttpConnections {
    pub(super) pooled: HyperClient,
    /// Opens a connection for each request.
    pub(super) unpooled: HyperClient,
    /// Counts connections and answers that are given up because they brought too little for the
    /// work that they caused.
    pub(super) floods: Counter,
}

/// Idle connections are closed before most servers do it (nginx after 75 s), so that a request
/// seldom meets one that is just being closed; where a server is quicker (Node.js and Apache httpd
/// after 5 s) the pool sends the request again if nothing had been written, else a retry does. It
/// is also how long an unused source keeps connections of an old identity.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection is used at most: an identity that was taken from a server, its DNS name
/// that leads elsewhere, is noticed by then.
const CONNECTION_AGE_MAX: Duration = Duration::from_hours(1);
/// The header block and the read buffer of HTTP/1.1, in bytes.
const H1_BUFFER_MAX: usize = 64 * 1024;
/// The header list of HTTP/2, in bytes. Answers are held to less (`exchange`): beyond this h2
/// cannot name the error any more.
pub(super) const H2_HEADERS_MAX: u32 = 128 * 1024;
const HEADERS_COUNT_MAX: usize = 128;
/// A dead HTTP/2 connection is found after both together; one of HTTP/1.1 dies with the request
/// that times out on it.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// The connections of one source.
#[derive(Debug)]
pub(super) enum SourceConnections {
    /// `http://`.
    Plain(Arc<HttpConnections>),
    /// `https://` without an identity.
    NoIdentity,
    /// `https://`.
    Mutual(Box<MutualConnections>),
}

/// The connections of the newest identity.
#[derive(Debug)]
pub(super) struct MutualConnections {
    identity: watch::Receiver<Arc<Identity>>,
    server: ServerIdentity,
    tls: TlsOptions,
    metrics: identity::IdentityMetrics,
    concurrency: NonZeroUsize,
    floods: Counter,
    /// The newest pool; held while it is looked up or replaced, never across an `.await`.
    newest: Mutex<Option<ConnectionPool>>,
}

/// The pool of one generation of our identity, while its connections may be used.
#[derive(Debug)]
struct ConnectionPool {
    generation: u64,
    http: Arc<HttpConnections>,
    /// Its certificates end the pool as they expire.
    connector: Connector,
    /// No connection is older.
    created_at: Instant,
    /// When our own certificate ends; `None` where it was over already.
    own_expiry: Option<SystemTime>,
}

impl ConnectionPool {
    /// Whether a certificate that a connection of it was opened with has ended, or an hour has
    /// passed.
    fn is_expired(&self, now: Instant, clock: SystemTime) -> bool {
        let ends = [self.connector.first_certificate_expiry(), self.own_expiry];
        now.saturating_duration_since(self.created_at) >= CONNECTION_AGE_MAX
            || ends.into_iter().flatten().any(|end| identity::is_past_expiry(end, clock))
    }
}

impl SourceConnections {
    pub(super) fn new(source: &Source, http: &HttpSource, shared: &SharedSources) -> Self {
        let floods = shared.metrics.floods(&source.name);
        match (http.url.origin.scheme_str(), &shared.identity) {
            (Some("http"), _) => {
                Self::Plain(open_http_connections(Connector::plain(), source.concurrency, floods))
            }
            (_, None) => Self::NoIdentity,
            (_, Some(identity)) => Self::Mutual(Box::new(MutualConnections {
                identity: identity.clone(),
                server: http.server.clone(),
                tls: shared.tls,
                metrics: shared.identity_metrics.clone(),
                concurrency: source.concurrency,
                floods,
                newest: Mutex::new(None),
            })),
        }
    }

    /// The pool that a request beginning now is to use.
    pub(super) fn current(&self) -> Result<Arc<HttpConnections>, AttemptError> {
        match self {
            Self::Plain(http) => Ok(Arc::clone(http)),
            Self::NoIdentity => Err(AttemptError::inconclusive(
                Reason::Tls,
                "has an `https` URL, but there is no identity: `--identity` gives one",
            )),
            Self::Mutual(mutual) => Ok(mutual.current()),
        }
    }
}

impl MutualConnections {
    fn current(&self) -> Arc<HttpConnections> {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let mut newest = self.newest.lock();
        // Read under the lock: a thread that read it just before it changed must not bring the old
        // one back.
        let identity = Arc::clone(&self.identity.borrow());
        match &*newest {
            Some(pool)
                if pool.generation == identity.generation && !pool.is_expired(now, clock) =>
            {
                pool.http.clone()
            }
            _ => newest.insert(self.new_pool(identity, now, clock)).http.clone(),
        }
    }

    fn new_pool(
        &self,
        identity: Arc<Identity>,
        made: Instant,
        clock: SystemTime,
    ) -> ConnectionPool {
        let generation = identity.generation;
        let not_after = identity.not_after;
        let connector =
            Connector::mutual(identity, self.server.clone(), self.tls, self.metrics.clone());
        let http = open_http_connections(connector.clone(), self.concurrency, self.floods.clone());
        let own_end = Some(not_after).filter(|end| !identity::is_past_expiry(*end, clock));
        ConnectionPool { generation, http, connector, created_at: made, own_expiry: own_end }
    }
}

fn open_http_connections(
    connector: Connector,
    concurrency: NonZeroUsize,
    floods: Counter,
) -> Arc<HttpConnections> {
    let connector = connector.with_flood_limit(concurrency, floods.clone());
    let client = |idle_max| {
        legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(idle_max)
            .http1_max_buf_size(H1_BUFFER_MAX)
            .http1_max_headers(HEADERS_COUNT_MAX)
            .http2_max_header_list_size(H2_HEADERS_MAX)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(connector.clone())
    };
    Arc::new(HttpConnections { pooled: client(concurrency.get()), unpooled: client(0), floods })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::identity::IdentityPaths;
    use crate::identity::issue::{Authority, Leaf, Validity};

    fn connections(not_after: SystemTime) -> (MutualConnections, watch::Sender<Arc<Identity>>) {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("a", Validity::days(1)).unwrap();
        let not_before = SystemTime::now() - Duration::from_hours(1);
        let leaf = Leaf::new("me").valid(Validity { not_before, not_after });
        authority.issue(&leaf).unwrap().write(dir.path(), authority.ca_pem()).unwrap();
        let identity =
            Identity::load(&IdentityPaths { dir: dir.path().to_owned(), ca: None }, 1).unwrap();
        let (sender, identity) = watch::channel(Arc::new(identity));
        let mutual = MutualConnections {
            identity,
            server: ServerIdentity::Dns("a".to_owned()),
            tls: TlsOptions::default(),
            metrics: identity::IdentityMetrics::default(),
            concurrency: NonZeroUsize::MIN,
            floods: Counter::default(),
            newest: Mutex::new(None),
        };
        (mutual, sender)
    }

    #[tokio::test]
    async fn connections_end_after_an_hour_and_with_our_own_certificate() {
        let not_after = SystemTime::now() + Duration::from_hours(9);
        let (mutual, sender) = connections(not_after);
        let made = Instant::now();
        let clock = SystemTime::now();
        let pool = mutual.new_pool(sender.borrow().clone(), made, clock);
        assert!(!pool.is_expired(made, clock));
        assert!(!pool.is_expired(made + CONNECTION_AGE_MAX - Duration::from_millis(1), clock));
        assert!(pool.is_expired(made + CONNECTION_AGE_MAX, clock));
        assert!(!pool.is_expired(made, not_after - Duration::from_secs(1)));
        let over = not_after + Duration::from_secs(1);
        assert!(pool.is_expired(made, over));
        // The server refuses us then, but there is no new pool for each request.
        let pool = mutual.new_pool(sender.borrow().clone(), made, over);
        assert!(!pool.is_expired(made, over + Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn a_pool_that_is_over_is_replaced_by_the_next_request() {
        let (mutual, _sender) = connections(SystemTime::now() + Duration::from_hours(9));
        mutual.current();
        let made = || mutual.newest.lock().as_ref().unwrap().created_at;
        let first = made();
        mutual.current();
        assert_eq!(made(), first, "it is used as long as it may be");
        let past = first.checked_sub(CONNECTION_AGE_MAX).unwrap();
        mutual.newest.lock().as_mut().unwrap().created_at = past;
        mutual.current();
        assert!(made() >= first);
    }
}
