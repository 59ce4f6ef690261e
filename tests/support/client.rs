//! A small HTTP client that sends exactly the bytes it is given: HTTP/1.1, HTTP/2 by prior
//! knowledge, TCP, Unix sockets, raw bytes.
//!
//! [`Consumer`] behaves as a well-made HTTP library does: it keeps its connection, honours
//! `Connection: close` and GOAWAY, and sends a request again only where not a byte of it had left.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::header::{CONNECTION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// How long a test waits for an event that must come.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_mins(1);

/// How often a request that never left is sent on a new connection.
const UNSENT_MAX: usize = 5;

/// A request without or with a body.
pub(crate) type ClientRequest = Request<Full<Bytes>>;

/// The address of a listener.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    Http1,
    Http2,
}

/// `GET path` for `localhost`.
pub(crate) fn get(path: &str) -> ClientRequest {
    ask(Method::GET, path)
}

/// `METHOD path` for `localhost`.
pub(crate) fn ask(method: Method, path: &str) -> ClientRequest {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .body(Full::default())
        .unwrap()
}

/// The same request with one header set.
pub(crate) fn with_header(mut request: ClientRequest, name: &str, value: &str) -> ClientRequest {
    request
        .headers_mut()
        .insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    request
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub(crate) struct ClientResponse {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) version: Version,
}

impl ClientResponse {
    /// A header's value, empty where it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that this is a dataset, and returns it.
    #[track_caller]
    pub(crate) fn dataset(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        self.json()
    }

    /// Asserts that this is `urn:bfb:kind` with everything that `src/serve/problems.md` promises of
    /// each problem.
    #[track_caller]
    pub(crate) fn problem(&self, kind: &str, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.header("cache-control"), "no-store", "{self:?}");
        for absent in ["etag", "bfb-dataset", "age"] {
            assert!(!self.headers.contains_key(absent), "{absent}: {self:?}");
        }
        let retry_after = self
            .headers
            .get("retry-after")
            .map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
        assert_eq!(retry_after.is_some(), status == 503, "{self:?}");
        assert_ne!(retry_after, Some(0), "{self:?}");
        let body = self.json();
        assert_eq!(body["type"], format!("urn:bfb:{kind}"), "{self:?}");
        assert_eq!(body["status"], status, "{self:?}");
        assert!(!body["title"].as_str().unwrap_or_default().is_empty(), "{self:?}");
        let trace = body["trace_id"].as_str().unwrap_or_default();
        assert!(trace.len() == 32 && trace.bytes().all(|b| b.is_ascii_hexdigit()), "{self:?}");
        body
    }

    /// Asserts that this is the problem of a failed dataset, and returns its (source, reason)
    /// pairs.
    #[track_caller]
    pub(crate) fn failed_sources(&self, kind: &str, status: u16) -> Vec<(String, String)> {
        let body = self.problem(kind, status);
        let failed = body["failed"].as_array().unwrap_or_else(|| panic!("no `failed`: {self:?}"));
        let word =
            |failure: &Value, name: &str| failure[name].as_str().unwrap_or_default().to_owned();
        failed
            .iter()
            .map(|failure| {
                assert!(!word(failure, "detail").is_empty(), "{self:?}");
                (word(failure, "source"), word(failure, "reason"))
            })
            .collect()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Not a byte of the request left.
    Unsent(Box<ClientRequest>),
    /// It left, and no whole answer came.
    Failed(String),
}

/// One connection.
pub(crate) struct Connection {
    sender: Sender,
    driver: AbortHandle,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    pub(crate) async fn open(to: &Endpoint, http: HttpVersion) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{to:?}: {error}");
        match to {
            Endpoint::Tcp(address) => {
                Self::over(TcpStream::connect(address).await.map_err(failed)?, http).await
            }
            Endpoint::Unix(path) => {
                Self::over(UnixStream::connect(path).await.map_err(failed)?, http).await
            }
        }
    }

    pub(crate) async fn over(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        http: HttpVersion,
    ) -> Result<Self, String> {
        let io = TokioIo::new(io);
        Ok(match http {
            HttpVersion::Http1 => {
                let (sender, driver) =
                    http1::handshake(io).await.map_err(|error| format!("{error:?}"))?;
                Self { sender: Sender::One(sender), driver: tokio::spawn(driver).abort_handle() }
            }
            HttpVersion::Http2 => {
                let made = http2::handshake(TokioExecutor::new(), io).await;
                let (sender, driver) = made.map_err(|error| format!("{error:?}"))?;
                Self { sender: Sender::Two(sender), driver: tokio::spawn(driver).abort_handle() }
            }
        })
    }

    fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed(),
        }
    }

    /// Sends, and reads the whole answer.
    pub(crate) async fn send(
        &mut self,
        request: ClientRequest,
    ) -> Result<ClientResponse, SendError> {
        let sent = tokio::time::timeout(TEST_TIMEOUT, self.exchange(request)).await;
        sent.unwrap_or_else(|_| {
            Err(SendError::Failed(format!("no answer within {TEST_TIMEOUT:?}")))
        })
    }

    /// Asks for `path` so many times at once over HTTP/2, and passes on each answer that comes.
    pub(crate) async fn at_once(
        &self,
        path: &str,
        times: usize,
        answers: &mpsc::UnboundedSender<ClientResponse>,
    ) {
        let Sender::Two(sender) = &self.sender else { panic!("only over HTTP/2") };
        let mut asked: FuturesUnordered<_> = (0..times)
            .map(|_| {
                let mut sender = sender.clone();
                async move {
                    read_response(sender.send_request(for_http2(get(path))).await.ok()?).await.ok()
                }
            })
            .collect();
        while let Some(answer) = asked.next().await {
            let Some(got) = answer else { continue };
            // The test may have stopped listening.
            let _ = answers.send(got);
        }
    }

    async fn exchange(&mut self, request: ClientRequest) -> Result<ClientResponse, SendError> {
        let sent = match &mut self.sender {
            Sender::One(sender) => match sender.ready().await {
                Ok(()) => sender.try_send_request(request).await.map_err(send_error),
                Err(_) => Err(SendError::Unsent(Box::new(request))),
            },
            Sender::Two(sender) => match sender.ready().await {
                Ok(()) => {
                    let again = request.clone();
                    sender
                        .try_send_request(for_http2(request))
                        .await
                        .map_err(|error| send_error_or_refused(error, again))
                }
                Err(_) => Err(SendError::Unsent(Box::new(request))),
            },
        };
        read_response(sent?).await
    }
}

async fn read_response(response: Response<Incoming>) -> Result<ClientResponse, SendError> {
    let (head, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error| SendError::Failed(format!("the body broke off: {error:?}")))?;
    Ok(ClientResponse {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.to_bytes(),
        version: head.version,
    })
}

fn send_error(mut error: TrySendError<ClientRequest>) -> SendError {
    match error.take_message() {
        Some(request) => SendError::Unsent(Box::new(for_http1(request))),
        None => SendError::Failed(format!("{:?}", error.into_error())),
    }
}

/// A stream above the last one that a GOAWAY names was not processed and may be sent again (RFC
/// 9113 section 6.8). It happens where a request was queued while the GOAWAY came in: the client's
/// library answers the server's ping first.
fn send_error_or_refused(error: TrySendError<ClientRequest>, again: ClientRequest) -> SendError {
    match send_error(error) {
        SendError::Failed(why) if why.contains("GoAway") && why.contains("NO_ERROR") => {
            SendError::Unsent(Box::new(again))
        }
        lost => lost,
    }
}

/// HTTP/2 has `:authority` where HTTP/1.1 has `Host`.
fn for_http2(mut request: ClientRequest) -> ClientRequest {
    if let Some(host) = request.headers_mut().remove(HOST) {
        let target = format!("http://{}{}", host.to_str().unwrap(), request.uri());
        *request.uri_mut() = target.parse().unwrap();
    }
    request
}

fn for_http1(mut request: ClientRequest) -> ClientRequest {
    if let Some(authority) = request.uri().authority().cloned() {
        request.headers_mut().insert(HOST, authority.as_str().parse().unwrap());
        *request.uri_mut() = Uri::from(request.uri().path_and_query().unwrap().clone());
    }
    request
}

/// A consumer that keeps its connection as long as it may.
pub(crate) struct Consumer {
    to: Endpoint,
    http: HttpVersion,
    connection: Option<Connection>,
}

impl Consumer {
    pub(crate) fn new(to: Endpoint, http: HttpVersion) -> Self {
        Self { to, http, connection: None }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<ClientResponse, String> {
        self.send(get(path)).await
    }

    pub(crate) async fn send(&mut self, request: ClientRequest) -> Result<ClientResponse, String> {
        let mut request = request;
        for _ in 0..UNSENT_MAX {
            let mut connection =
                match self.connection.take().filter(|connection| !connection.is_closed()) {
                    Some(connection) => connection,
                    None => Connection::open(&self.to, self.http).await?,
                };
            match connection.send(request).await {
                Ok(got) => {
                    if !got.header(CONNECTION.as_str()).eq_ignore_ascii_case("close") {
                        self.connection = Some(connection);
                    }
                    return Ok(got);
                }
                Err(SendError::Unsent(unsent)) => request = *unsent,
                Err(SendError::Failed(why)) => return Err(why),
            }
        }
        Err("no connection took the request".to_owned())
    }
}

/// One request on a connection of its own.
pub(crate) async fn once(
    to: &Endpoint,
    http: HttpVersion,
    request: ClientRequest,
) -> ClientResponse {
    let mut connection = Connection::open(to, http).await.unwrap();
    match connection.send(request).await {
        Ok(got) => got,
        Err(lost) => panic!("no answer: {lost:?}"),
    }
}

/// Writes these bytes on a connection of their own and reads until its end.
pub(crate) async fn raw(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // A server that refuses early does not read to the end: its answer counts.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(TEST_TIMEOUT, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection was not ended: {}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}
