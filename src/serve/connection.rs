//! One connection: requests in, answers out, until it ends, is drained, or is told to end.
//!
//! hyper's own header timeout also runs while a kept-alive connection is idle, and closing an idle connection races with the
//! consumer's next request. So the clocks here run only while something is unfinished (`progress.rs`), and an idle connection
//! is closed only where another needs its place (`eviction.rs`). Draining follows the same thought: HTTP/1.1 connections stay
//! open and say `Connection: close` with their next answer; HTTP/2 has GOAWAY. An answer of unknown length (a stream of
//! events) holds no drain up: who still has one open when connections are closed is cut off.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{HeaderMap, Request, Response, Version};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::eviction::Place;
use super::observed::Observed;
use super::port::{Drain, Limits, Port};
use super::progress::Order;
use super::request::{AnswerBody, RequestBody, RequestGuard, Unanswered, Waits, head_bytes};

/// How long an idle HTTP/1.1 connection that was told to leave still takes a request: one that was sent just before is here
/// by then. HTTP/2 says which requests it has taken.
const LINGER: Duration = Duration::from_millis(5);
/// Flow-control windows of HTTP/2, in bytes: RFC 9113's own. Requests have no bodies but small ones and an API server's
/// reviews, which come from nearby; a connection's window is what its peer can make us hold unasked.
const WINDOW_BYTES: u32 = 64 * 1024 - 1;
/// Streams of one HTTP/2 connection that its peer reset before we came to them; more end it (CVE-2023-44487).
const RESETS_MAX: usize = 64;
/// Streams of one HTTP/2 connection that we reset for an error of its peer's; more end it. hyper's own is 1024.
const ERRORS_MAX: usize = 64;
/// Bytes of one HTTP/2 stream that may wait to be sent before its answer is asked for more: a stream of events. hyper's own
/// is 400 KiB.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How often an HTTP/2 peer is asked whether it lives, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_MAX: Duration = Duration::from_secs(20);

/// Whoever answers requests: the consumer's side and the admin port.
pub trait Answering: Clone + Send + Sync + 'static {
    /// What its answers hold.
    type Body: Body<Data = Bytes, Error = Infallible> + Unpin + Send + 'static;

    /// Answers one request; `on_tcp` says whether its `Host` matters.
    fn answering(
        &self,
        request: Request<RequestBody>,
        on_tcp: bool,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Refuses a request with these headers, for which the port has no memory left.
    fn refuse(&self, headers: &HeaderMap, detail: String) -> Response<Self::Body>;
}

impl Answering for super::Consumers {
    type Body = Full<Bytes>;

    async fn answering(&self, request: Request<RequestBody>, on_tcp: bool) -> Response<Full<Bytes>> {
        // A body is ignored (DESIGN.md section 5): it is dropped before the request is answered, not after.
        self.answer(request.map(drop), on_tcp).await.map(Full::new)
    }

    fn refuse(&self, headers: &HeaderMap, detail: String) -> Response<Full<Bytes>> {
        self.refuse_unread(headers, detail).map(Full::new)
    }
}

/// Serves one connection until it ends, is drained, or is told to end.
pub(super) async fn serve<IO, A>(io: IO, on_tcp: bool, answering: A, port: Port, place: &Place)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Answering,
{
    let progress = &place.progress;
    let service = service_fn(|request: Request<Incoming>| {
        let http2 = request.version() >= Version::HTTP_2;
        let guard = RequestGuard::begin(progress.clone(), place.table.clone(), port.activity.clone(), http2);
        let unanswered = Unanswered(guard.clone());
        let (answering, drain, progress) = (answering.clone(), port.drain.clone(), progress.clone());
        async move {
            let mut response = answer(&answering, request, on_tcp, &guard).await;
            let closing = *drain.borrow() > Drain::Serving || progress.is_leaving();
            if closing && !http2 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let response = response.map(|body| AnswerBody::new(body, guard));
            drop(unanswered);
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(Observed::new(io, progress.clone()));
    let builder = builder(place.table.limits());
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut drain = port.drain.clone();
    loop {
        tokio::select! {
            biased;
            order = progress.ordered() => {
                if order == Order::End {
                    return;
                }
                if !progress.is_http2() && timeout(LINGER, connection.as_mut()).await.is_ok() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
            }
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a consumer's connection ended early");
                }
                return;
            }
            changed = drain.changed() => if changed.is_err() { return },
            () = progress.http2_began() => {}
        }
        let phase = *drain.borrow_and_update();
        if phase == Drain::Closing && progress.has_streams() {
            return;
        }
        if phase == Drain::Closing || (phase == Drain::Draining && progress.is_http2()) {
            connection.as_mut().graceful_shutdown();
        }
    }
}

/// Answers one request if there is memory for it.
async fn answer<A: Answering>(
    answering: &A,
    request: Request<Incoming>,
    on_tcp: bool,
    guard: &Arc<RequestGuard>,
) -> Response<A::Body> {
    if !guard.reserve(head_bytes(&request)) {
        let detail = "the requests under way hold too much; expected less at once".to_owned();
        return answering.refuse(request.headers(), detail);
    }
    let mut request = request.map(|incoming| RequestBody::new(incoming, guard));
    request.extensions_mut().insert(Waits(guard.clone()));
    // On the heap, and for no longer than it takes: else each stream would hold room for it until its answer is read.
    Box::pin(answering.answering(request, on_tcp)).await
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(limits.headers_max)
        .max_buf_size(limits.head_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .max_pending_accept_reset_streams(Some(RESETS_MAX))
        .max_local_error_reset_streams(Some(ERRORS_MAX))
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(Some(PING_EVERY))
        .keep_alive_timeout(PING_MAX);
    builder
}
