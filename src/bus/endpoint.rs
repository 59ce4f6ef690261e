//! One Redis server: its address, its TLS settings, our credentials, and the opening of a
//! connection to it whose replies are bounded.
//!
//! The streams are opened here, not by the client library, because it reads whole replies, however
//! large: each stream is handed to it as a [`ReplyStream`] one.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt as _, select_ok};
use redis::aio::{ConnectionLike, MultiplexedConnection, SendError};
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, PushInfo, RedisConnectionInfo, RedisFuture, Value,
};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::fault::RedisFault;
use super::reply_stream::ReplyStream;
use super::resp_frames::{ReplyExcess, ReplyLimits};

/// How long connecting may take, TLS and subscriptions included.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(2);
/// The most commands that wait to be written, on each connection.
const QUEUED_MAX: usize = 512;
/// The most addresses of a name that are tried, all at once.
const ADDRESSES_MAX: usize = 16;
/// The most commands that wait for their reply, on each connection.
const UNANSWERED_MAX: usize = 1_024;

/// A server's address and our credentials. Cheap to clone.
#[derive(Clone)]
pub(super) struct Endpoint {
    addr: ConnectionAddr,
    tls: Option<Arc<rustls::ClientConfig>>,
    redis: RedisConnectionInfo,
}

/// A connection. It ends once all its clones are gone.
#[derive(Clone)]
pub(super) struct RedisConnection {
    requests: MultiplexedConnection,
    _driver: Arc<AbortOnDropHandle<()>>,
}

/// A stream that the client library reads and writes.
trait RedisStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> RedisStream for S {}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// The server at an address; `tls` is called where the address asks for TLS.
    pub(super) fn new(
        addr: ConnectionAddr,
        redis: RedisConnectionInfo,
        tls: impl FnOnce() -> Result<rustls::ClientConfig, RedisFault>,
    ) -> Result<Self, RedisFault> {
        let tls = match &addr {
            ConnectionAddr::TcpTls { insecure: false, .. } => Some(Arc::new(tls()?)),
            ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_) => None,
            // TLS that does not verify the server's certificate is not supported.
            _ => return Err(RedisFault::Unreadable),
        };
        Ok(Self { addr, tls, redis })
    }

    /// The address that the server listens on.
    pub(super) fn addr(&self) -> &ConnectionAddr {
        &self.addr
    }

    /// Opens a connection within [`CONNECT_MAX`]. Pushes go to `on_push`; `on_excess` is called if
    /// the connection ends because the server sends more than was asked for.
    pub(super) async fn connect(
        &self,
        limits: ReplyLimits,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
        on_excess: impl Fn(ReplyExcess) + Send + Sync + 'static,
    ) -> Result<RedisConnection, RedisFault> {
        // The timeout of a reply is its caller's.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUED_MAX)
            .set_concurrency_limit(UNANSWERED_MAX)
            .set_push_sender(never_fails(on_push));
        let connected = async {
            let stream = ReplyStream::new(self.open_stream().await?, limits, on_excess);
            let (requests, driver) =
                MultiplexedConnection::new_with_config(&self.redis, stream, config).await?;
            let driver = Arc::new(AbortOnDropHandle::new(tokio::spawn(driver)));
            Ok(RedisConnection { requests, _driver: driver })
        };
        timeout(CONNECT_MAX, connected).await.unwrap_or(Err(RedisFault::TimedOut))
    }

    async fn open_stream(&self) -> Result<Box<dyn RedisStream>, RedisFault> {
        let (host, port) = match &self.addr {
            ConnectionAddr::Unix(path) => {
                let connected = UnixStream::connect(path).await;
                return Ok(Box::new(
                    connected.map_err(|error| RedisFault::from_connect_error(&error))?,
                ));
            }
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                (host, *port)
            }
            _ => return Err(RedisFault::Unreachable(io::ErrorKind::Unsupported)),
        };
        let stream = connect_to(host, port).await?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.clone())
            .map_err(|error| RedisFault::Tls(error.to_string()))?;
        let connected = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
        Ok(Box::new(connected.map_err(|error| RedisFault::Tls(error.to_string()))?))
    }
}

/// Connects to the first address that accepts: a name may have addresses that nobody listens on.
async fn connect_to(host: &str, port: u16) -> Result<TcpStream, RedisFault> {
    let addresses = lookup_host((host, port)).await.map_err(|_| RedisFault::UnknownHost)?;
    let tries: Vec<_> =
        addresses.take(ADDRESSES_MAX).map(|at| TcpStream::connect(at).boxed()).collect();
    if tries.is_empty() {
        return Err(RedisFault::UnknownHost);
    }
    let connected = async {
        let (stream, _) = select_ok(tries).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    connected.await.map_err(|error: io::Error| RedisFault::from_connect_error(&error))
}

impl RedisConnection {
    /// Subscribes to channels.
    pub(super) async fn subscribe(&self, channels: &[&str]) -> redis::RedisResult<()> {
        self.requests.clone().subscribe(channels).await
    }

    /// Ends the subscription that [`Self::subscribe`] began.
    pub(super) async fn unsubscribe(&self, channels: &[&str]) -> redis::RedisResult<()> {
        self.requests.clone().unsubscribe(channels).await
    }
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.requests.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.requests.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.requests.get_db()
    }
}

fn never_fails(push: impl Fn(PushInfo)) -> impl Fn(PushInfo) -> Result<(), SendError> {
    move |info| {
        push(info);
        Ok(())
    }
}
