//! A request on its way: its reservation, the body that arrives, and the answer that is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::connection_table::ConnectionTable;
use super::port::Activity;
use super::progress::Progress;

/// Bytes that a request of HTTP/1.1 holds beside its head; over HTTP/2 its stream is counted as it
/// opens.
const REQUEST_BYTES: usize = 2 * 1024;
/// Bytes that a header field holds beside its text, and the number of copies of the text: one of
/// them is in the buffer that it arrived in.
const FIELD_BYTES: usize = 128;
const HEAD_COPIES: usize = 2;

/// The state that the requests of one connection share.
#[derive(Debug)]
pub(super) struct HttpConnection {
    pub(super) progress: Arc<Progress>,
    pub(super) table: ConnectionTable,
    pub(super) activity: Activity,
    pub(super) http2: bool,
}

/// A request under way, until its answer is written or given up.
#[derive(Debug)]
pub(super) struct RequestGuard {
    connection: Arc<HttpConnection>,
    /// The bytes that are reserved for it.
    bytes: AtomicUsize,
    is_waiting: AtomicBool,
}

impl RequestGuard {
    /// Takes a request. Whether it fits is decided by [`RequestGuard::reserve`].
    pub(super) fn begin(connection: Arc<HttpConnection>) -> Arc<Self> {
        connection.progress.begin_request(connection.http2);
        connection.activity.begin();
        Arc::new(Self {
            connection,
            bytes: AtomicUsize::new(0),
            is_waiting: AtomicBool::new(false),
        })
    }

    /// Reserves these bytes of the request.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.connection.table.reserve(&self.connection.progress, bytes)
    }

    /// Gives the reservation back: the request is refused.
    pub(super) fn release(&self) {
        self.connection.progress.release_bytes(self.bytes.swap(0, Ordering::SeqCst));
    }

    /// Whether the connection is to end.
    pub(super) fn is_leaving(&self) -> bool {
        self.connection.progress.is_leaving()
    }

    /// Whether the request came over HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.connection.http2
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.release();
        self.connection.activity.end();
    }
}

/// The bytes that a request's head holds.
pub(super) fn head_bytes<B>(request: &Request<B>) -> usize {
    let fields = request
        .headers()
        .iter()
        .map(|(name, value)| HEAD_COPIES * (name.as_str().len() + value.len()) + FIELD_BYTES);
    let base = if request.version() >= Version::HTTP_2 { 0 } else { REQUEST_BYTES };
    let uri = request.uri();
    let target = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    base + request.method().as_str().len() + authority + target + fields.sum::<usize>()
}

/// A request that is not answered yet. When this is dropped it is, or was given up.
pub(super) struct UnansweredRequest(pub(super) Arc<RequestGuard>);

impl Drop for UnansweredRequest {
    fn drop(&mut self) {
        self.0.connection.progress.end_request(self.0.is_waiting.load(Ordering::SeqCst));
    }
}

/// The handle by which a handler reports that its caller chose to wait.
#[derive(Debug, Clone)]
pub(crate) struct WaitNotice(Arc<RequestGuard>);

impl WaitNotice {
    /// The caller waits from now on, as it chose to; its connection may end where others need its
    /// place.
    pub(crate) fn begin(&self) {
        if !self.0.is_waiting.swap(true, Ordering::SeqCst) {
            self.0.connection.progress.begin_wait();
        }
    }
}

/// Why a request's body cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It took too long.
    #[error("the body did not arrive; expected all of it within {0:?}")]
    Late(Duration),
    /// All bodies together are too much.
    #[error("the requests under way hold too much; expected less at once")]
    Overloaded,
    /// It broke off.
    #[error("the body broke off: {0}; expected all of it")]
    Broken(#[from] hyper::Error),
}

/// A request's body. It arrives in time, or fails; a handler that does not want it drops it.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    guard: Arc<RequestGuard>,
    arriving: Option<ArrivingBody>,
}

/// A body that has not arrived yet.
#[derive(Debug)]
struct ArrivingBody {
    guard: Arc<RequestGuard>,
    limit: Duration,
    /// Since when the handler reads it, and the timer from then on: the handler may have had no
    /// room for it before.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl ArrivingBody {
    /// Whether it took too long.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Self { guard, limit, timer } = self;
        let start_timer = || (guard.connection.progress.begin_body(), Box::pin(sleep(*limit)));
        timer.get_or_insert_with(start_timer).1.as_mut().poll(cx).is_ready()
    }
}

impl Drop for ArrivingBody {
    fn drop(&mut self) {
        if let Some((since, _)) = self.timer {
            self.guard.connection.progress.end_body(since);
        }
    }
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, guard: &Arc<RequestGuard>) -> Self {
        let arriving = (!incoming.is_end_stream()).then(|| {
            let limit = guard.connection.table.limits().body;
            ArrivingBody { guard: guard.clone(), limit, timer: None }
        });
        Self { incoming, guard: guard.clone(), arriving }
    }

    /// The handle by which a handler reports that the caller chose to wait.
    pub(crate) fn wait_notice(&self) -> WaitNotice {
        WaitNotice(self.guard.clone())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { incoming, arriving, .. } = &mut *self;
        let Some(body) = arriving else { return Poll::Ready(None) };
        let limit = body.limit;
        if body.is_late(cx) {
            body.guard.connection.table.metrics().slow_bodies.inc();
            *arriving = None;
            return Poll::Ready(Some(Err(BodyError::Late(limit))));
        }
        match ready!(Pin::new(incoming).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if !body.guard.reserve(frame.data_ref().map_or(0, Bytes::len)) {
                    *arriving = None;
                    return Poll::Ready(Some(Err(BodyError::Overloaded)));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            ended => {
                *arriving = None;
                Poll::Ready(ended.map(|failed| failed.map_err(BodyError::from)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.arriving.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// An answer's body, which keeps its request under way until hyper has taken it all.
pub(super) struct AnswerBody<B> {
    /// `None`: there is none.
    body: Option<B>,
    guard: Arc<RequestGuard>,
    is_endless: bool,
}

impl<B: Body> AnswerBody<B> {
    pub(super) fn new(body: B, guard: Arc<RequestGuard>) -> Self {
        let is_endless = body.size_hint().exact().is_none();
        if is_endless {
            guard.connection.progress.begin_endless();
        }
        Self { body: Some(body), guard, is_endless }
    }

    pub(super) fn empty(guard: Arc<RequestGuard>) -> Self {
        Self { body: None, guard, is_endless: false }
    }
}

impl<B> Drop for AnswerBody<B> {
    fn drop(&mut self) {
        if self.is_endless {
            self.guard.connection.progress.end_endless();
        }
    }
}

impl<B: Body<Data = Bytes, Error = Infallible> + Unpin> Body for AnswerBody<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
