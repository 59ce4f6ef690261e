//! One connection: opened, proven, and driven only while it is used.
//!
//! The driver's two halves are polled by whoever reads: no task of its own runs beside it, and
//! dropping the future of a read closes the connection with everything that was under way on it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};

use futures_util::future::poll_immediate;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, Error, NoTls};
use tower_service::Service as _;

use super::inbound::{InboundBudget, InboundStream};
use super::sql_error::{connect_error, connection_error};
use crate::domain::PostgresDatabase;
use crate::identity::{Connector, MutualConnection};
use crate::resources::WorkMemory;
use crate::sources::Reason;
use crate::sources::attempt_error::AttemptError;

/// What a server may send until it takes statements: parameters, notices, its authentication.
const STARTUP_BYTES_MAX: u64 = 64 << 10;
/// What a server may send on one connection that is no answer, in all: the driver keeps some of
/// it.
const UNEXPECTED_BYTES_MAX: u64 = 256 << 10;

/// A connection is not kept once it has read a message of more bytes: the driver's buffer stays
/// twice as large.
const KEPT_BUFFER_BYTES_MAX: u64 = 512 << 10;

type Wire = InboundStream<TokioIo<MutualConnection>>;

/// A connection that takes statements.
pub(super) struct PostgresConnection {
    client: Client,
    wire: Connection<Wire, NoTlsStream>,
    budget: InboundBudget,
    unexpected_bytes: u64,
    /// The largest message of it that was read: its buffer stays as large.
    large_bytes: u64,
    pub(super) opened_at: Instant,
}

/// Why no connection was opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Nothing of the protocol was spoken but the wish for TLS.
    Unopened(AttemptError),
    /// The server did not let us in.
    Refused(Error),
}

impl OpenError {
    /// The error of the attempt that needed the connection.
    pub(super) fn into_attempt_error(self) -> AttemptError {
        match self {
            Self::Unopened(error) => error,
            Self::Refused(error) => connect_error(&error),
        }
    }
}

impl std::fmt::Debug for PostgresConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresConnection")
            .field("opened_at", &self.opened_at)
            .finish_non_exhaustive()
    }
}

impl PostgresConnection {
    /// Opens one. TLS and its proof come first: without them the server reads nothing of ours but
    /// the wish for TLS.
    pub(super) async fn open(
        mut connector: Connector,
        database: &PostgresDatabase,
    ) -> Result<Self, OpenError> {
        let uri = database.origin().ok_or_else(|| {
            let detail = "its URL cannot be put together";
            OpenError::Unopened(AttemptError::inconclusive(Reason::Connect, detail))
        })?;
        let connection = connector.call(uri).await;
        let connection =
            connection.map_err(|error| OpenError::Unopened(AttemptError::from_connect(error)))?;
        let budget = InboundBudget::new(STARTUP_BYTES_MAX);
        let stream = InboundStream::new(TokioIo::new(connection), budget.clone());
        let mut config = Config::new();
        config.user(&*database.user).dbname(&*database.name).application_name("bfb");
        // Our connector has done it, or there is none.
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        if let Some(password) = &database.password {
            config.password(&*password.0);
        }
        let opened = config.connect_raw(stream, NoTls).await;
        let (client, wire) = opened.map_err(OpenError::Refused)?;
        let opened_at = Instant::now();
        let unexpected_bytes = 0;
        Ok(Self { client, wire, budget, unexpected_bytes, large_bytes: 0, opened_at })
    }

    /// Runs `work`, which uses the client, and moves the bytes of the connection meanwhile. Returns
    /// the connection's error if it ends first. Large messages are read in the memory of `memory`,
    /// which has them back when this ends.
    pub(super) async fn drive<T>(
        &mut self,
        memory: &WorkMemory,
        work: impl AsyncFnOnce(&Client) -> T,
    ) -> Result<T, AttemptError> {
        let mut buffered = BufferedMessages { memory, bytes: 0 };
        let mut work = pin!(work(&self.client));
        let error = tokio::select! {
            // The work comes first: what it sends is then written at once.
            biased;
            result = &mut work => {
                self.large_bytes = self.large_bytes.max(buffered.bytes / 2);
                return Ok(result);
            }
            error = wait_for_end(&mut self.wire) => error,
            error = buffered.admit_all(&self.budget) => error,
        };
        // It takes what had come before the end, and the end itself for no error of its own.
        let _ = poll_immediate(work).await;
        Err(error)
    }

    /// Sets how much the answers to come may have.
    pub(super) fn expect_bytes(&self, bytes: u64) {
        self.budget.set(bytes);
    }

    /// Notes that answers have come, which took `used` of the `expected` bytes. Returns whether the
    /// connection may be used again.
    pub(super) fn settle_bytes(&mut self, expected: u64, used: u64) -> bool {
        let received = expected.saturating_sub(self.budget.left());
        self.unexpected_bytes += received.saturating_sub(used);
        self.budget.set(STARTUP_BYTES_MAX);
        self.unexpected_bytes <= UNEXPECTED_BYTES_MAX && self.large_bytes <= KEPT_BUFFER_BYTES_MAX
    }

    /// Whether the server has ended it, or sent what nobody asked for.
    pub(super) fn is_ended(&mut self, cx: &mut Context<'_>) -> bool {
        self.wire.poll_message(cx).is_ready()
    }
}

/// The memory of the large messages that the driver holds while they arrive.
struct BufferedMessages<'a> {
    memory: &'a WorkMemory,
    bytes: u64,
}

impl BufferedMessages<'_> {
    /// Admits each large message once there is memory for it; one at a time is held. Returns if
    /// there is none.
    async fn admit_all(&mut self, budget: &InboundBudget) -> AttemptError {
        loop {
            // The driver's buffer doubles as it grows.
            let bytes = 2 * budget.large_message().await;
            let more = bytes.saturating_sub(self.bytes);
            if self.memory.take(more).await.is_err() {
                return AttemptError::no_memory();
            }
            self.bytes += more;
            budget.admit();
        }
    }
}

impl Drop for BufferedMessages<'_> {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes);
    }
}

/// Moves bytes until the connection ends. Notices are nobody's: a bound on the bytes is theirs.
async fn wait_for_end(wire: &mut Connection<Wire, NoTlsStream>) -> AttemptError {
    loop {
        match poll_fn(|cx| wire.poll_message(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return connection_error(&error),
            None => return AttemptError::of_lost_connection(),
        }
    }
}

/// Polls `connection` once, to learn whether it has ended.
pub(super) async fn has_ended(connection: &mut PostgresConnection) -> bool {
    poll_fn(|cx| Poll::Ready(connection.is_ended(cx))).await
}
