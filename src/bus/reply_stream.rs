//! A stream to a Redis server that fails once the server sends more than was asked for: a reply
//! beyond its limits, more replies than commands, or messages without end.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::resp_frames::{ReplyExcess, ReplyLimits, RespFrame, RespFrames};

/// The most bytes of messages without a reply between them. Heartbeats are answered more often than
/// so many bytes can be received.
const MESSAGES_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// No limits for the commands: they are ours, and bounded where they are made.
const COMMANDS: ReplyLimits = ReplyLimits { bytes: u64::MAX, elements: u64::MAX };

/// A stream that counts commands and replies.
pub(super) struct ReplyStream<S> {
    stream: S,
    commands: RespFrames,
    replies: RespFrames,
    count: ReplyCount,
    /// The excess for which it failed.
    excess: Option<ReplyExcess>,
    /// Called with the excess, once.
    on_excess: Box<dyn Fn(ReplyExcess) + Send + Sync>,
}

#[derive(Debug, Default)]
struct ReplyCount {
    /// Commands without a reply so far. `SUBSCRIBE`, whose reply is a push, stays counted.
    unanswered: u64,
    /// Bytes of messages since the last reply.
    messages_bytes: u64,
}

impl ReplyCount {
    fn take(&mut self, frame: RespFrame) -> Result<(), ReplyExcess> {
        if frame.is_push {
            self.messages_bytes += frame.bytes;
            let fits = self.messages_bytes <= MESSAGES_BYTES_MAX;
            return if fits { Ok(()) } else { Err(ReplyExcess::Messages(MESSAGES_BYTES_MAX)) };
        }
        self.messages_bytes = 0;
        self.unanswered = self.unanswered.checked_sub(1).ok_or(ReplyExcess::Unsolicited)?;
        Ok(())
    }
}

impl<S> ReplyStream<S> {
    /// A stream on which nothing was sent yet.
    pub(super) fn new(
        stream: S,
        limits: ReplyLimits,
        on_excess: impl Fn(ReplyExcess) + Send + Sync + 'static,
    ) -> Self {
        Self {
            stream,
            commands: RespFrames::new(COMMANDS),
            replies: RespFrames::new(limits),
            count: ReplyCount::default(),
            excess: None,
            on_excess: Box::new(on_excess),
        }
    }
}

impl<S> fmt::Debug for ReplyStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyStream")
            .field("count", &self.count)
            .field("excess", &self.excess)
            .finish_non_exhaustive()
    }
}

fn aborted(cause: ReplyExcess) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, cause)
}

impl<S: AsyncRead + Unpin> AsyncRead for ReplyStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(cause) = this.excess {
            return Poll::Ready(Err(aborted(cause)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let count = &mut this.count;
        let Err(cause) = this.replies.feed(&buf.filled()[before..], |frame| count.take(frame))
        else {
            return Poll::Ready(Ok(()));
        };
        buf.set_filled(before);
        this.excess = Some(cause);
        (this.on_excess)(cause);
        Poll::Ready(Err(aborted(cause)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReplyStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        let count = &mut this.count;
        let sent = this.commands.feed(&bytes[..written], |_| {
            count.unanswered += 1;
            Ok(())
        });
        Poll::Ready(sent.map(|()| written).map_err(aborted))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// A stream, the server's end of it, and the excesses that were reported.
    fn stream() -> (ReplyStream<DuplexStream>, DuplexStream, Arc<Mutex<Vec<ReplyExcess>>>) {
        let (client, server) = duplex(1 << 20);
        let excesses = Arc::<Mutex<Vec<_>>>::default();
        let reported = Arc::clone(&excesses);
        let limits = ReplyLimits { bytes: 1_000, elements: 20 };
        let on_excess = move |excess| reported.lock().unwrap().push(excess);
        (ReplyStream::new(client, limits, on_excess), server, excesses)
    }

    #[tokio::test]
    async fn as_many_replies_pass_as_commands_were_sent_and_no_more() {
        let (mut client, mut server, excesses) = stream();
        client.write_all(b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n").await.unwrap();
        server.write_all(b"+PONG\r\n>2\r\n+message\r\n+a\r\n$1\r\n1\r\n").await.unwrap();
        let mut replies = [0; 32];
        client.read_exact(&mut replies).await.unwrap();
        server.write_all(b">2\r\n+message\r\n+a\r\n+PONG\r\n").await.unwrap();
        assert_eq!(
            client.read(&mut replies).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionAborted
        );
        assert!(client.read(&mut replies).await.is_err(), "it stays over");
        assert_eq!(*excesses.lock().unwrap(), [ReplyExcess::Unsolicited]);
    }

    #[tokio::test]
    async fn a_reply_that_is_too_large_is_not_waited_for() {
        let (mut client, mut server, excesses) = stream();
        client.write_all(b"*1\r\n$4\r\nPING\r\n").await.unwrap();
        server.write_all(b"$200000000\r\nnever").await.unwrap();
        assert!(client.read(&mut [0; 64]).await.is_err());
        assert_eq!(*excesses.lock().unwrap(), [ReplyExcess::Bytes(1_000)]);
    }

    #[test]
    fn messages_without_end_are_noticed_and_those_between_replies_are_not() {
        let message = RespFrame { is_push: true, bytes: MESSAGES_BYTES_MAX / 2 };
        let reply = RespFrame { is_push: false, bytes: 1 };
        let mut count = ReplyCount { unanswered: 1, messages_bytes: 0 };
        for frame in [message, message, reply, message, message] {
            count.take(frame).unwrap();
        }
        assert_eq!(count.take(message), Err(ReplyExcess::Messages(MESSAGES_BYTES_MAX)));
    }
}
