//! What a server makes us do on one connection without answering, and where that ends.
//!
//! A server can keep its client busy for ever and break no rule of any protocol: informational
//! responses, frames that are allowed at any moment, TLS records of one byte, data for a request
//! that was given up. The HTTP libraries bound some of these, each by itself. So whatever arrives
//! is charged to the connection's [`TrafficMeter`] at about what it costs us, and what becomes part
//! of an answer is credited. Once the charges exceed the credits by an allowance, the next read
//! fails with [`Flooded`], which ends the connection with all that is on it.
//!
//! Charges and credits are in bytes as they cost when they arrive in large pieces (about a
//! nanosecond each).

use std::error::Error;
use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::response_heads::ResponseHeads;

/// How far charges may exceed credits. What is on its way for requests that we gave up is never
/// credited, which is at most what HTTP/2 flow control lets the server send: about what the network
/// holds.
const ALLOWANCE: u64 = 4 * 1024 * 1024;
/// How much further for each request that may be under way: their heads may all arrive before the
/// first is credited.
const ALLOWANCE_PER_REQUEST: u64 = 64 * 1024;
/// A read of the socket: a system call and a task that is woken.
const READ_COST: u64 = 1024;
/// A TLS record: its tag is checked, its buffer moved.
const RECORD_COST: u64 = 512;
/// An HTTP/2 frame: a lock, a look-up of its stream, often a frame in return.
const FRAME_COST: u64 = 1024;
/// A byte of HTTP/1.1: most are of a body, and credited, but those of an informational response are
/// looked at one by one.
const HTTP1_BYTE_COST: u64 = 16;
/// A byte of an HTTP/2 header block, which may stand for a whole header.
const HEADER_BLOCK_BYTE_COST: u64 = 32;
/// With so many bytes a block has as many headers as the list's bound allows: what is longer has
/// longer ones, not more.
const HEADER_BLOCK_BYTES_MAX: u64 = 4 * 1024;

/// What an answer's head is worth, and each byte of it.
const HEAD_CREDIT: u64 = 64 * 1024;
const HEAD_BYTE_CREDIT: u64 = HEADER_BLOCK_BYTE_COST;
/// What a piece of a body is worth: more than a frame in a record in a read of its own costs.
/// `sources` bounds their number.
const PIECE_CREDIT: u64 = 4 * 1024;
const PIECE_BYTE_CREDIT: u64 = 2 * HTTP1_BYTE_COST;

/// The account of one connection; its clones are the same account. It is among the extensions of
/// every response, so that whoever reads the response can credit it.
#[derive(Debug, Clone)]
pub struct TrafficMeter {
    account: Arc<ByteAccount>,
}

#[derive(Debug)]
struct ByteAccount {
    /// Charges beyond credits.
    spent: AtomicU64,
    /// They went too far once: no credit makes up for that.
    flooded: AtomicBool,
    /// The socket is gone.
    ended: CancellationToken,
    /// How many requests were begun on it (HTTP/1.1 only).
    exchanges: AtomicU64,
    /// `None`: whatever is spent, the connection stays.
    limit: Option<FloodLimit>,
}

/// Where a flood ends.
#[derive(Debug, Clone)]
pub(super) struct FloodLimit {
    allowance: u64,
    /// Counts connections that were ended.
    ended: Counter,
}

impl FloodLimit {
    /// For connections that may have so many requests under way.
    pub(super) fn new(requests_max: NonZeroUsize, ended: Counter) -> Self {
        let more = ALLOWANCE_PER_REQUEST.saturating_mul(requests_max.get() as u64);
        Self { allowance: ALLOWANCE.saturating_add(more), ended }
    }
}

impl TrafficMeter {
    pub(super) fn new(limit: Option<FloodLimit>) -> Self {
        let account = ByteAccount {
            spent: AtomicU64::new(0),
            flooded: AtomicBool::new(false),
            ended: CancellationToken::new(),
            exchanges: AtomicU64::new(0),
            limit,
        };
        Self { account: Arc::new(account) }
    }

    /// Returns once the connection is gone, for whatever reason.
    pub async fn ended(&self) {
        self.account.ended.cancelled().await;
    }

    /// Whether the other one is this connection's too.
    pub fn is_of_same_connection(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.account, &other.account)
    }

    /// Whether a request went out on its connection, of HTTP/1.1.
    pub(super) fn has_begun_exchange(&self) -> bool {
        self.account.exchanges.load(Ordering::Relaxed) > 0
    }

    /// Whether its connection, of HTTP/1.1, carried another request before the last one.
    pub fn is_of_reused_connection(&self) -> bool {
        self.account.exchanges.load(Ordering::Relaxed) > 1
    }

    /// An answer's head was read, with headers of so many bytes.
    pub fn credit_head(&self, bytes: usize) {
        self.credit(HEAD_CREDIT + HEAD_BYTE_CREDIT * bytes as u64);
    }

    /// A piece of an answer's body was read.
    pub fn credit_piece(&self, bytes: usize) {
        self.credit(PIECE_CREDIT + PIECE_BYTE_CREDIT * bytes as u64);
    }

    fn credit(&self, credit: u64) {
        let spent = &self.account.spent;
        // The closure never refuses.
        let _ = spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spent| {
            Some(spent.saturating_sub(credit))
        });
    }

    /// Fails once the allowance is used up, and then for good.
    fn charge(&self, charge: u64) -> io::Result<()> {
        let Some(limit) = &self.account.limit else { return Ok(()) };
        let spent = self.account.spent.fetch_add(charge, Ordering::Relaxed) + charge;
        if spent <= limit.allowance && !self.account.flooded.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !self.account.flooded.swap(true, Ordering::Relaxed) {
            limit.ended.inc();
        }
        Err(io::Error::new(Flooded::IO_KIND, Flooded))
    }
}

/// The server sent too much that was no part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it sent too much that is no part of an answer")]
pub struct Flooded;

impl Flooded {
    /// The HTTP/2 library keeps nothing of an error but its kind and its words; nothing else on a
    /// connection has this kind.
    const IO_KIND: io::ErrorKind = io::ErrorKind::QuotaExceeded;

    /// Whether `error` came of it.
    pub fn is_cause_of(error: &(dyn Error + 'static)) -> bool {
        let mut chain = std::iter::successors(Some(error), |&error| error.source());
        chain.any(|error| {
            error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == Self::IO_KIND)
        })
    }
}

/// A stream whose reads are charged.
#[derive(Debug)]
pub(super) struct MeteredStream<S> {
    stream: S,
    meter: TrafficMeter,
    /// Its reads are system calls.
    is_socket: bool,
    has_read: bool,
    layer: Layer,
}

/// How the bytes of a stream are charged, beside its reads.
#[derive(Debug)]
enum Layer {
    Framed(FrameCounter),
    Http1(ResponseHeads),
}

/// A socket below HTTP or TLS.
pub(super) type Socket = MeteredStream<TcpStream>;

impl Socket {
    /// For HTTP without TLS.
    pub(super) fn bare(stream: TcpStream, meter: TrafficMeter) -> Self {
        Self {
            stream,
            meter,
            is_socket: true,
            has_read: false,
            layer: Layer::Http1(ResponseHeads::default()),
        }
    }

    /// For TLS.
    pub(super) fn below_tls(stream: TcpStream, meter: TrafficMeter) -> Self {
        Self {
            stream,
            meter,
            is_socket: true,
            has_read: false,
            layer: Layer::Framed(FrameCounter::of(Framing::Tls)),
        }
    }
}

impl<S> MeteredStream<S> {
    /// What TLS decrypts, charged to the account of the socket below.
    pub(super) fn above_tls(stream: S, meter: TrafficMeter, is_http2: bool) -> Self {
        let layer = if is_http2 {
            Layer::Framed(FrameCounter::of(Framing::Http2))
        } else {
            Layer::Http1(ResponseHeads::default())
        };
        Self { stream, meter, is_socket: false, has_read: false, layer }
    }

    pub(super) fn get_ref(&self) -> &S {
        &self.stream
    }

    pub(super) fn meter(&self) -> &TrafficMeter {
        &self.meter
    }

    /// Whether a byte has come.
    pub(super) fn has_read(&self) -> bool {
        self.has_read
    }

    fn charge(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.has_read = true;
        let read = if self.is_socket { READ_COST + bytes.len() as u64 } else { 0 };
        let layer = match &mut self.layer {
            Layer::Framed(frames) => frames.charge(bytes),
            Layer::Http1(_) => HTTP1_BYTE_COST * bytes.len() as u64,
        };
        self.meter.charge(read + layer)
    }

    /// Something was written.
    fn note_write(&mut self, written: &Poll<io::Result<usize>>) {
        if let (Layer::Http1(heads), Poll::Ready(Ok(1..))) = (&mut self.layer, written)
            && heads.begin_exchange()
        {
            self.meter.account.exchanges.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<S> Drop for MeteredStream<S> {
    fn drop(&mut self) {
        if self.is_socket {
            self.meter.account.ended.cancel();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Layer::Http1(heads) = &this.layer
            && heads.has_ended()
        {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.charge(&buf.filled()[before..])?;
        if let Layer::Http1(heads) = &mut this.layer {
            let accepted = heads.accept(&buf.filled()[before..]);
            buf.set_filled(before + accepted);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(&written);
        written
    }
}

/// Whose frames a stream consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Records: type, version, length (RFC 8446, section 5.1).
    Tls,
    /// Frames: length, type, flags, stream (RFC 9113, section 4.1).
    Http2,
}

/// Finds the frames in a stream by their headers, however it is cut. What is not as it should be
/// ends the stream elsewhere.
#[derive(Debug)]
struct FrameCounter {
    framing: Framing,
    header: [u8; 9],
    /// How much of the header is there.
    header_filled: usize,
    /// What is left of the payload.
    payload_left: usize,
}

impl FrameCounter {
    fn of(framing: Framing) -> Self {
        Self { framing, header: [0; 9], header_filled: 0, payload_left: 0 }
    }

    /// What the frames cost that begin in `bytes`.
    fn charge(&mut self, mut bytes: &[u8]) -> u64 {
        let mut charge = 0;
        loop {
            let skipped = self.payload_left.min(bytes.len());
            self.payload_left -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return charge;
            }
            let header_len = match self.framing {
                Framing::Tls => 5,
                Framing::Http2 => 9,
            };
            let (more, rest) = bytes.split_at(bytes.len().min(header_len - self.header_filled));
            self.header[self.header_filled..self.header_filled + more.len()].copy_from_slice(more);
            self.header_filled += more.len();
            bytes = rest;
            if self.header_filled == header_len {
                self.header_filled = 0;
                charge += self.begin_payload();
            }
        }
    }

    /// The header is whole.
    fn begin_payload(&mut self) -> u64 {
        let header = self.header;
        let length = match self.framing {
            Framing::Tls => [0, 0, header[3], header[4]],
            Framing::Http2 => [0, header[0], header[1], header[2]],
        };
        let length = u32::from_be_bytes(length);
        self.payload_left = length as usize;
        match (self.framing, header[3]) {
            (Framing::Tls, _) => RECORD_COST,
            // HEADERS, PUSH_PROMISE and CONTINUATION.
            (Framing::Http2, 1 | 5 | 9) => {
                FRAME_COST + HEADER_BLOCK_BYTE_COST * u64::from(length).min(HEADER_BLOCK_BYTES_MAX)
            }
            (Framing::Http2, _) => FRAME_COST,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_stream_is_cut() {
        let stream = [
            &[0, 0, 3, 1, 4, 0, 0, 0, 1, 7, 7, 7][..],
            &[0, 0, 0, 4, 0, 0, 0, 0, 0],
            &[0, 1, 0, 0, 0, 0, 0, 0, 1],
            &[9; 256],
            &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        ]
        .concat();
        let expected = 4 * FRAME_COST + 3 * HEADER_BLOCK_BYTE_COST;
        for size in 1..=stream.len() {
            let mut frames = FrameCounter::of(Framing::Http2);
            let charged: u64 = stream.chunks(size).map(|bytes| frames.charge(bytes)).sum();
            assert_eq!(charged, expected, "{size}");
        }
        let records = [&[23, 3, 3, 0, 2, 1, 1][..], &[23, 3, 3, 0, 0], &[22, 3, 3, 1, 0]].concat();
        for size in 1..=records.len() {
            let mut frames = FrameCounter::of(Framing::Tls);
            let charged: u64 = records.chunks(size).map(|bytes| frames.charge(bytes)).sum();
            assert_eq!(charged, 3 * RECORD_COST, "{size}");
        }
    }

    #[test]
    fn what_is_credited_may_be_spent_again_but_not_saved() {
        let meter = TrafficMeter::new(Some(FloodLimit::new(NonZeroUsize::MIN, Counter::default())));
        meter.credit_head(1 << 40);
        meter.charge(ALLOWANCE + ALLOWANCE_PER_REQUEST).unwrap();
        meter.credit_piece(1);
        meter.charge(PIECE_CREDIT + PIECE_BYTE_CREDIT).unwrap();
        assert!(Flooded::is_cause_of(&meter.charge(1).unwrap_err()));
    }

    #[test]
    fn a_flooded_connection_stays_so_and_is_counted_once() {
        let floods = Counter::default();
        let meter = TrafficMeter::new(Some(FloodLimit::new(NonZeroUsize::MIN, floods.clone())));
        meter.charge(ALLOWANCE + ALLOWANCE_PER_REQUEST + 1).unwrap_err();
        meter.credit_piece(1 << 30);
        meter.charge(1).unwrap_err();
        assert_eq!(floods.get(), 1);
    }

    #[test]
    fn an_answer_in_the_smallest_frames_pays_for_itself() {
        let meter = TrafficMeter::new(Some(FloodLimit::new(NonZeroUsize::MIN, Counter::default())));
        for _ in 0..100_000 {
            meter.charge(READ_COST + RECORD_COST + FRAME_COST + 64).unwrap();
            meter.credit_piece(1);
        }
    }
}
