//! Reads collections: a task asks the driver, and its reader makes JSON of what comes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use mongodb::bson::{Document, RawBsonRef, RawDocument, doc};
use mongodb::error::Error;
use mongodb::options::ReadConcern;
use mongodb::raw_batch_cursor::RawBatch;
use mongodb::{ClientSession, Collection};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};

use super::client::MongoClient;
use super::deployment::DeploymentKind;
use super::json::{JsonError, write_document};
use super::mongo_error::query_error;
use super::pool::MongoPool;
use super::query::{BoundFind, BoundQuery, BoundRead};
use crate::domain::{MongoRead, MongoSource, Rows};
use crate::resources::WorkMemory;
use crate::sources::Reason;
use crate::sources::attempt_error::AttemptError;
use crate::sources::part_text::{PartOutcome, PartText};

/// How long the driver may go on behind the end of a query, whose time the server has been told. A
/// server that says nothing would otherwise keep its place for as long as TCP does.
const OVERTIME_MAX: Duration = Duration::from_secs(1);

/// One collection that is read with others.
#[derive(Debug, Clone, Copy)]
pub(in crate::sources) struct CollectionRead<'a> {
    pub(in crate::sources) source: &'a MongoSource,
    pub(in crate::sources) values: &'a [String],
    /// The largest part, in bytes.
    pub(in crate::sources) bytes_max: usize,
    /// How long it may take, from when it is its turn.
    pub(in crate::sources) timeout: Option<Duration>,
    /// When its part must be there in any case.
    pub(in crate::sources) deadline: Instant,
    pub(in crate::sources) memory: &'a WorkMemory,
}

impl CollectionRead<'_> {
    /// When it ends, if it is its turn at `start`.
    fn end(&self, start: Instant) -> Instant {
        self.timeout.map_or(self.deadline, |timeout| self.deadline.min(start + timeout))
    }
}

/// What comes from the task that asks the driver. The queries are asked in their order.
enum DriverMessage {
    /// The queries are asked; whether in one snapshot.
    Began { in_snapshot: bool },
    /// Documents of the query that is asked.
    Batch(RawBatch),
    /// All of its documents have come.
    End,
    /// It failed, and none behind it is asked.
    Failed(Error),
}

impl MongoPool {
    /// Reads collections, in one snapshot where there are several and the servers can, and says
    /// whether all of it is of one instant.
    pub(in crate::sources) async fn read<'a>(
        &self,
        slot: OwnedSemaphorePermit,
        reads: &[CollectionRead<'a>],
    ) -> (Vec<PartOutcome<'a>>, bool) {
        let count = reads.len();
        let mut reader = GroupReader { outcomes: Vec::with_capacity(count), in_snapshot: false };
        let is_complete = match self.start(slot, reads) {
            Ok(mut driver) => reader.read_all(&mut driver, reads).await,
            Err(error) => {
                reader.outcomes.push(PartOutcome::Failed(error));
                false
            }
        };
        let at_one_instant = is_complete && (reader.in_snapshot || is_one_document(reads));
        let mut outcomes = reader.outcomes;
        outcomes.resize_with(count, || PartOutcome::Unreached);
        (outcomes, at_one_instant)
    }

    /// Starts the task that asks the driver.
    fn start(
        &self,
        slot: OwnedSemaphorePermit,
        reads: &[CollectionRead<'_>],
    ) -> Result<QueryRun, AttemptError> {
        let client = self.client()?;
        let bind = |read: &CollectionRead<'_>| {
            BoundQuery::new(read.source, read.values, read.timeout, read.deadline)
        };
        let queries: Option<Vec<BoundQuery>> = reads.iter().map(bind).collect();
        let queries = queries.ok_or_else(|| {
            AttemptError::inconclusive(Reason::MissingReference, "a value does not convert")
        })?;
        let started = Instant::now();
        let deadline = queries.iter().map(|query| query.deadline).max().unwrap_or(started);
        let end = deadline + OVERTIME_MAX;
        let (sender, messages) = mpsc::channel(1);
        let asker = DriverTask {
            database: self.database.name.to_string(),
            client: Arc::clone(&client),
            sender,
        };
        tokio::spawn(async move {
            // A driver's future that is dropped here closes its connection.
            let _ = timeout_at(end, asker.ask_all(queries)).await;
            drop(slot);
        });
        Ok(QueryRun { client, messages, turn: started })
    }
}

/// Whether it is one document, which the server reads whole.
fn is_one_document(reads: &[CollectionRead<'_>]) -> bool {
    let [CollectionRead { source, .. }] = reads else { return false };
    source.rows == Rows::One && matches!(source.read, MongoRead::Find(_))
}

/// The task that asks the driver, as its reader sees it. Dropping it ends the task at its next
/// batch, or soon after its time.
struct QueryRun {
    client: Arc<MongoClient>,
    messages: mpsc::Receiver<DriverMessage>,
    /// Since when it is the turn of the query that is asked.
    turn: Instant,
}

impl QueryRun {
    /// The next message, until the end of the query that is asked.
    async fn next(&mut self, end: Instant) -> Result<DriverMessage, AttemptError> {
        match timeout_at(end, self.messages.recv()).await {
            Ok(Some(DriverMessage::Failed(error))) => Err(self.client.explained(&error)),
            Ok(Some(message)) => Ok(message),
            Ok(None) => {
                let detail = "its driver ended without an answer";
                Err(AttemptError::of_unhealthy_source(Reason::Status, detail))
            }
            Err(_) => Err(self.client.deployment.trouble().unwrap_or_else(|| {
                let had = end.saturating_duration_since(self.turn);
                let detail = format!("no documents within {} ms", had.as_millis());
                AttemptError::of_unhealthy_source(Reason::Timeout, detail)
            })),
        }
    }
}

impl MongoClient {
    /// The meaning of an error; where no server could be asked, of the one that its monitors met.
    pub(super) fn explained(&self, error: &Error) -> AttemptError {
        let is_selection =
            matches!(&*error.kind, mongodb::error::ErrorKind::ServerSelection { .. });
        let trouble = if is_selection { self.deployment.trouble() } else { None };
        trouble.unwrap_or_else(|| query_error(error))
    }
}

/// The parts that have come so far.
struct GroupReader<'a> {
    outcomes: Vec<PartOutcome<'a>>,
    in_snapshot: bool,
}

impl<'a> GroupReader<'a> {
    /// Reads one after the other, until one fails; returns whether none did.
    async fn read_all(&mut self, driver: &mut QueryRun, reads: &[CollectionRead<'a>]) -> bool {
        for read in reads {
            let outcome = self.read_one(driver, read).await.unwrap_or_else(PartOutcome::Failed);
            let failed = matches!(outcome, PartOutcome::Failed(_));
            self.outcomes.push(outcome);
            driver.turn = Instant::now();
            if failed {
                return false;
            }
        }
        true
    }

    async fn read_one(
        &mut self,
        driver: &mut QueryRun,
        read: &CollectionRead<'a>,
    ) -> Result<PartOutcome<'a>, AttemptError> {
        let mut text = PartText::new(read.source.rows, read.bytes_max, read.memory);
        let mut json = Vec::new();
        let end = read.end(driver.turn);
        loop {
            match driver.next(end).await? {
                DriverMessage::Began { in_snapshot } => self.in_snapshot = in_snapshot,
                DriverMessage::End => return text.finish().await,
                DriverMessage::Failed(error) => return Err(query_error(&error)),
                DriverMessage::Batch(batch) => {
                    // JSON is about as long as BSON.
                    text.reserve(batch.as_raw_document().as_bytes().len()).await?;
                    for document in batch.doc_slices().map_err(|error| query_error(&error))? {
                        let document = document.ok().and_then(RawBsonRef::as_document);
                        add_document(document.ok_or_else(no_bson_error)?, &mut json, &mut text)
                            .await?;
                    }
                }
            }
        }
    }
}

async fn add_document(
    document: &RawDocument,
    json: &mut Vec<u8>,
    text: &mut PartText<'_>,
) -> Result<(), AttemptError> {
    text.count_row()?;
    // Many small documents are no long stretch on the event loop.
    tokio::task::consume_budget().await;
    json.clear();
    match write_document(document, json, text.room()) {
        Ok(()) => text.push(json).await,
        Err(JsonError::TooLarge) => Err(text.too_large_error()),
        Err(JsonError::NoForm(detail)) => Err(AttemptError::answered(Reason::NotJson, detail)),
    }
}

fn no_bson_error() -> AttemptError {
    AttemptError::answered(Reason::NotJson, "has what is no BSON")
}

/// Asks the driver.
struct DriverTask {
    client: Arc<MongoClient>,
    database: String,
    sender: mpsc::Sender<DriverMessage>,
}

/// Nobody reads any more, or the failure has been sent.
struct Over;

impl DriverTask {
    /// Asks the queries in their order, until one fails or nobody reads any more.
    async fn ask_all(self, queries: Vec<BoundQuery>) -> Result<(), Over> {
        let kind = self.deployment_kind().await?;
        let in_snapshot = queries.len() > 1 && self.client.deployment.takes_snapshots();
        let mut session = if in_snapshot { Some(self.snapshot_session().await?) } else { None };
        self.send(DriverMessage::Began { in_snapshot }).await?;
        for query in queries {
            self.ask(query, kind, session.as_mut()).await?;
            self.send(DriverMessage::End).await?;
        }
        Ok(())
    }

    /// What the deployment is: known once a server has answered.
    async fn deployment_kind(&self) -> Result<DeploymentKind, Over> {
        if let Some(kind) = self.client.deployment.kind() {
            return Ok(kind);
        }
        let database = self.client.client.database(&self.database);
        self.taken(database.run_command(doc! {"ping": 1}).await).await?;
        Ok(self.client.deployment.kind().unwrap_or(DeploymentKind::ReplicaSet))
    }

    async fn snapshot_session(&self) -> Result<ClientSession, Over> {
        self.taken(self.client.client.start_session().snapshot(true).await).await
    }

    async fn ask(
        &self,
        query: BoundQuery,
        kind: DeploymentKind,
        session: Option<&mut ClientSession>,
    ) -> Result<(), Over> {
        let database = self.client.client.database(&self.database);
        let collection: Collection<Document> = database.collection(&query.collection);
        let concern = match kind {
            // It has all that there is.
            DeploymentKind::Standalone => ReadConcern::local(),
            DeploymentKind::ReplicaSet | DeploymentKind::Sharded => ReadConcern::majority(),
        };
        let (max_time, batch_size) = (query.max_time(), query.batch_size);
        match query.read {
            BoundRead::Find(bound) => {
                let BoundFind { filter, sort, projection, limit } = *bound;
                let mut find = collection.find(filter).limit(limit.into());
                find = find.max_time(max_time).batch_size(batch_size);
                find = if let Some(sort) = sort { find.sort(sort) } else { find };
                find = if let Some(it) = projection { find.projection(it) } else { find };
                if let Some(session) = session {
                    let cursor = find.session(&mut *session).batch().await;
                    let mut cursor = self.taken(cursor).await?;
                    return self.hand_over(cursor.stream(session)).await;
                }
                let cursor = find.read_concern(concern).batch().await;
                self.hand_over(self.taken(cursor).await?).await
            }
            BoundRead::Aggregate(stages) => {
                let aggregate = collection.aggregate(stages);
                let aggregate = aggregate.max_time(max_time).batch_size(batch_size);
                if let Some(session) = session {
                    let cursor = aggregate.session(&mut *session).batch().await;
                    let mut cursor = self.taken(cursor).await?;
                    return self.hand_over(cursor.stream(session)).await;
                }
                let cursor = aggregate.read_concern(concern).batch().await;
                self.hand_over(self.taken(cursor).await?).await
            }
        }
    }

    /// Hands over the batches as they are taken: the next one is read while one is looked at.
    async fn hand_over(
        &self,
        mut batches: impl futures_util::Stream<Item = Result<RawBatch, Error>> + Unpin,
    ) -> Result<(), Over> {
        loop {
            let place = self.sender.reserve().await.map_err(|_| Over)?;
            match batches.next().await {
                Some(Ok(batch)) => place.send(DriverMessage::Batch(batch)),
                Some(Err(error)) => {
                    place.send(DriverMessage::Failed(error));
                    return Err(Over);
                }
                None => return Ok(()),
            }
        }
    }

    /// The result of a call; its error is sent.
    async fn taken<T>(&self, result: Result<T, Error>) -> Result<T, Over> {
        match result {
            Ok(value) => Ok(value),
            Err(error) => {
                self.send(DriverMessage::Failed(error)).await?;
                Err(Over)
            }
        }
    }

    async fn send(&self, message: DriverMessage) -> Result<(), Over> {
        self.sender.send(message).await.map_err(|_| Over)
    }
}
