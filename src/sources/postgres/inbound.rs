//! The bytes that a server sends, bounded: by message before one is read, and in all.
//!
//! The driver reads a message whole before it hands it on, and keeps some of what it reads, so a
//! bound on rows alone would come too late. A large message is not read before there is memory for
//! it. The frames are those of PostgreSQL's documentation,
//! "Message Formats": a type, a length that counts itself, and a body.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// A message of more bytes waits for memory.
const LARGE_BYTES: u64 = 64 << 10;
/// The bytes of a message's type and length.
const HEADER_BYTES: usize = 5;
/// The longest message of an authentication, in bytes.
const AUTHENTICATION_BYTES_MAX: usize = 2 << 10;
/// The type of those messages, and the code of the one that asks for iterations (RFC 5802).
const AUTHENTICATION: u8 = b'R';
const SASL_CONTINUE: &[u8] = &[0, 0, 0, 11];
/// The most iterations of a password's hash: the work is done on the event loop, some 20 ms.
/// PostgreSQL's default is 4096.
const ITERATIONS_MAX: u64 = 100_000;

/// How much a server may still send; shared with the stream that it sends on.
#[derive(Debug, Clone)]
pub(super) struct InboundBudget(Arc<BudgetState>);

#[derive(Debug)]
struct BudgetState {
    left: AtomicU64,
    /// The bytes of a large message that waits for memory; 0: none does.
    waiting: AtomicU64,
    /// Woken when a message waits.
    waits: Notify,
    /// The stream that waits. Held to put it in or take it out.
    reader: Mutex<Option<Waker>>,
}

impl InboundBudget {
    /// A budget of so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        Self(Arc::new(BudgetState {
            left: AtomicU64::new(bytes),
            waiting: AtomicU64::new(0),
            waits: Notify::new(),
            reader: Mutex::new(None),
        }))
    }

    /// Sets what may be sent from now on.
    pub(super) fn set(&self, bytes: u64) {
        self.0.left.store(bytes, Ordering::Relaxed);
    }

    /// What may still be sent.
    pub(super) fn left(&self) -> u64 {
        self.0.left.load(Ordering::Relaxed)
    }

    /// Returns the bytes of a large message, once one has been announced.
    pub(super) async fn large_message(&self) -> u64 {
        loop {
            match self.0.waiting.load(Ordering::SeqCst) {
                0 => self.0.waits.notified().await,
                bytes => return bytes,
            }
        }
    }

    /// Lets the large message that waits be read.
    pub(super) fn admit(&self) {
        self.0.waiting.store(0, Ordering::SeqCst);
        if let Some(reader) = self.0.reader.lock().take() {
            reader.wake();
        }
    }

    fn announce(&self, bytes: u64) {
        self.0.waiting.store(bytes, Ordering::SeqCst);
        self.0.waits.notify_one();
    }

    /// Whether a message waits; its reader is then woken when it is admitted.
    fn is_waiting(&self, cx: &Context<'_>) -> bool {
        if self.0.waiting.load(Ordering::SeqCst) == 0 {
            return false;
        }
        *self.0.reader.lock() = Some(cx.waker().clone());
        // It may have been admitted in between.
        self.0.waiting.load(Ordering::SeqCst) != 0
    }
}

/// Why what a server sends is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InboundError {
    /// More than the budget.
    TooMuch,
    /// A message whose length is none.
    BadLength,
    /// Authentication that would take too much work.
    ExpensivePassword,
}

impl fmt::Display for InboundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMuch => "the server sent more than it may",
            Self::BadLength => "the server sent a message of an impossible length",
            Self::ExpensivePassword => "the server asked for too much work for a password",
        })
    }
}

impl Error for InboundError {}

impl InboundError {
    /// The error of this kind that caused `error`, if one did.
    pub(super) fn cause_of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut causes = std::iter::successors(Some(error), |&error| error.source());
        causes.find_map(|error| {
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            inner.and_then(|inner| inner.downcast_ref()).copied()
        })
    }
}

/// A connection whose server is held to a budget.
#[derive(Debug)]
pub(super) struct InboundStream<S> {
    stream: S,
    budget: InboundBudget,
    frames: MessageFrames,
    /// Why nothing more is read.
    error: Option<InboundError>,
}

impl<S> InboundStream<S> {
    pub(super) fn new(stream: S, budget: InboundBudget) -> Self {
        Self { stream, budget, frames: MessageFrames::default(), error: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for InboundStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.budget.is_waiting(cx) {
            return Poll::Pending;
        }
        if let Some(error) = self.error {
            return Poll::Ready(Err(io::Error::other(error)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let this = &mut *self;
        if let Err((error, valid)) = this.frames.read(&buf.filled()[before..], &this.budget) {
            this.error = Some(error);
            // What stands before it is still handed on.
            buf.set_filled(before + valid);
            if valid == 0 {
                return Poll::Ready(Err(io::Error::other(error)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InboundStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Follows the frames of a stream.
#[derive(Debug, Default)]
struct MessageFrames {
    header: [u8; HEADER_BYTES],
    /// The bytes of the header that have come.
    header_bytes: usize,
    /// The bytes of the body that are to come.
    body_left: usize,
    /// The body of an authentication's message.
    authentication: Vec<u8>,
}

impl MessageFrames {
    /// Takes the bytes that came out of the budget. An error comes with how many of them may be
    /// read: those before the message that is refused.
    fn read(&mut self, all: &[u8], budget: &InboundBudget) -> Result<(), (InboundError, usize)> {
        let mut bytes = all;
        let mut valid = 0;
        let left = budget.left();
        let rest = left.checked_sub(bytes.len() as u64).ok_or((InboundError::TooMuch, 0))?;
        budget.set(rest);
        while !bytes.is_empty() {
            if self.header_bytes < HEADER_BYTES {
                let count = bytes.len().min(HEADER_BYTES - self.header_bytes);
                let (part, others) = bytes.split_at(count);
                self.header[self.header_bytes..][..count].copy_from_slice(part);
                self.header_bytes += count;
                bytes = others;
                if self.header_bytes == HEADER_BYTES {
                    let left = rest + bytes.len() as u64;
                    self.begin_body(left).map_err(|error| (error, valid))?;
                    let to_come = self.body_left as u64;
                    if to_come > LARGE_BYTES && to_come > bytes.len() as u64 {
                        budget.announce(to_come);
                    }
                }
            } else {
                let (part, others) = bytes.split_at(bytes.len().min(self.body_left));
                self.body_left -= part.len();
                bytes = others;
                if self.header[0] == AUTHENTICATION {
                    self.authentication.extend_from_slice(part);
                }
            }
            if self.header_bytes == HEADER_BYTES && self.body_left == 0 {
                self.header_bytes = 0;
                let message = std::mem::take(&mut self.authentication);
                check_iterations(&message).map_err(|error| (error, valid))?;
                valid = all.len() - bytes.len();
            }
        }
        Ok(())
    }

    /// The header is whole; `left` bytes may still come, this message's body among them.
    fn begin_body(&mut self, left: u64) -> Result<(), InboundError> {
        let [kind, length @ ..] = self.header;
        let length = u32::from_be_bytes(length) as usize;
        let length = length.checked_sub(HEADER_BYTES - 1).ok_or(InboundError::BadLength)?;
        if length as u64 > left || kind == AUTHENTICATION && length > AUTHENTICATION_BYTES_MAX {
            return Err(InboundError::TooMuch);
        }
        self.body_left = length;
        Ok(())
    }
}

/// Checks how much work a message of an authentication asks for, if it is one that does.
fn check_iterations(message: &[u8]) -> Result<(), InboundError> {
    let Some(text) = message.strip_prefix(SASL_CONTINUE) else { return Ok(()) };
    let iterations = text.split(|byte| *byte == b',').find_map(|part| part.strip_prefix(b"i="));
    let count = iterations
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse::<u64>().ok());
    match count {
        // What cannot be read is refused by the driver.
        Some(count) if count > ITERATIONS_MAX => Err(InboundError::ExpensivePassword),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    fn read_in_pieces(bytes: &[u8], size: usize, budget: u64) -> Result<u64, InboundError> {
        let budget = InboundBudget::new(budget);
        let mut frames = MessageFrames::default();
        for piece in bytes.chunks(size) {
            frames.read(piece, &budget).map_err(|(error, _)| error)?;
        }
        Ok(budget.left())
    }

    #[test]
    fn a_message_beyond_the_budget_is_refused_at_its_header() {
        let row = message(b'D', &[7; 100]);
        let two = [row.clone(), row.clone()].concat();
        for size in [1, 3, 5, 64, 1_000] {
            assert_eq!(read_in_pieces(&two, size, 210), Ok(0), "pieces of {size}");
            assert_eq!(read_in_pieces(&two, size, 209), Err(InboundError::TooMuch), "of {size}");
        }
        let huge = [b'D', 0x7f, 0xff, 0xff, 0xff];
        assert_eq!(read_in_pieces(&huge, 5, 1_000), Err(InboundError::TooMuch));
        assert_eq!(read_in_pieces(&[b'D', 0, 0, 0, 3], 5, 1_000), Err(InboundError::BadLength));
    }

    #[tokio::test]
    async fn a_large_message_is_read_once_it_is_admitted() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let (mut server, client) = tokio::io::duplex(1 << 20);
        let budget = InboundBudget::new(1 << 20);
        let mut stream = InboundStream::new(client, budget.clone());
        let small = message(b'D', &[1; 1_000]);
        let large = message(b'D', &vec![2; 100_000]);
        server.write_all(&[small.clone(), large.clone()].concat()).await.unwrap();
        let mut first = vec![0; small.len() + HEADER_BYTES];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(budget.large_message().await, 100_000);
        let mut rest = vec![0; 100_000];
        {
            let mut reading = std::pin::pin!(stream.read_exact(&mut rest));
            assert!(futures_util::future::poll_immediate(&mut reading).await.is_none());
            budget.admit();
            reading.await.unwrap();
        }
        assert_eq!(rest, vec![2; 100_000]);
        assert_eq!(budget.left(), (1 << 20) - (small.len() + large.len()) as u64);
    }

    #[test]
    fn a_password_that_takes_long_is_refused() {
        for size in [1, 7, 500] {
            let asks = |count: &str| {
                let text = format!("r=abc,s=c2FsdA==,i={count}");
                let body = [SASL_CONTINUE, text.as_bytes()].concat();
                read_in_pieces(&message(AUTHENTICATION, &body), size, 10_000)
            };
            assert!(asks("4096").is_ok() && asks("100000").is_ok());
            assert_eq!(asks("100001"), Err(InboundError::ExpensivePassword));
            assert_eq!(asks("4294967295"), Err(InboundError::ExpensivePassword));
        }
        let long = message(AUTHENTICATION, &[0; AUTHENTICATION_BYTES_MAX + 1]);
        assert_eq!(read_in_pieces(&long, 64, 10_000), Err(InboundError::TooMuch));
    }
}
