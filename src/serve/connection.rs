//! One connection: requests in, answers out, and the bounds on how long a request may take to arrive.
//!
//! hyper's own header timeout also runs while a kept-alive connection is idle, and closing an idle connection races with the
//! consumer's next request. So the clock here starts with the first byte of a request, not before, and an idle connection is
//! closed only where another needs its place. Draining follows the same thought: HTTP/1.1 connections stay open and say
//! `Connection: close` with their next answer; HTTP/2 has GOAWAY. An answer of unknown length (a stream of events) holds no
//! drain up: who still has one open when connections are closed is cut off.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::port::{Activity, Drain, Limits, Port};

/// Whoever answers requests: the consumer's side and the admin port.
pub trait Answering: Clone + Send + Sync + 'static {
    /// What its answers hold.
    type Body: Body<Data = Bytes, Error = Infallible> + Unpin + Send + 'static;

    /// Answers one request; `on_tcp` says whether its `Host` matters.
    fn answering(&self, request: Request<Incoming>, on_tcp: bool) -> impl Future<Output = Response<Self::Body>> + Send;
}

impl Answering for super::Consumers {
    type Body = Full<Bytes>;

    async fn answering(&self, request: Request<Incoming>, on_tcp: bool) -> Response<Full<Bytes>> {
        self.answer(request, on_tcp).await.map(Full::new)
    }
}

/// Serves one connection until it ends, is drained, or is too slow with a request.
///
/// `crowded` is told when there is no place for another connection: then an idle one ends.
pub(super) async fn serve<IO, A>(io: IO, on_tcp: bool, answering: A, limits: Limits, port: Port, crowded: &Notify)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Answering,
{
    let state = Arc::new(State::new(port.activity.clone()));
    let service = service_fn(|request: Request<Incoming>| {
        let taken = state.take(request.version());
        let (answering, drain) = (answering.clone(), port.drain.clone());
        async move {
            let version = request.version();
            let mut response = answering.answering(request, on_tcp).await;
            if *drain.borrow() > Drain::Serving && version < Version::HTTP_2 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| Counted::new(body, taken)))
        }
    });
    let io = TokioIo::new(Timed { io, state: state.clone() });
    let builder = builder(&limits);
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut drain = port.drain.clone();
    let mut tick = tokio::time::interval(limits.head / 10);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a consumer's connection ended early");
                }
                return;
            }
            changed = drain.changed() => if changed.is_err() { return },
            () = state.http2_began.notified() => {}
            () = crowded.notified() => if state.is_idle() {
                connection.as_mut().graceful_shutdown();
            },
            _ = tick.tick() => if state.is_slow(&limits) {
                port.metrics.slow_requests.inc();
                tracing::warn!(limit_ms = u64::try_from(limits.head.as_millis()).unwrap_or(u64::MAX), "closed a connection whose request took too long to arrive");
                return;
            },
        }
        let phase = *drain.borrow_and_update();
        if phase == Drain::Closing && state.endless.load(Ordering::SeqCst) > 0 {
            return;
        }
        if phase == Drain::Closing || (phase == Drain::Draining && state.http2.load(Ordering::SeqCst)) {
            connection.as_mut().graceful_shutdown();
        }
    }
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
        .max_pending_accept_reset_streams(Some(64))
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// What is known of one connection.
struct State {
    opened: Instant,
    /// When the first byte of the request now arriving came, in milliseconds since `opened`, plus one; 0: none is arriving.
    head_since: AtomicU64,
    in_flight: AtomicUsize,
    /// Those under way whose answer has no length.
    endless: AtomicUsize,
    http2: AtomicBool,
    http2_began: Notify,
    activity: Activity,
}

impl State {
    fn new(activity: Activity) -> Self {
        Self {
            opened: Instant::now(),
            head_since: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            endless: AtomicUsize::new(0),
            http2: AtomicBool::new(false),
            http2_began: Notify::new(),
            activity,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn bytes_came(&self) {
        let between_requests = self.in_flight.load(Ordering::SeqCst) == 0 && !self.http2.load(Ordering::SeqCst);
        if between_requests {
            let _ = self.head_since.compare_exchange(0, self.now(), Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    fn take(self: &Arc<Self>, version: Version) -> Taken {
        self.head_since.store(0, Ordering::SeqCst);
        if version == Version::HTTP_2 && !self.http2.swap(true, Ordering::SeqCst) {
            self.http2_began.notify_one();
        }
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        self.activity.begin();
        Taken { state: self.clone(), endless: false }
    }

    fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) == 0 && self.head_since.load(Ordering::SeqCst) == 0
    }

    /// HTTP/2 bounds its own headers once the first request came; before that it is as slow as HTTP/1.1 can be.
    fn is_slow(&self, limits: &Limits) -> bool {
        let since = self.head_since.load(Ordering::SeqCst);
        since != 0 && Duration::from_millis(self.now().saturating_sub(since)) > limits.head
    }
}

/// A request under way, until its answer is written or given up.
struct Taken {
    state: Arc<State>,
    endless: bool,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.state.activity.end();
        self.state.in_flight.fetch_sub(1, Ordering::SeqCst);
        if self.endless {
            self.state.endless.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// An answer's body, which keeps its request under way until hyper has taken it all.
struct Counted<B> {
    body: B,
    _taken: Taken,
}

impl<B: Body> Counted<B> {
    fn new(body: B, mut taken: Taken) -> Self {
        taken.endless = body.size_hint().exact().is_none();
        if taken.endless {
            taken.state.endless.fetch_add(1, Ordering::SeqCst);
        }
        Self { body, _taken: taken }
    }
}

impl<B: Body<Data = Bytes, Error = Infallible> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The connection's stream, which tells the state when bytes come.
struct Timed<IO> {
    io: IO,
    state: Arc<State>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Timed<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.state.bytes_came();
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Timed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
