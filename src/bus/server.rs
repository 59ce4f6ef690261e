//! The connections to one server: one for the protocol, on which pub/sub comes too, and one for datasets, so that a large
//! one never holds up a heartbeat. Both are made together and end together.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, Client, Cmd, PushInfo, RedisResult, Value};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answers::answer;
use super::fault::Fault;
use super::inbox::Outlet;
use super::scripts::Ask;
use crate::coherence::Answer;

/// How long connecting may take, TLS and subscriptions included.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Commands that wait to be written, on each connection.
const QUEUED_MAX: usize = 512;
/// Commands that wait for their answer, on each connection.
const UNANSWERED_MAX: usize = 1_024;

/// The two connections.
#[derive(Clone)]
pub(super) struct Server {
    protocol: MultiplexedConnection,
    datasets: MultiplexedConnection,
    ends: CancellationToken,
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Protocol,
    Datasets,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// Connects. What is published goes to `outlet`; the end of either ends `ends`.
    pub(super) async fn open(client: &Client, outlet: &Outlet, ends: &CancellationToken) -> Result<Self, Fault> {
        let (outlet, end) = (outlet.clone(), ends.clone());
        let protocol = connection(client, move |push| outlet.take(push, &end)).await?;
        let end = ends.clone();
        let datasets = connection(client, move |_| {
            // It subscribes to nothing: this says that it ended.
            end.cancel();
        });
        Ok(Self { protocol, datasets: datasets.await?, ends: ends.clone() })
    }

    /// Subscribes to a domain's news and hints.
    pub(super) async fn subscribe(&self, news: &str, hints: &str) -> RedisResult<()> {
        self.whole(self.protocol.clone().subscribe(&[news, hints]).await)
    }

    /// The same on a Cluster, where a script publishes to the slot's own subscribers if Redis has them; hints may come either
    /// way.
    pub(super) async fn subscribe_to_shard(&self, news: &str, hints: &str) -> RedisResult<()> {
        // One channel a command: each is confirmed for itself, and the client library expects one answer.
        match self.send(redis::cmd("SSUBSCRIBE").arg(news)).await {
            Ok(_) => self.send(redis::cmd("SSUBSCRIBE").arg(hints)).await?,
            // There is no such command before 7.0.
            Err(error) if error.code() == Some("ERR") => return self.subscribe(news, hints).await,
            Err(error) => return Err(error),
        };
        self.whole(self.protocol.clone().subscribe(hints).await)
    }

    /// Ends what [`Self::subscribe`] began.
    pub(super) async fn unsubscribe(&self, news: &str, hints: &str) -> RedisResult<()> {
        self.protocol.clone().unsubscribe(&[news, hints]).await
    }

    /// Sends one command of the protocol's.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        self.whole(command.query_async(&mut self.protocol.clone()).await)
    }

    /// An answer, if the connections have not ended: what came after that may belong to another call.
    fn whole<T>(&self, answered: RedisResult<T>) -> RedisResult<T> {
        if self.ends.is_cancelled() {
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into());
        }
        answered
    }

    /// Runs one script. `asking`: the server does not hold its slot yet, and was named by the one that does.
    pub(super) async fn run(&self, lane: Lane, ask: &Ask<'_>, asking: bool) -> RedisResult<Value> {
        let mut connection = match lane {
            Lane::Protocol => self.protocol.clone(),
            Lane::Datasets => self.datasets.clone(),
        };
        let answered = match query(&mut connection, &ask.by_digest(), asking).await {
            Err(error) if is_unknown_script(&error) => query(&mut connection, &ask.by_text(), asking).await,
            answered => answered,
        };
        self.whole(answered)
    }

    /// Runs many in one round trip.
    pub(super) async fn run_all(&self, asks: &[Ask<'_>]) -> Result<Vec<Result<Answer, Fault>>, Fault> {
        let mut pipeline = redis::pipe();
        for ask in asks {
            pipeline.add_command(ask.by_digest());
        }
        let values = pipeline.ignore_errors().query_async(&mut self.protocol.clone()).await;
        let values: Vec<RedisResult<Value>> = self.whole(values)?;
        let mut answers = Vec::with_capacity(asks.len());
        for (value, ask) in values.into_iter().zip(asks) {
            answers.push(match value {
                Err(error) if is_unknown_script(&error) => answer(self.run(Lane::Protocol, ask, false).await?),
                value => value.map_err(Fault::from).and_then(answer),
            });
        }
        Ok(answers)
    }
}

async fn query(connection: &mut MultiplexedConnection, command: &Cmd, asking: bool) -> RedisResult<Value> {
    if !asking {
        return command.query_async(connection).await;
    }
    // What follows `ASKING` at once is served: a pipeline is written in one piece.
    let mut pipeline = redis::pipe();
    pipeline.cmd("ASKING").add_command(command.clone()).ignore_errors();
    let mut values: Vec<RedisResult<Value>> = pipeline.query_async(connection).await?;
    values.pop().unwrap_or(Ok(Value::Nil))
}

fn is_unknown_script(error: &redis::RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}

/// One connection, within [`CONNECT_MAX`].
pub(super) async fn connection(
    client: &Client,
    push: impl Fn(PushInfo) + Send + Sync + 'static,
) -> Result<MultiplexedConnection, Fault> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_MAX))
        // Each caller has a bound of its own.
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUED_MAX)
        .set_concurrency_limit(UNANSWERED_MAX)
        .set_push_sender(never_fails(push));
    let connected = client.get_multiplexed_async_connection_with_config(&config);
    Ok(timeout(CONNECT_MAX, connected).await.map_err(|_| Fault::Slow)??)
}

fn never_fails(push: impl Fn(PushInfo)) -> impl Fn(PushInfo) -> Result<(), SendError> {
    move |info| {
        push(info);
        Ok(())
    }
}
