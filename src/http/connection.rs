//! One connection: requests in, answers out, until it ends, is drained, or is evicted.
//!
//! hyper's own header timeout also runs while a kept-alive connection is idle, and closing an idle
//! connection races with the consumer's next request. So the clocks here run only while a frame, a
//! request or an answer is unfinished (`progress.rs`), and an idle connection is closed only where
//! another needs its place (`connection_table.rs`). Draining avoids the same race: HTTP/1.1
//! connections stay open and send `Connection: close` with their next answer; HTTP/2 has GOAWAY. An
//! answer of unknown length (a stream of events) delays no drain: it is cut off when connections
//! are closed.

use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use super::connection_table::ConnectionSlot;
use super::eviction_candidate::EvictionSignal;
use super::handler::Handler;
use super::observed_stream::ObservedStream;
use super::port::{DrainPhase, Port, PortLimits};
use super::progress::Progress;
use super::request::{
    AnswerBody, HttpConnection, RequestBody, RequestGuard, UnansweredRequest, head_bytes,
};

/// How long an idle HTTP/1.1 connection that is evicted still takes a request: one that was sent
/// just before arrives within that time. HTTP/2 names the requests that it has taken.
const LINGER: Duration = Duration::from_millis(5);
/// Flow-control windows of HTTP/2, in bytes: RFC 9113's own. Requests have no bodies but small ones
/// and an API server's reviews, which come from nearby; a connection's window is the memory that
/// its peer can fill without a reservation.
const WINDOW_BYTES: u32 = 64 * 1024 - 1;
/// Streams of one HTTP/2 connection that its peer reset before we came to them; more end it
/// (CVE-2023-44487).
const RESETS_MAX: usize = 64;
/// Streams of one HTTP/2 connection that we reset for an error of its peer's; more end it. hyper's
/// own is 1024.
const ERRORS_MAX: usize = 64;
/// Bytes of one HTTP/2 stream that may wait to be sent before its answer is polled for more (a
/// stream of events, say). hyper's default is 400 KiB.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// The interval of pings to an HTTP/2 peer, and how long its answer to one may take.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_MAX: Duration = Duration::from_secs(20);

/// Serves one connection until it ends, is drained, or is evicted.
pub(super) async fn serve_connection<IO, A>(
    io: IO,
    on_tcp: bool,
    handler: A,
    port: Port,
    slot: &ConnectionSlot,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Handler,
{
    let progress = &slot.progress;
    let limits = slot.table.limits();
    let mut drain = port.drain;
    let mut io = ObservedStream::new(io, progress.clone());
    let Some(http2) = detect_http2(&mut io, progress, &mut drain).await else { return };
    let table = slot.table.clone();
    let activity = port.activity;
    let connection =
        Arc::new(HttpConnection { progress: progress.clone(), table, activity, http2 });
    let draining = drain.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let guard = RequestGuard::begin(connection.clone());
        let unanswered = UnansweredRequest(guard.clone());
        // Before anything is allocated for the request: a refusal costs little.
        if !guard.reserve(head_bytes(&request)) {
            let response = refuse(&handler, request.headers(), guard.clone());
            return Either::Left(ready(Ok::<_, Infallible>(with_connection_close(
                response, &guard, &draining,
            ))));
        }
        let handler = handler.clone();
        let draining = draining.clone();
        // On the heap, and for no longer than it takes: else each stream would hold room for it
        // until its answer is read.
        Either::Right(Box::pin(async move {
            let request = request.map(|incoming| RequestBody::new(incoming, &guard));
            let response = handler.handle(request, on_tcp).await;
            drop(unanswered);
            let response = with_connection_close(response, &guard, &draining);
            Ok(response.map(|body| AnswerBody::new(body, guard)))
        }))
    });
    let io = TokioIo::new(io);
    if http2 {
        run_connection(http2_builder(limits).serve_connection(io, service), http2, progress, drain)
            .await;
    } else {
        run_connection(http1_builder(limits).serve_connection(io, service), http2, progress, drain)
            .await;
    }
}

/// Adds `Connection: close` where the connection ends with this answer. HTTP/2 has GOAWAY.
fn with_connection_close<B>(
    mut response: Response<B>,
    guard: &RequestGuard,
    draining: &watch::Receiver<DrainPhase>,
) -> Response<B> {
    if !guard.is_http2() && (*draining.borrow() > DrainPhase::Serving || guard.is_leaving()) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Waits until the first bytes show whether a connection is HTTP/2. `None`: it ended before.
async fn detect_http2<IO: AsyncRead + Unpin>(
    io: &mut ObservedStream<IO>,
    progress: &Progress,
    drain: &mut watch::Receiver<DrainPhase>,
) -> Option<bool> {
    loop {
        if *drain.borrow_and_update() == DrainPhase::Closing {
            return None;
        }
        tokio::select! {
            biased;
            http2 = io.detect_http2() => return http2.ok(),
            signal = progress.wait_for_eviction() => {
                let is_immediate = signal == EvictionSignal::CloseNow;
                let linger = if is_immediate { Duration::ZERO } else { LINGER };
                return timeout(linger, io.detect_http2()).await.ok()?.ok();
            }
            changed = drain.changed() => changed.ok()?,
        }
    }
}

/// Sees a connection through to its end.
async fn run_connection<C>(
    connection: C,
    http2: bool,
    progress: &Progress,
    mut drain: watch::Receiver<DrainPhase>,
) where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut connection = pin!(connection);
    loop {
        let phase = *drain.borrow_and_update();
        if phase == DrainPhase::Closing && progress.has_endless() {
            return;
        }
        if phase == DrainPhase::Closing
            || (http2 && (phase == DrainPhase::Draining || progress.is_leaving()))
        {
            connection.as_mut().graceful_shutdown();
        }
        let mut serving = poll_fn(|cx| {
            progress.begin_turn();
            connection.as_mut().poll(cx)
        });
        tokio::select! {
            biased;
            signal = progress.wait_for_eviction() => {
                if signal == EvictionSignal::CloseNow {
                    return;
                }
                if !http2 && timeout(LINGER, serving).await.is_ok() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
            }
            result = &mut serving => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a consumer's connection ended early");
                }
                return;
            }
            changed = drain.changed() => if changed.is_err() { return },
        }
    }
}

/// Refuses a request for which there is no memory. Over HTTP/2 the answer has no content: the bytes
/// of one would be held for as long as the peer does not let us send them, and it is one that asks
/// for too much.
fn refuse<A: Handler>(
    handler: &A,
    headers: &HeaderMap,
    guard: Arc<RequestGuard>,
) -> Response<AnswerBody<A::Body>> {
    let detail = "the requests under way hold too much; expected less at once".to_owned();
    let mut response = handler.refuse(headers, detail);
    guard.release();
    if !guard.is_http2() {
        return response.map(|body| AnswerBody::new(body, guard));
    }
    response.headers_mut().remove(CONTENT_TYPE);
    response.headers_mut().remove(CONTENT_LENGTH);
    response.map(|_| AnswerBody::empty(guard))
}

fn http1_builder(limits: &PortLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(limits.headers_max)
        .max_buf_size(limits.head_bytes_max);
    builder
}

fn http2_builder(limits: &PortLimits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
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
