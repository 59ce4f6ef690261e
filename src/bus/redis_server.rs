//! The connections to one server: one for the protocol, which carries pub/sub too, and one for
//! datasets, so that datasets never hold up a heartbeat. Both are opened together and closed
//! together. A large dataset has a connection of its own, which is closed after it.

use redis::{Cmd, RedisResult, Value};
use tokio_util::sync::CancellationToken;

use super::endpoint::{Endpoint, RedisConnection};
use super::fault::RedisFault;
use super::push_channel::PushSender;
use super::replies::parse_reply;
use super::resp_frames::ReplyLimits;
use super::scripts::ScriptInvocation;
use crate::coherence::ScriptReply;

/// The most bytes of a dataset that is read on the shared connection; a larger one has a connection
/// of its own.
pub(super) const SHARED_BYTES_MAX: u64 = 1024 * 1024;
/// The limits of one reply: a page of the log with the entry that it ends with, or the names of a
/// large registry.
pub(super) const REPLY_LIMITS: ReplyLimits =
    ReplyLimits { bytes: 4 * 1024 * 1024, elements: 100_000 };
/// The most bytes of a reply beside the dataset's own: its tags, and the framing of RESP.
const BESIDE_BYTES: u64 = 128 * 1024;
const DATASET_REPLY_LIMITS: ReplyLimits =
    ReplyLimits { bytes: SHARED_BYTES_MAX + BESIDE_BYTES, elements: 1_000 };

/// The connections to one server.
#[derive(Clone)]
pub(super) struct RedisServer {
    endpoint: Endpoint,
    push_sender: PushSender,
    protocol: RedisConnection,
    datasets: RedisConnection,
    closed: CancellationToken,
}

/// The connection that a call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionKind {
    Protocol,
    Datasets,
    /// A connection of its own, for a reply with a dataset of up to so many bytes: its read buffer
    /// is freed with it.
    Large(u64),
}

impl std::fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisServer")
    }
}

impl RedisServer {
    /// Connects. Published messages go to `push_sender`; the end of either connection cancels
    /// `closed`.
    pub(super) async fn open(
        endpoint: Endpoint,
        push_sender: &PushSender,
        closed: &CancellationToken,
    ) -> Result<Self, RedisFault> {
        let on_excess = |has_pubsub| {
            let push_sender = push_sender.clone();
            move |cause| push_sender.on_reply_excess(cause, has_pubsub)
        };
        let on_push = {
            let push_sender = push_sender.clone();
            let closed = closed.clone();
            move |push| push_sender.accept(push, &closed)
        };
        let protocol = endpoint.connect(REPLY_LIMITS, on_push, on_excess(true)).await?;
        let end = closed.clone();
        // This connection subscribes to nothing, so a push says that it has ended.
        let datasets =
            endpoint.connect(DATASET_REPLY_LIMITS, move |_| end.cancel(), on_excess(false)).await?;
        Ok(Self {
            endpoint,
            push_sender: push_sender.clone(),
            protocol,
            datasets,
            closed: closed.clone(),
        })
    }

    /// Subscribes to a domain's published entries and hints.
    pub(super) async fn subscribe(&self, invalidations: &str, hints: &str) -> RedisResult<()> {
        self.unless_closed(self.protocol.subscribe(&[invalidations, hints]).await)
    }

    /// The same on a Cluster, where a script publishes to the subscribers of the slot if Redis has
    /// sharded pub/sub; hints may come either way.
    pub(super) async fn subscribe_to_shard(
        &self,
        invalidations: &str,
        hints: &str,
    ) -> RedisResult<()> {
        // One channel a command: each is confirmed by itself, and the client library expects one
        // reply.
        match self.send(redis::cmd("SSUBSCRIBE").arg(invalidations)).await {
            Ok(_) => self.send(redis::cmd("SSUBSCRIBE").arg(hints)).await?,
            // There is no such command before 7.0.
            Err(error) if error.code() == Some("ERR") => {
                return self.subscribe(invalidations, hints).await;
            }
            Err(error) => return Err(error),
        };
        self.unless_closed(self.protocol.subscribe(&[hints]).await)
    }

    /// Ends the subscription that [`Self::subscribe`] began.
    pub(super) async fn unsubscribe(&self, invalidations: &str, hints: &str) -> RedisResult<()> {
        self.protocol.unsubscribe(&[invalidations, hints]).await
    }

    /// Sends one command on the protocol's connection.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        self.unless_closed(command.query_async(&mut self.protocol.clone()).await)
    }

    /// Passes a reply on, if the connections have not been closed: a reply after that may belong to
    /// another call.
    fn unless_closed<T>(&self, answered: RedisResult<T>) -> RedisResult<T> {
        if self.closed.is_cancelled() {
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into());
        }
        answered
    }

    /// Runs one script. `after_ask`: the server does not own the slot yet; the owner redirected the
    /// call to it with `ASK`.
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
        let push_sender = self.push_sender.clone();
        let limits = ReplyLimits { bytes: bytes + BESIDE_BYTES, ..DATASET_REPLY_LIMITS };
        let connected = self
            .endpoint
            .connect(limits, |_| {}, move |cause| push_sender.on_reply_excess(cause, false))
            .await;
        connected.map_err(|fault| std::io::Error::other(fault).into())
    }

    /// Runs several scripts in one round trip.
    pub(super) async fn run_all(
        &self,
        invocations: &[ScriptInvocation<'_>],
    ) -> Result<Vec<Result<ScriptReply, RedisFault>>, RedisFault> {
        let mut pipeline = redis::pipe();
        for invocation in invocations {
            pipeline.add_command(invocation.evalsha());
        }
        let values = pipeline.ignore_errors().query_async(&mut self.protocol.clone()).await;
        let values: Vec<RedisResult<Value>> = self.unless_closed(values)?;
        let mut answers = Vec::with_capacity(invocations.len());
        for (value, invocation) in values.into_iter().zip(invocations) {
            answers.push(match value {
                Err(error) if is_unknown_script(&error) => {
                    parse_reply(self.run(ConnectionKind::Protocol, invocation, false).await?)
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
    after_ask: bool,
) -> RedisResult<Value> {
    if !after_ask {
        return command.query_async(connection).await;
    }
    // The server takes the command right after `ASKING`, so both are written as one pipeline.
    let mut pipeline = redis::pipe();
    pipeline.cmd("ASKING").add_command(command.clone()).ignore_errors();
    let mut values: Vec<RedisResult<Value>> = pipeline.query_async(connection).await?;
    values.pop().unwrap_or(Ok(Value::Nil))
}

fn is_unknown_script(error: &redis::RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}
