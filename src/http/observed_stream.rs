//! A connection's stream, which reports to its [`Progress`] the frames that arrive and the bytes
//! that the peer reads.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::frames::{FrameReader, Inbound, PREFACE};
use super::progress::Progress;
use super::request_bytes::ReadPace;

/// Bytes that a connection reads before others get their turn. HTTP/2 takes in all bytes that have
/// arrived before it hands on the first request: a burst of requests would be held decoded, head by
/// head, before any of it can be weighed or refused.
const TURN_BYTES_MAX: usize = 16 * 1024;

/// Bytes that are read at once where the streams of a port take most of its bytes for requests: the
/// shortest requests, of 12 bytes, open five streams with them.
const SMALL_READ_BYTES: usize = 64;
/// How long a connection whose streams take more than its share waits before the next read. It goes
/// on reading, since window updates for its answers come this way too.
const SLOW_READ_PAUSE: Duration = Duration::from_millis(5);

/// The stream of one connection, after the handshake.
pub(super) struct ObservedStream<IO> {
    io: IO,
    progress: Arc<Progress>,
    inbound: Inbound,
    outbound: FrameReader,
    /// The first bytes, which were read to detect the protocol; the protocol reads them again.
    preface: Preface,
    /// The system did not take all bytes of the last write.
    is_write_pending: bool,
    /// The pending write has been reported.
    is_unwritten_reported: bool,
    /// Until when a slow read waits.
    pause: Option<Pin<Box<Sleep>>>,
}

/// The first bytes of a connection.
#[derive(Debug, Default)]
struct Preface {
    bytes: [u8; PREFACE.len()],
    received: usize,
    replayed: usize,
}

impl<IO> ObservedStream<IO> {
    pub(super) fn new(io: IO, progress: Arc<Progress>) -> Self {
        Self {
            io,
            progress,
            inbound: Inbound::Undecided(0),
            outbound: FrameReader::default(),
            preface: Preface::default(),
            is_write_pending: false,
            is_unwritten_reported: false,
            pause: None,
        }
    }

    fn observe_read(&mut self, bytes: &[u8]) {
        let before = self.inbound.completed();
        let progress = &self.progress;
        self.inbound.read(bytes, |head| progress.receive_frame(head));
        if self.inbound.is_http2() {
            progress
                .receive_http2(self.inbound.is_inside_frame(), self.inbound.completed() > before);
        } else {
            progress.receive_http1();
        }
    }

    /// The system took the first `taken` bytes of `offered`.
    fn observe_write<'a>(&mut self, accepted: usize, offered: impl Iterator<Item = &'a [u8]>) {
        let mut offered_bytes = 0;
        let mut left = accepted;
        for bytes in offered {
            offered_bytes += bytes.len();
            let written = &bytes[..bytes.len().min(left)];
            left -= written.len();
            if self.inbound.is_http2() {
                let progress = &self.progress;
                self.outbound.read(written, |head| progress.send_frame(head));
            }
        }
        self.is_write_pending = accepted < offered_bytes;
        self.report_written(!self.is_write_pending);
    }

    fn report_written(&mut self, all: bool) {
        if all == self.is_unwritten_reported {
            self.progress.set_written(all);
            self.is_unwritten_reported = !all;
        }
    }
}

impl<IO: AsyncRead + Unpin> ObservedStream<IO> {
    /// Waits for the first bytes, until they tell whether this is HTTP/2. May be dropped and called
    /// again.
    pub(super) async fn detect_http2(&mut self) -> io::Result<bool> {
        poll_fn(|cx| {
            while matches!(self.inbound, Inbound::Undecided(_)) {
                let Preface { bytes, received, .. } = &mut self.preface;
                let mut buf = ReadBuf::new(&mut bytes[*received..]);
                ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
                let length = buf.filled().len();
                if length == 0 {
                    // The parser of the protocol reports what is missing.
                    return Poll::Ready(Ok(false));
                }
                let bytes = *bytes;
                let before = *received;
                *received += length;
                self.observe_read(&bytes[before..before + length]);
            }
            Poll::Ready(Ok(self.inbound.is_http2()))
        })
        .await
    }

    /// Reads the rest of the frame that has begun, which opens no further stream; else a few bytes,
    /// after a pause if `pauses`.
    fn poll_read_small(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        is_paused: bool,
    ) -> Poll<io::Result<()>> {
        let payload = self.inbound.payload_left();
        if is_paused && payload == 0 {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(SLOW_READ_PAUSE)));
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let length = buf.remaining().min(if payload > 0 { payload } else { SMALL_READ_BYTES });
        let mut small = ReadBuf::new(buf.initialize_unfilled_to(length));
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut small))?;
        let read = small.filled().len();
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for ObservedStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Preface { bytes, received, replayed } = &mut self.preface;
        if replayed < received {
            let length = buf.remaining().min(*received - *replayed);
            buf.put_slice(&bytes[*replayed..*replayed + length]);
            *replayed += length;
            return Poll::Ready(Ok(()));
        }
        if self.progress.turn_bytes() >= TURN_BYTES_MAX {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let pace = if self.inbound.is_http2() { self.progress.read_pace() } else { ReadPace::Full };
        ready!(match pace {
            ReadPace::Full => Pin::new(&mut self.io).poll_read(cx, buf),
            ReadPace::Small => self.poll_read_small(cx, buf, false),
            ReadPace::Slow => self.poll_read_small(cx, buf, true),
        })?;
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            self.progress.count_turn_bytes(bytes.len());
            self.observe_read(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO> Drop for ObservedStream<IO> {
    fn drop(&mut self) {
        self.progress.close();
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for ObservedStream<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        if !matches!(written, Poll::Ready(Err(_))) {
            let accepted = if let Poll::Ready(Ok(taken)) = written { taken } else { 0 };
            self.observe_write(accepted, std::iter::once(buf));
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        if !matches!(written, Poll::Ready(Err(_))) {
            let accepted = if let Poll::Ready(Ok(taken)) = written { taken } else { 0 };
            self.observe_write(accepted, bufs.iter().map(|slice| &**slice));
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        let all = flushed.is_ready() && !self.is_write_pending;
        self.report_written(all);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        let all = shut.is_ready();
        self.report_written(all);
        shut
    }
}
