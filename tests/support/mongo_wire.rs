//! A server that speaks as much of `MongoDB`'s protocol as a driver asks of one that it only reads
//! from, without TLS: it notes every query as it came, and answers with documents of the test's.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use mongodb::bson::{Document, RawDocumentBuf, Timestamp, doc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// The code of a message, and the bytes of its header.
const OP_MSG: i32 = 2013;
const HEADER_BYTES: usize = 16;
/// The instant of every snapshot.
pub(crate) const SNAPSHOT: Timestamp = Timestamp { time: 1_700_000_000, increment: 7 };

/// The documents of a query's answer.
type Answer = dyn Fn(&Document) -> Vec<Document> + Send + Sync;

/// The server.
pub(crate) struct MongoWire {
    addr: SocketAddr,
    queries: Arc<Mutex<Vec<Document>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl MongoWire {
    /// The primary of a replica set.
    pub(crate) async fn replica_set(
        answer: impl Fn(&Document) -> Vec<Document> + Send + Sync + 'static,
    ) -> Self {
        Self::start(true, Arc::new(answer)).await
    }

    /// A server that belongs to none, and has no sessions.
    pub(crate) async fn standalone(
        answer: impl Fn(&Document) -> Vec<Document> + Send + Sync + 'static,
    ) -> Self {
        Self::start(false, Arc::new(answer)).await
    }

    async fn start(is_replica_set: bool, answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let queries = Arc::new(Mutex::new(Vec::new()));
        let server = WireServer { addr, is_replica_set, answer, queries: Arc::clone(&queries) };
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        Self { addr, queries, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Its URL, for a sidecar with `--insecure-upstreams`.
    pub(crate) fn url(&self) -> String {
        format!("mongodb://{}/shop?tls=false", self.addr)
    }

    /// The queries that have come, as they came, in their order; each is told once.
    pub(crate) fn take_queries(&self) -> Vec<Document> {
        std::mem::take(&mut self.queries.lock().unwrap())
    }
}

#[derive(Clone)]
struct WireServer {
    addr: SocketAddr,
    is_replica_set: bool,
    answer: Arc<Answer>,
    queries: Arc<Mutex<Vec<Document>>>,
}

impl WireServer {
    async fn serve(self, mut stream: TcpStream) {
        while let Some((id, command)) = read_message(&mut stream).await {
            let reply = self.reply(&command);
            let body = RawDocumentBuf::try_from(&reply).unwrap();
            let length = HEADER_BYTES + 5 + body.as_bytes().len();
            let mut message = Vec::with_capacity(length);
            for number in [i32::try_from(length).unwrap(), 1, id, OP_MSG, 0] {
                message.extend_from_slice(&number.to_le_bytes());
            }
            message.push(0);
            message.extend_from_slice(body.as_bytes());
            if stream.write_all(&message).await.is_err() {
                return;
            }
        }
    }

    fn reply(&self, command: &Document) -> Document {
        let name = command.keys().next().unwrap().as_str();
        match name {
            "hello" | "isMaster" | "ismaster" => self.greeting(),
            "find" | "aggregate" => {
                self.queries.lock().unwrap().push(command.clone());
                let namespace = format!("shop.{}", command.get_str(name).unwrap());
                let mut cursor =
                    doc! {"id": 0_i64, "ns": namespace, "firstBatch": (self.answer)(command)};
                let concern = command.get_document("readConcern").cloned().unwrap_or_default();
                if concern.get_str("level").is_ok_and(|level| level == "snapshot") {
                    cursor.insert("atClusterTime", SNAPSHOT);
                }
                doc! {"cursor": cursor, "ok": 1}
            }
            _ => doc! {"ok": 1},
        }
    }

    fn greeting(&self) -> Document {
        let mut greeting = doc! {
            "ok": 1, "helloOk": true, "ismaster": true, "isWritablePrimary": true,
            "minWireVersion": 0, "maxWireVersion": 21, "maxBsonObjectSize": 16 << 20,
            "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000,
        };
        if self.is_replica_set {
            let addr = self.addr.to_string();
            greeting.extend(doc! {
                "setName": "rs", "hosts": [&addr], "me": &addr, "primary": &addr,
                "logicalSessionTimeoutMinutes": 30,
            });
        }
        greeting
    }
}

/// The number of a message, and its command; none at the end of the connection.
async fn read_message(stream: &mut TcpStream) -> Option<(i32, Document)> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await.ok()?;
    let number = |at: usize| i32::from_le_bytes(header[at..at + 4].try_into().unwrap());
    assert_eq!(number(12), OP_MSG, "another kind of message");
    let mut body = vec![0; usize::try_from(number(0)).unwrap() - HEADER_BYTES];
    stream.read_exact(&mut body).await.ok()?;
    // Flags, and the kind of the one section.
    let command = RawDocumentBuf::from_bytes(body[5..].to_vec()).unwrap();
    Some((number(4), Document::try_from(command.as_ref()).unwrap()))
}
