//! A connection's stream, which tells its [`Progress`] what comes and what the peer takes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{FrameReader, Inbound};
use super::progress::Progress;

/// Bytes that a connection reads before others get their turn. HTTP/2 takes in all that has come before it hands on the first
/// request of it: what a peer sends at once would be held decoded, head by head, before any of it can be weighed or refused.
const TURN_BYTES_MAX: usize = 16 * 1024;

/// The stream of one connection, after the handshake.
pub(super) struct Observed<IO> {
    io: IO,
    progress: Arc<Progress>,
    inbound: Inbound,
    outbound: FrameReader,
    /// The system did not take all of what was written last.
    writes_wait: bool,
    /// It has been said so.
    said_unwritten: bool,
    /// Bytes that were read since the connection last gave others their turn.
    turn_bytes: usize,
}

impl<IO> Observed<IO> {
    pub(super) fn new(io: IO, progress: Arc<Progress>) -> Self {
        let (inbound, outbound) = (Inbound::Undecided(0), FrameReader::default());
        Self { io, progress, inbound, outbound, writes_wait: false, said_unwritten: false, turn_bytes: 0 }
    }

    fn came(&mut self, bytes: &[u8]) {
        let before = self.inbound.completed();
        let progress = &self.progress;
        self.inbound.read(bytes, |head| {
            if head.resets_stream() {
                progress.receive_reset(head);
            }
        });
        if self.inbound.is_http2() {
            progress.receive_http2(self.inbound.is_within(), self.inbound.completed() > before);
        } else {
            progress.receive_http1();
        }
    }

    /// The system took the first `taken` bytes of `offered`.
    fn went<'a>(&mut self, taken: usize, offered: impl Iterator<Item = &'a [u8]>) {
        let (mut offered_bytes, mut left) = (0, taken);
        for bytes in offered {
            offered_bytes += bytes.len();
            let written = &bytes[..bytes.len().min(left)];
            left -= written.len();
            if self.inbound.is_http2() {
                let progress = &self.progress;
                self.outbound.read(written, |head| progress.send(head));
            }
        }
        self.writes_wait = taken < offered_bytes;
        self.say_written(!self.writes_wait);
    }

    fn say_written(&mut self, all: bool) {
        if all == self.said_unwritten {
            self.progress.set_written(all);
            self.said_unwritten = !all;
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Observed<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.turn_bytes >= TURN_BYTES_MAX {
            self.turn_bytes = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buf) else {
            self.turn_bytes = 0;
            return Poll::Pending;
        };
        read?;
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            self.turn_bytes += bytes.len();
            self.came(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Observed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        if !matches!(written, Poll::Ready(Err(_))) {
            let taken = if let Poll::Ready(Ok(taken)) = written { taken } else { 0 };
            self.went(taken, std::iter::once(buf));
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
            let taken = if let Poll::Ready(Ok(taken)) = written { taken } else { 0 };
            self.went(taken, bufs.iter().map(|slice| &**slice));
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        let all = flushed.is_ready() && !self.writes_wait;
        self.say_written(all);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        let all = shut.is_ready();
        self.say_written(all);
        shut
    }
}
