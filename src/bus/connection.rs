//! Connections to Redis: one for the protocol, on which pub/sub comes too, and one for datasets, so that a large one
//! never holds up a heartbeat. Both are made together and end together; whoever finds one broken ends both.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::{MultiplexedConnection, SendError};
use redis::cluster::{ClusterClientBuilder, TlsMode};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{Sentinel, SentinelNodeConnectionInfo};
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ProtocolVersion, PushInfo, Value};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answers::answer;
use super::fault::Fault;
use super::inbox::Outlet;
use super::scripts::Ask;
use super::settings::{ConnectionUrl, Servers, Settings};
use crate::coherence::Answer;

/// How long connecting may take, TLS and subscriptions included.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Commands that wait to be written, on each connection.
const QUEUED_MAX: usize = 512;
/// Commands that wait for their answer, on each connection.
const UNANSWERED_MAX: usize = 1_024;

/// The two connections of one time.
#[derive(Debug)]
pub(super) struct Links {
    protocol: Connection,
    datasets: Connection,
    broken: CancellationToken,
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Protocol,
    Datasets,
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    /// The client finds a key's server by itself, and comes back to those that it lost.
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::One(_)) { "One" } else { "Cluster" })
    }
}

impl Links {
    /// Connects. What is published goes to `outlet`.
    pub(super) async fn connect(settings: &Settings, outlet: &Outlet) -> Result<Self, Fault> {
        timeout(CONNECT_MAX, Self::connected(settings, outlet)).await.unwrap_or(Err(Fault::Slow))
    }

    async fn connected(settings: &Settings, outlet: &Outlet) -> Result<Self, Fault> {
        let broken = CancellationToken::new();
        if let Servers::Cluster(nodes) = &settings.place {
            let protocol = cluster(settings, nodes, outlet.clone()).await?;
            return Ok(Self { datasets: protocol.clone(), protocol, broken });
        }
        let client = client(settings).await?;
        let (ends, outlet) = (broken.clone(), outlet.clone());
        let protocol = one(&client, move |push| outlet.take(push, &ends)).await?;
        let ends = broken.clone();
        let datasets = one(&client, move |_| {
            // It subscribes to nothing: this says that it ended.
            ends.cancel();
        });
        Ok(Self { protocol, datasets: datasets.await?, broken })
    }

    /// Whether pub/sub brings everything in the order in which it was published: one server does, a cluster does not.
    pub(super) fn are_ordered(&self) -> bool {
        matches!(self.protocol, Connection::One(_))
    }

    /// Ends both.
    pub(super) fn end(&self) {
        self.broken.cancel();
    }

    /// Returns once one of them has ended.
    pub(super) async fn ended(&self) {
        self.broken.cancelled().await;
    }

    /// Subscribes to a domain's news and hints.
    pub(super) async fn subscribe(&self, news: &str, hints: &str) -> Result<(), Fault> {
        let subscribed = async {
            match self.protocol.clone() {
                Connection::One(mut connection) => Ok(connection.subscribe(&[news, hints]).await?),
                Connection::Cluster(mut connection) => {
                    // A script on a cluster publishes to the shard's own subscribers where Redis has them.
                    if connection.ssubscribe(&[news, hints]).await.is_err() {
                        connection.subscribe(news).await?;
                    }
                    Ok(connection.subscribe(hints).await?)
                }
            }
        };
        timeout(CONNECT_MAX, subscribed).await.unwrap_or(Err(Fault::Slow))
    }

    /// Ends what [`Self::subscribe`] began.
    pub(super) async fn unsubscribe(&self, news: &str, hints: &str) -> Result<(), Fault> {
        let unsubscribed = async {
            match self.protocol.clone() {
                Connection::One(mut connection) => Ok(connection.unsubscribe(&[news, hints]).await?),
                Connection::Cluster(mut connection) => {
                    let _ = connection.sunsubscribe(&[news, hints]).await;
                    Ok(connection.unsubscribe(&[news, hints]).await?)
                }
            }
        };
        timeout(CONNECT_MAX, unsubscribed).await.unwrap_or(Err(Fault::Slow))
    }

    /// Runs one script, within `bound`.
    pub(super) async fn run(&self, lane: Lane, ask: &Ask<'_>, bound: Duration) -> Result<Answer, Fault> {
        let connection = match lane {
            Lane::Protocol => self.protocol.clone(),
            Lane::Datasets => self.datasets.clone(),
        };
        timeout(bound, connection.run(ask)).await.unwrap_or(Err(Fault::Slow))
    }

    /// Runs many in one round trip; on a cluster, beside each other.
    pub(super) async fn run_all(&self, asks: &[Ask<'_>], bound: Duration) -> Vec<Result<Answer, Fault>> {
        let answered = timeout(bound, self.protocol.clone().run_all(asks)).await.unwrap_or(Err(Fault::Slow));
        answered.unwrap_or_else(|fault| asks.iter().map(|_| Err(fault.clone())).collect())
    }
}

impl Connection {
    async fn query(&mut self, command: &Cmd) -> redis::RedisResult<Value> {
        match self {
            Self::One(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }

    async fn run(mut self, ask: &Ask<'_>) -> Result<Answer, Fault> {
        match self.query(&ask.by_digest()).await {
            Ok(value) => answer(value),
            Err(error) if is_unknown_script(&error) => answer(self.query(&ask.by_text()).await?),
            Err(error) => Err(error.into()),
        }
    }

    async fn run_all(self, asks: &[Ask<'_>]) -> Result<Vec<Result<Answer, Fault>>, Fault> {
        let Self::One(mut connection) = self.clone() else {
            return Ok(join_all(asks.iter().map(|ask| self.clone().run(ask))).await);
        };
        let mut pipeline = redis::pipe();
        for ask in asks {
            pipeline.add_command(ask.by_digest());
        }
        let values: Vec<redis::RedisResult<Value>> = pipeline.ignore_errors().query_async(&mut connection).await?;
        let mut answers = Vec::with_capacity(asks.len());
        for (value, ask) in values.into_iter().zip(asks) {
            answers.push(match value {
                Err(error) if is_unknown_script(&error) => self.clone().run(ask).await,
                value => value.map_err(Fault::from).and_then(answer),
            });
        }
        Ok(answers)
    }
}

fn is_unknown_script(error: &redis::RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}

/// A client of the one server, or of the primary that the sentinels name now.
async fn client(settings: &Settings) -> Result<Client, Fault> {
    match &settings.place {
        Servers::Sentinel { sentinels, service } => {
            let infos = sentinels.iter().map(ConnectionUrl::info).collect::<Result<Vec<_>, _>>()?;
            let tls = sentinels.iter().any(ConnectionUrl::is_tls).then_some(TlsMode::Secure);
            let redis = settings.authorise(spoken(redis::RedisConnectionInfo::default()))?;
            let mut node = SentinelNodeConnectionInfo::default().set_redis_connection_info(redis);
            if let Some(tls) = tls {
                node = node.set_tls_mode(tls);
            }
            let primary = Sentinel::build(infos)?.async_master_for(service, Some(&node)).await?;
            with_certificates(settings, primary.get_connection_info().clone(), tls.is_some())
        }
        Servers::One(url) => {
            let info = url.info()?;
            let redis = settings.authorise(spoken(info.redis_settings().clone()))?;
            with_certificates(settings, info.set_redis_settings(redis), url.is_tls())
        }
        Servers::Cluster(_) => Err(Fault::Lost),
    }
}

fn with_certificates(settings: &Settings, info: ConnectionInfo, tls: bool) -> Result<Client, Fault> {
    if tls {
        return Ok(Client::build_with_tls(info, settings.certificates()?)?);
    }
    Ok(Client::open(info)?)
}

/// Pushes come with the third protocol only. The name of the library is not sent: it is one more permission to give.
fn spoken(info: redis::RedisConnectionInfo) -> redis::RedisConnectionInfo {
    info.set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name()
}

async fn one(client: &Client, push: impl Fn(PushInfo) + Send + Sync + 'static) -> Result<Connection, Fault> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_MAX))
        // Each caller has a bound of its own.
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUED_MAX)
        .set_concurrency_limit(UNANSWERED_MAX)
        .set_push_sender(never_fails(push));
    Ok(Connection::One(client.get_multiplexed_async_connection_with_config(&config).await?))
}

async fn cluster(settings: &Settings, nodes: &[ConnectionUrl], outlet: Outlet) -> Result<Connection, Fault> {
    let infos = nodes.iter().map(ConnectionUrl::info).collect::<Result<Vec<_>, _>>()?;
    let mut builder = ClusterClientBuilder::new(infos)
        .use_protocol(ProtocolVersion::RESP3)
        .connection_timeout(CONNECT_MAX)
        .retries(1)
        .connection_concurrency_limit(UNANSWERED_MAX)
        .push_sender(never_fails(move |push| outlet.take_of_many(push)));
    if nodes.iter().any(ConnectionUrl::is_tls) {
        builder = builder.tls(TlsMode::Secure).certs(settings.certificates()?);
    }
    if let Some((user, password)) = settings.credentials()? {
        builder = builder.password(password);
        if let Some(user) = user {
            builder = builder.username(user);
        }
    }
    Ok(Connection::Cluster(builder.build()?.get_async_connection().await?))
}

fn never_fails(push: impl Fn(PushInfo)) -> impl Fn(PushInfo) -> Result<(), SendError> {
    move |info| {
        push(info);
        Ok(())
    }
}

/// Connections of one time, shared.
pub(super) type Shared = Option<Arc<Links>>;
