//! A connection that a request may go over, with its proof.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection as Connects};
use hyper_util::rt::TokioIo;
use tokio_rustls::client::TlsStream;

use super::connector::{MutualConnector, TLS_1_3};
use super::error::{self, ConnectError};
use super::proof::HandshakeState;
use super::tls_error::closed_unanswered;
use super::traffic_meter::{MeteredStream, Socket};
use crate::domain::ServerIdentity;

/// A proven connection, or for `http://` a plain one; implements hyper's `Read` and `Write` and
/// hyper-util's `Connection` (with the protocol that ALPN negotiated).
///
/// Its [`TrafficMeter`](super::TrafficMeter), and over TLS its [`MutualityProof`], are among the
/// extensions of every response.
#[derive(Debug)]
pub struct MutualConnection {
    stream: TransportStream,
}

#[derive(Debug)]
enum TransportStream {
    Plain(TokioIo<Socket>),
    Tls(Box<TlsStreamParts>),
}

struct TlsStreamParts {
    stream: TokioIo<MeteredStream<TlsStream<Socket>>>,
    /// Tickets arrive with the first reads: they are stored because this state is proven.
    handshake_state: HandshakeState,
    proof: MutualityProof,
    connector: Arc<MutualConnector>,
}

impl fmt::Debug for TlsStreamParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStreamParts").field("proof", &self.proof).finish_non_exhaustive()
    }
}

/// The proof of a connection, made before it was handed out.
#[derive(Debug, Clone)]
pub struct MutualityProof {
    /// It resumed a session of a proven connection, and inherits its proof.
    pub resumed: bool,
    /// The protocol's version, such as `TLS 1.3`.
    pub protocol: &'static str,
    /// The cipher suite, such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// The key exchange, such as `X25519MLKEM768`; none in a resumed TLS 1.2 session.
    pub group: Option<&'static str>,
    /// The identity that the server's certificate carries.
    pub server: Arc<ServerIdentity>,
    /// Which generation of our identity it was opened with.
    pub generation: u64,
    /// How long the handshake took.
    pub handshake: Duration,
}

impl MutualConnection {
    pub(super) fn plain(stream: Socket) -> Self {
        Self { stream: TransportStream::Plain(TokioIo::new(stream)) }
    }

    pub(super) fn tls(
        stream: TlsStream<Socket>,
        state: HandshakeState,
        proof: MutualityProof,
        connector: Arc<MutualConnector>,
    ) -> Self {
        let (socket, session) = stream.get_ref();
        let meter = socket.meter().clone();
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        let stream = MeteredStream::above_tls(stream, meter, is_http2);
        let tls = TlsStreamParts {
            stream: TokioIo::new(stream),
            handshake_state: state,
            proof,
            connector,
        };
        Self { stream: TransportStream::Tls(Box::new(tls)) }
    }

    /// Its proof; `None` for a connection without TLS.
    pub fn proof(&self) -> Option<&MutualityProof> {
        match &self.stream {
            TransportStream::Plain(_) => None,
            TransportStream::Tls(tls) => Some(&tls.proof),
        }
    }
}

impl TlsStreamParts {
    /// One poll of the stream with its handshake state in place; a TLS error becomes a
    /// [`ConnectError`].
    fn poll<R, F>(&mut self, poll: F) -> Poll<io::Result<R>>
    where
        F: FnOnce(Pin<&mut TokioIo<MeteredStream<TlsStream<Socket>>>>) -> Poll<io::Result<R>>,
    {
        let stream = &mut self.stream;
        let polled = ready!(self.handshake_state.poll_with(|| poll(Pin::new(stream))));
        Poll::Ready(polled.map_err(|error| self.explain(error)))
    }

    /// One poll of a read. An end before the first byte of HTTP is an error of its own: after a TLS
    /// 1.3 handshake a server that refuses our certificate may end the connection without an alert.
    fn read(&mut self, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll(|stream| stream.poll_read(cx, buf)))?;
        if self.has_answer_bytes() {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Err(self.explain(io::ErrorKind::UnexpectedEof.into())))
    }

    /// Whether anything was sent that is to be answered: HTTP/2 begins with a preface.
    fn is_awaiting_answer(&self) -> bool {
        let metered = self.stream.inner();
        let is_http2 = metered.get_ref().get_ref().1.alpn_protocol() == Some(b"h2");
        is_http2 || metered.meter().has_begun_exchange()
    }

    fn has_answer_bytes(&self) -> bool {
        self.stream.inner().has_read()
    }

    fn explain(&self, error: io::Error) -> io::Error {
        if error::rustls_error(&error).is_none() {
            return if self.has_answer_bytes() { error } else { self.explain_closed(error) };
        }
        let fault = error::classify_tls_error(&error, &self.handshake_state, self.connector.tls);
        self.connector.count_failure(&fault);
        let server = self.proof.server.to_string();
        io::Error::new(error::TLS_ERROR, ConnectError::tls(&server, &fault))
    }

    fn explain_closed(&self, error: io::Error) -> io::Error {
        use io::ErrorKind as K;
        let closed = [K::UnexpectedEof, K::ConnectionReset, K::BrokenPipe].contains(&error.kind());
        if !closed || self.proof.protocol != TLS_1_3 {
            return error;
        }
        let fault = closed_unanswered();
        // A server may end an idle connection as it likes.
        if self.is_awaiting_answer() {
            self.connector.count_failure(&fault);
        }
        io::Error::new(error::CLOSED_UNANSWERED, ConnectError::closed_unanswered())
    }
}

impl Connects for MutualConnection {
    fn connected(&self) -> Connected {
        match &self.stream {
            TransportStream::Plain(stream) => {
                let socket = stream.inner();
                socket.get_ref().connected().extra(socket.meter().clone())
            }
            TransportStream::Tls(tls) => {
                let (socket, session) = tls.stream.inner().get_ref().get_ref();
                let connected = socket
                    .get_ref()
                    .connected()
                    .extra(socket.meter().clone())
                    .extra(tls.proof.clone());
                if session.alpn_protocol() == Some(b"h2") {
                    connected.negotiated_h2()
                } else {
                    connected
                }
            }
        }
    }
}

impl Read for MutualConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            TransportStream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            TransportStream::Tls(tls) => tls.read(cx, buf),
        }
    }
}

impl Write for MutualConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            TransportStream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            TransportStream::Tls(tls) => tls.poll(|stream| stream.poll_write(cx, buf)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            TransportStream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            TransportStream::Tls(tls) => tls.poll(|stream| stream.poll_flush(cx)),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            TransportStream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            TransportStream::Tls(tls) => tls.poll(|stream| stream.poll_shutdown(cx)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            TransportStream::Plain(stream) => stream.is_write_vectored(),
            TransportStream::Tls(tls) => tls.stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            TransportStream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            TransportStream::Tls(tls) => tls.poll(|stream| stream.poll_write_vectored(cx, bufs)),
        }
    }
}
