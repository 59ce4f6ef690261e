//! The connections to one server: one for the protocol, on which pub/sub comes too, and one for
//! datasets, so that these never hold up a heartbeat. Both are made together and end together. A
//! large dataset has a connection of its own, which ends with it.

use redis::{Cmd, RedisResult, Value};
use tokio_util::sync::CancellationToken;

use super::endpoint::{Endpoint, RedisConnection};
use super::fault::RedisFault;
use super::push_channel::PushSender;
use super::replies::parse_reply;
use super::resp_frames::ReplyLimits;
use super::scripts::ScriptInvocation;
use crate::coherence::ScriptReply;

/// The bytes of a dataset that come on the connection that all share; a larger one has a connection
/// of its own.
pub(super) const SHARED_BYTES_MAX: u64 = 1024 * 1024;
/// What one answer may be: a page of the log with the entry that it ends with, or the names of a
/// large registry.
pub(super) const REPLY_LIMITS: ReplyLimits =
    ReplyLimits { bytes: 4 * 1024 * 1024, elements: 100_000 };
/// What one answer about datasets may be, beside the dataset's bytes: its tags, and what RESP adds.
const BESIDE_BYTES: u64 = 128 * 1024;
const DATASET_REPLY_LIMITS: ReplyLimits =
    ReplyLimits { bytes: SHARED_BYTES_MAX + BESIDE_BYTES, elements: 1_000 };

/// The connections.
#[derive(Clone)]
pub(super) struct RedisServer {
    endpoint: Endpoint,
    push_sender: PushSender,
    protocol: RedisConnection,
    datasets: RedisConnection,
    closed: CancellationToken,
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionKind {
    Protocol,
    Datasets,
    /// One of its own, for an answer with a dataset of up to so many bytes: what it takes to read
    /// it is given back with it.
    Large(u64),
}

impl std::fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl RedisServer {
    /// Connects. Published messages go to `outlet`; the end of either ends `ends`.
    pub(super) async fn open(
        endpoint: Endpoint,
        push_sender: &PushSender,
        ends: &CancellationToken,
    ) -> Result<Self, RedisFault> {
        let outgrown = |has_news| {
            let outlet = push_sender.clone();
            move |cause| outlet.on_reply_excess(cause, has_news)
        };
        let (pushes, end) = (push_sender.clone(), ends.clone());
        let protocol = endpoint
            .connect(REPLY_LIMITS, move |push| pushes.accept(push, &end), outgrown(true))
            .await?;
        let end = ends.clone();
        // It subscribes to nothing: a push says that it ended.
        let datasets =
            endpoint.connect(DATASET_REPLY_LIMITS, move |_| end.cancel(), outgrown(false)).await?;
        Ok(Self {
            endpoint,
            push_sender: push_sender.clone(),
            protocol,
            datasets,
            closed: ends.clone(),
        })
    }

    /// Subscribes to a domain's published entries and hints.
    pub(super) async fn subscribe(&self, news: &str, hints: &str) -> RedisResult<()> {
        self.unless_closed(self.protocol.subscribe(&[news, hints]).await)
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
        self.unless_closed(self.protocol.subscribe(&[hints]).await)
    }

    /// Ends what [`Self::subscribe`] began.
    pub(super) async fn unsubscribe(&self, news: &str, hints: &str) -> RedisResult<()> {
        self.protocol.unsubscribe(&[news, hints]).await
    }

    /// Sends one command of the protocol's.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        self.unless_closed(command.query_async(&mut self.protocol.clone()).await)
    }

    /// An answer, if the connections have not ended: what came after that may belong to another
    /// call.
    fn unless_closed<T>(&self, answered: RedisResult<T>) -> RedisResult<T> {
        if self.closed.is_cancelled() {
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into());
        }
        answered
    }

    /// Runs one script. `asking`: the server does not hold its slot yet, and was named by the one
    /// that does.
    pub(super) async fn run(
        &self,
        kind: ConnectionKind,
        invocation: &ScriptInvocation<'_>,
        after_ask: bool,
    ) -> RedisResult<Value> {
        let mut connection = match kind {
            ConnectionKind::Protocol => self.protocol.clone(),
            ConnectionKind::Datasets => self.datasets.clone(),
            ConnectionKind::Large(bytes) => self.large_connection(bytes).await?,
        };
        let answered = match query(&mut connection, &invocation.evalsha(), after_ask).await {
            Err(error) if is_unknown_script(&error) => {
                query(&mut connection, &invocation.eval(), after_ask).await
            }
            answered => answered,
        };
        self.unless_closed(answered)
    }

    async fn large_connection(&self, bytes: u64) -> RedisResult<RedisConnection> {
        let outlet = self.push_sender.clone();
        let limits = ReplyLimits { bytes: bytes + BESIDE_BYTES, ..DATASET_REPLY_LIMITS };
        let connected = self
            .endpoint
            .connect(limits, |_| {}, move |cause| outlet.on_reply_excess(cause, false))
            .await;
        connected.map_err(|fault| std::io::Error::other(fault).into())
    }

    /// Runs many in one round trip.
    pub(super) async fn run_all(
        &self,
        invocations: &[ScriptInvocation<'_>],
    ) -> Result<Vec<Result<ScriptReply, RedisFault>>, RedisFault> {
        let mut pipeline = redis::pipe();
        for ask in invocations {
            pipeline.add_command(ask.evalsha());
        }
        let values = pipeline.ignore_errors().query_async(&mut self.protocol.clone()).await;
        let values: Vec<RedisResult<Value>> = self.unless_closed(values)?;
        let mut answers = Vec::with_capacity(invocations.len());
        for (value, ask) in values.into_iter().zip(invocations) {
            answers.push(match value {
                Err(error) if is_unknown_script(&error) => {
                    parse_reply(self.run(ConnectionKind::Protocol, ask, false).await?)
                }
                value => value.map_err(RedisFault::from).and_then(parse_reply),
            });
        }
        Ok(answers)
    }
}

async fn query(
    connection: &mut RedisConnection,
    command: &Cmd,
    asking: bool,
) -> RedisResult<Value> {
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
