//! The connections to one server: one for the protocol, on which pub/sub comes too, and one for
//! datasets, so that these never hold up a heartbeat. Both are made together and end together. A
//! large dataset has a connection of its own, which ends with it.

use std::time::Duration;

use redis::{Cmd, RedisResult, Value};
use tokio_util::sync::CancellationToken;

use super::answers::answer;
use super::endpoint::{Connection, Endpoint};
use super::fault::Fault;
use super::frames::ReplyLimits;
use super::handle::SHARED_BYTES_MAX;
use super::inbox::Outlet;
use super::scripts::Ask;
use crate::coherence::Answer;

/// How long connecting may take, TLS and subscriptions included.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(2);
/// What one answer may be: a page of the log with the entry that it ends with, or the names of a
/// large registry.
pub(super) const ANSWERS: ReplyLimits = ReplyLimits { bytes: 4 * 1024 * 1024, elements: 100_000 };
/// What one answer about datasets may be, beside the dataset's bytes: its tags, and what RESP adds.
const BESIDE_BYTES: u64 = 128 * 1024;
const DATASETS: ReplyLimits =
    ReplyLimits { bytes: SHARED_BYTES_MAX + BESIDE_BYTES, elements: 1_000 };

/// The connections.
#[derive(Clone)]
pub(super) struct Server {
    endpoint: Endpoint,
    outlet: Outlet,
    protocol: Connection,
    datasets: Connection,
    ends: CancellationToken,
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Protocol,
    Datasets,
    /// One of its own, for an answer with a dataset of up to so many bytes: what it takes to read
    /// it is given back with it.
    Large(u64),
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// Connects. What is published goes to `outlet`; the end of either ends `ends`.
    pub(super) async fn open(
        endpoint: Endpoint,
        outlet: &Outlet,
        ends: &CancellationToken,
    ) -> Result<Self, Fault> {
        let outgrown = |has_news| {
            let outlet = outlet.clone();
            move |cause| outlet.outgrown(cause, has_news)
        };
        let (pushes, end) = (outlet.clone(), ends.clone());
        let protocol =
            endpoint.connect(ANSWERS, move |push| pushes.take(push, &end), outgrown(true)).await?;
        let end = ends.clone();
        // It subscribes to nothing: a push says that it ended.
        let datasets = endpoint.connect(DATASETS, move |_| end.cancel(), outgrown(false)).await?;
        Ok(Self { endpoint, outlet: outlet.clone(), protocol, datasets, ends: ends.clone() })
    }

    /// Subscribes to a domain's news and hints.
    pub(super) async fn subscribe(&self, news: &str, hints: &str) -> RedisResult<()> {
        self.whole(self.protocol.subscribe(&[news, hints]).await)
    }

    /// The same on a Cluster, where a script publishes to the slot's own subscribers if Redis has
    /// them; hints may come either way.
    pub(super) async fn subscribe_to_shard(&self, news: &str, hints: &str) -> RedisResult<()> {
        // One channel a command: each is confirmed for itself, and the client library expects one
        // answer.
        match self.send(redis::cmd("SSUBSCRIBE").arg(news)).await {
            Ok(_) => self.send(redis::cmd("SSUBSCRIBE").arg(hints)).await?,
            // There is no such command before 7.0.
            Err(error) if error.code() == Some("ERR") => return self.subscribe(news, hints).await,
            Err(error) => return Err(error),
        };
        self.whole(self.protocol.subscribe(&[hints]).await)
    }

    /// Ends what [`Self::subscribe`] began.
    pub(super) async fn unsubscribe(&self, news: &str, hints: &str) -> RedisResult<()> {
        self.protocol.unsubscribe(&[news, hints]).await
    }

    /// Sends one command of the protocol's.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        self.whole(command.query_async(&mut self.protocol.clone()).await)
    }

    /// An answer, if the connections have not ended: what came after that may belong to another
    /// call.
    fn whole<T>(&self, answered: RedisResult<T>) -> RedisResult<T> {
        if self.ends.is_cancelled() {
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into());
        }
        answered
    }

    /// Runs one script. `asking`: the server does not hold its slot yet, and was named by the one
    /// that does.
    pub(super) async fn run(&self, lane: Lane, ask: &Ask<'_>, asking: bool) -> RedisResult<Value> {
        let mut connection = match lane {
            Lane::Protocol => self.protocol.clone(),
            Lane::Datasets => self.datasets.clone(),
            Lane::Large(bytes) => self.large_connection(bytes).await?,
        };
        let answered = match query(&mut connection, &ask.by_digest(), asking).await {
            Err(error) if is_unknown_script(&error) => {
                query(&mut connection, &ask.by_text(), asking).await
            }
            answered => answered,
        };
        self.whole(answered)
    }

    async fn large_connection(&self, bytes: u64) -> RedisResult<Connection> {
        let outlet = self.outlet.clone();
        let limits = ReplyLimits { bytes: bytes + BESIDE_BYTES, ..DATASETS };
        let connected =
            self.endpoint.connect(limits, |_| {}, move |cause| outlet.outgrown(cause, false)).await;
        connected.map_err(|fault| std::io::Error::other(fault).into())
    }

    /// Runs many in one round trip.
    pub(super) async fn run_all(
        &self,
        asks: &[Ask<'_>],
    ) -> Result<Vec<Result<Answer, Fault>>, Fault> {
        let mut pipeline = redis::pipe();
        for ask in asks {
            pipeline.add_command(ask.by_digest());
        }
        let values = pipeline.ignore_errors().query_async(&mut self.protocol.clone()).await;
        let values: Vec<RedisResult<Value>> = self.whole(values)?;
        let mut answers = Vec::with_capacity(asks.len());
        for (value, ask) in values.into_iter().zip(asks) {
            answers.push(match value {
                Err(error) if is_unknown_script(&error) => {
                    answer(self.run(Lane::Protocol, ask, false).await?)
                }
                value => value.map_err(Fault::from).and_then(answer),
            });
        }
        Ok(answers)
    }
}

async fn query(connection: &mut Connection, command: &Cmd, asking: bool) -> RedisResult<Value> {
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
