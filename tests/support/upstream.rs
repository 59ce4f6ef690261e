//! A real HTTP server on a loopback port that answers as the test says, and counts its requests.
//!
//! HTTP/1.1 and HTTP/2, plain or TLS. It stops, with all its connections, when it is dropped.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ETAG, HeaderName, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::client::TEST_TIMEOUT;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedRequest {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// Which connection it came on, from 1.
    pub(crate) connection: usize,
}

impl ReceivedRequest {
    /// A header's value, empty where it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// An answer, and its faults.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    feed: ReplyBody,
    after: Duration,
    gate: Option<watch::Receiver<bool>>,
    never: bool,
    hang_up: bool,
}

#[derive(Debug, Clone)]
enum ReplyBody {
    Whole(Bytes),
    /// These bytes, then, after so many polls that they are on their way, the connection breaks.
    Cut(Bytes, u8),
    /// These bytes, then nothing more, with the connection open.
    Stuck(Bytes),
    /// White space without end.
    Endless,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap();
        let headers = HeaderMap::new();
        let feed = ReplyBody::Whole(Bytes::new());
        let after = Duration::ZERO;
        Self { status, headers, feed, after, gate: None, never: false, hang_up: false }
    }

    /// A 200 with this body, as `application/json`, even if it is none.
    pub(crate) fn json(body: impl Into<Bytes>) -> Self {
        let reply = Self::status(200).header("content-type", "application/json");
        Self { feed: ReplyBody::Whole(body.into()), ..reply }
    }

    /// Never answers.
    pub(crate) fn never() -> Self {
        Self { never: true, ..Self::status(200) }
    }

    /// Closes the connection instead of answering.
    pub(crate) fn hang_up() -> Self {
        Self { hang_up: true, ..Self::status(200) }
    }

    /// Adds a header, or one more of its name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers
            .append(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
        self
    }

    /// Sets the content type.
    pub(crate) fn typed(mut self, value: &str) -> Self {
        self.headers.insert("content-type", value.parse().unwrap());
        self
    }

    /// Has this `ETag` (quotes and `W/` included), and answers 304 to who asks with it.
    pub(crate) fn etag(self, tag: &str) -> Self {
        self.header("etag", tag)
    }

    pub(crate) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// Answers once the gate is open.
    pub(crate) fn held_until(self, gate: watch::Receiver<bool>) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// Breaks the connection off behind the body.
    pub(crate) fn cut(self) -> Self {
        Self { feed: ReplyBody::Cut(self.body(), 8), ..self }
    }

    /// Sends nothing more behind the body, and keeps the connection.
    pub(crate) fn stuck(self) -> Self {
        Self { feed: ReplyBody::Stuck(self.body()), ..self }
    }

    pub(crate) fn endless(self) -> Self {
        Self { feed: ReplyBody::Endless, ..self }
    }

    fn body(&self) -> Bytes {
        match &self.feed {
            ReplyBody::Whole(body) | ReplyBody::Cut(body, _) | ReplyBody::Stuck(body) => {
                body.clone()
            }
            ReplyBody::Endless => Bytes::new(),
        }
    }

    fn into_response(self, request_headers: &HeaderMap) -> Response<ReplyBody> {
        let confirmed = self
            .headers
            .get(ETAG)
            .is_some_and(|tag| request_headers.get(IF_NONE_MATCH) == Some(tag));
        let mut response =
            Response::new(if confirmed { ReplyBody::Whole(Bytes::new()) } else { self.feed });
        *response.status_mut() = if confirmed { StatusCode::NOT_MODIFIED } else { self.status };
        *response.headers_mut() = self.headers;
        response
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let body = match this {
            Self::Endless => {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 16 * 1024])))));
            }
            Self::Whole(body) | Self::Cut(body, _) | Self::Stuck(body) => std::mem::take(body),
        };
        if !body.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(body))));
        }
        match this {
            Self::Whole(_) | Self::Endless => Poll::Ready(None),
            Self::Cut(_, polls) if *polls > 0 => {
                *polls -= 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Cut(..) => Poll::Ready(Some(Err(io::Error::other("cut by the test")))),
            // Nobody wakes it, which is the point.
            Self::Stuck(_) => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

type Handler = Arc<dyn Fn(&ReceivedRequest) -> Reply + Send + Sync>;

enum Script {
    /// One after the other; the last stays.
    Queue(VecDeque<Reply>),
    Handler(Handler),
}

struct State {
    scripts: Mutex<HashMap<String, Script>>,
    seen: watch::Sender<Vec<ReceivedRequest>>,
    connections: watch::Sender<usize>,
    closed: watch::Sender<usize>,
    forgets: AtomicBool,
}

/// The server.
pub(crate) struct Upstream {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    server: JoinHandle<()>,
}

impl Upstream {
    /// Over `http://`.
    pub(crate) async fn plain() -> Self {
        Self::start(None).await
    }

    /// Over `https://`, as `config` says.
    pub(crate) async fn tls(config: Arc<rustls::ServerConfig>) -> Self {
        Self::start(Some(TlsAcceptor::from(config))).await
    }

    /// Answers every connection's first request with these bytes and closes it.
    pub(crate) async fn raw(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let (listener, address, state) = Self::bind().await;
        let accepted = Arc::clone(&state);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                accepted.connections.send_modify(|count| *count += 1);
                connections.spawn(answer_raw(stream, bytes.clone()));
            }
        });
        Self { address, scheme: "http", state, server }
    }

    async fn start(tls: Option<TlsAcceptor>) -> Self {
        let (listener, address, state) = Self::bind().await;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = tokio::spawn(accept(listener, tls, Arc::clone(&state)));
        Self { address, scheme, state, server }
    }

    async fn bind() -> (TcpListener, SocketAddr, Arc<State>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = watch::Sender::new(0);
        let closed = watch::Sender::new(0);
        let scripts = Mutex::default();
        let seen = watch::Sender::new(Vec::new());
        let forgets = AtomicBool::new(false);
        let state = State { scripts, seen, connections, closed, forgets };
        (listener, address, Arc::new(state))
    }

    /// Its origin by address.
    pub(crate) fn origin(&self) -> Uri {
        format!("{}://{}", self.scheme, self.address).parse().unwrap()
    }

    /// Its origin by another name, such as `localhost`.
    pub(crate) fn origin_as(&self, host: &str) -> Uri {
        format!("{}://{host}:{}", self.scheme, self.address.port()).parse().unwrap()
    }

    /// Answers a target (path and query, or the path alone) with these, one after the other; the
    /// last stays.
    pub(crate) fn answers(&self, target: &str, replies: impl IntoIterator<Item = Reply>) {
        let queue = Script::Queue(replies.into_iter().collect());
        self.state.scripts.lock().unwrap().insert(target.to_owned(), queue);
    }

    /// Answers a path with what `handler` says.
    pub(crate) fn handles(
        &self,
        path: &str,
        handler: impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static,
    ) {
        self.state
            .scripts
            .lock()
            .unwrap()
            .insert(path.to_owned(), Script::Handler(Arc::new(handler)));
    }

    /// From now on what is asked is answered and not remembered.
    pub(crate) fn forget(&self) {
        self.state.forgets.store(true, Ordering::Relaxed);
    }

    /// What was asked so far.
    pub(crate) fn received(&self) -> Vec<ReceivedRequest> {
        self.state.seen.borrow().clone()
    }

    /// Waits until `count` requests have come.
    pub(crate) async fn requests(&self, count: usize) -> Vec<ReceivedRequest> {
        let mut seen = self.state.seen.subscribe();
        let reached =
            tokio::time::timeout(TEST_TIMEOUT, seen.wait_for(|seen| seen.len() >= count)).await;
        reached
            .unwrap_or_else(|_| panic!("{} of {count} requests came", self.received().len()))
            .unwrap()
            .clone()
    }

    /// Waits until `count` connections that requests could come on have ended.
    pub(crate) async fn closed(&self, count: usize) {
        let mut closed = self.state.closed.subscribe();
        let reached =
            tokio::time::timeout(TEST_TIMEOUT, closed.wait_for(|closed| *closed >= count)).await;
        assert!(reached.is_ok(), "fewer than {count} connections ended");
    }

    /// How many connections were opened, whether a request came on them or not.
    pub(crate) fn connections(&self) -> usize {
        *self.state.connections.borrow()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let mut number = 0;
        state.connections.send_modify(|count| {
            *count += 1;
            number = *count;
        });
        let tls = tls.clone();
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let Some(tls) = tls else { return serve(stream, state, number).await };
            // A handshake that fails is the client's to report.
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, state, number).await;
            }
        });
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    state: Arc<State>,
    connection: usize,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move { state.answer(&request, connection).await }
    });
    // A body that is cut off ends in an error here, as it should.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    state.closed.send_modify(|count| *count += 1);
}

impl State {
    async fn answer(
        &self,
        request: &Request<Incoming>,
        connection: usize,
    ) -> io::Result<Response<ReplyBody>> {
        let seen = ReceivedRequest {
            method: request.method().clone(),
            target: request.uri().path_and_query().unwrap().to_string(),
            version: request.version(),
            headers: request.headers().clone(),
            connection,
        };
        let reply = self.reply(&seen, request.uri().path());
        if !self.forgets.load(Ordering::Relaxed) {
            self.seen.send_modify(|all| all.push(seen));
        }
        if reply.never {
            std::future::pending::<()>().await;
        }
        if let Some(mut gate) = reply.gate.clone() {
            // A gate that is gone stays as it was.
            if gate.wait_for(|open| *open).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        // Not a wait for something to happen: a slow upstream is what is asked for.
        tokio::time::sleep(reply.after).await;
        if reply.hang_up {
            Err(io::Error::other("hung up by the test"))
        } else {
            Ok(reply.into_response(request.headers()))
        }
    }

    fn reply(&self, seen: &ReceivedRequest, path: &str) -> Reply {
        let mut scripts = self.scripts.lock().unwrap();
        let place = if scripts.contains_key(&seen.target) { &seen.target } else { path };
        match scripts.get_mut(place) {
            None => Reply::status(404),
            Some(Script::Handler(handler)) => handler(seen),
            Some(Script::Queue(queue)) if queue.len() > 1 => queue.pop_front().unwrap(),
            Some(Script::Queue(queue)) => queue.front().unwrap().clone(),
        }
    }
}

async fn answer_raw(mut stream: TcpStream, bytes: Bytes) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    // Whether the client takes all of it is the client's affair.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}
