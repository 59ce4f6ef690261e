//! A server whose answer never ends: it takes one request a connection, and then sends the same few
//! bytes for ever. It counts the bytes that it sent until the connection ended.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::pki::{Asks, Pki, profile};

/// How long a test waits for the end of a connection. A flood that is not cut off fails here.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes in our own kernel buffer count as sent, so it is kept small.
const SEND_BUFFER: u32 = 64 * 1024;
/// Crumbs that need not travel one by one are written this many bytes at a time.
const WRITTEN_AT_ONCE: usize = 16 * 1024;

const H2_PREFACE: usize = 24;
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// The shape of a flood.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    head: Vec<u8>,
    crumb: Vec<u8>,
    apart: bool,
    begins: Begins,
    rekeyed: bool,
}

/// When the crumbs begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Begins {
    /// With the head.
    #[default]
    AtOnce,
    /// Once the client has reset its stream.
    AfterReset,
    /// Once the test signals it.
    WhenTold,
}

impl Script {
    /// Sends `head` once, behind the request, and `crumb` for ever.
    pub(crate) fn new(head: impl Into<Vec<u8>>, crumb: impl Into<Vec<u8>>) -> Self {
        Self { head: head.into(), crumb: crumb.into(), ..Self::default() }
    }

    /// Each crumb is written by itself: over TLS it is a record of its own.
    pub(crate) fn apart(self) -> Self {
        Self { apart: true, ..self }
    }

    /// Over TLS 1.3 and HTTP/1.1: a key update goes before each crumb.
    pub(crate) fn rekeyed(self) -> Self {
        Self { rekeyed: true, ..self }
    }

    /// The crumbs begin once the test signals it.
    pub(crate) fn when_told(self) -> Self {
        Self { begins: Begins::WhenTold, ..self }
    }

    /// The crumbs begin once the client has reset its stream.
    pub(crate) fn after_reset(self) -> Self {
        Self { begins: Begins::AfterReset, ..self }
    }
}

/// The server.
pub(crate) struct Flood {
    address: SocketAddr,
    scheme: &'static str,
    sent: watch::Receiver<u64>,
    ended: watch::Receiver<usize>,
    told: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct State {
    script: Script,
    http2: bool,
    sent: watch::Sender<u64>,
    ended: watch::Sender<usize>,
    told: watch::Receiver<bool>,
}

impl Flood {
    /// HTTP/1.1 without TLS.
    pub(crate) fn plain(script: Script) -> Self {
        Self::start(script, None)
    }

    /// HTTP/1.1 over mutual TLS.
    pub(crate) fn tls(pki: &Pki, script: Script) -> Self {
        Self::start(script, Some(pki.server(&profile(), Asks::Always)))
    }

    /// HTTP/2 over mutual TLS. The request is stream 1.
    pub(crate) fn http2(pki: &Pki, script: Script) -> Self {
        let mut config = pki.server(&profile(), Asks::Always);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::start(script, Some(config))
    }

    fn start(script: Script, config: Option<ServerConfig>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(SEND_BUFFER).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if config.is_some() { "https" } else { "http" };
        let http2 = config.as_ref().is_some_and(|config| !config.alpn_protocols.is_empty());
        let (sent, sent_read) = watch::channel(0);
        let (ended, ended_read) = watch::channel(0);
        let (told, told_read) = watch::channel(false);
        let state = Arc::new(State { script, http2, sent, ended, told: told_read });
        let tls = config.map(|config| TlsAcceptor::from(Arc::new(config)));
        let server = tokio::spawn(accept(listener, tls, state));
        Self { address, scheme, sent: sent_read, ended: ended_read, told, server }
    }

    /// The URL of `path` at this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The bytes of crumbs that went out so far, over all connections.
    pub(crate) fn sent(&self) -> u64 {
        *self.sent.borrow()
    }

    /// Lets the crumbs of a script begin that waits for it.
    pub(crate) fn begin(&self) {
        self.told.send_replace(true);
    }

    /// Waits until so many connections have ended.
    pub(crate) async fn ended(&self, count: usize) {
        let mut ended = self.ended.clone();
        let reached = tokio::time::timeout(PATIENCE, ended.wait_for(|ended| *ended >= count)).await;
        let reached = reached.is_ok();
        assert!(
            reached,
            "{} of {count} connections ended, {} bytes were taken",
            *self.ended.borrow(),
            self.sent()
        );
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let tls = tls.clone();
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let Some(tls) = tls else { return state.serve(stream).await };
            match tls.accept(stream).await {
                Ok(stream) if state.script.rekeyed => state.rekey(stream).await,
                Ok(stream) => state.serve(stream).await,
                Err(_) => {}
            }
        });
    }
}

impl State {
    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + 'static) {
        let (mut read, mut write) = split(stream);
        let (seen, mut saw) = watch::channel(Seen::default());
        // The client's frames are taken for as long as the connection lives, so that nothing is
        // held back by them.
        let reading = if self.http2 {
            tokio::spawn(async move { read_frames(&mut read, &seen).await })
        } else {
            tokio::spawn(async move { read_heads(&mut read, &seen).await })
        };
        self.flood(&mut write, &mut saw).await;
        reading.abort();
        self.ended.send_modify(|ended| *ended += 1);
    }

    async fn rekey(&self, mut stream: TlsStream<TcpStream>) {
        let (seen, _) = watch::channel(Seen::default());
        let flooding = async {
            read_head(&mut stream, &seen).await?;
            stream.write_all(&self.script.head).await.ok()?;
            loop {
                stream.get_mut().1.refresh_traffic_keys().ok()?;
                stream.write_all(&self.script.crumb).await.ok()?;
                stream.flush().await.ok()?;
                self.sent.send_modify(|sent| *sent += self.script.crumb.len() as u64);
            }
        };
        let _: Option<()> = flooding.await;
        self.ended.send_modify(|ended| *ended += 1);
    }

    /// Returns when the client takes no more.
    async fn flood(
        &self,
        write: &mut (impl AsyncWrite + Unpin),
        saw: &mut watch::Receiver<Seen>,
    ) -> Option<()> {
        if self.http2 {
            write
                .write_all(&[frame(SETTINGS, 0, 0, b""), frame(SETTINGS, ACK, 0, b"")].concat())
                .await
                .ok()?;
            write.flush().await.ok()?;
        }
        saw.wait_for(|seen| seen.request).await.ok()?;
        write.write_all(&self.script.head).await.ok()?;
        write.flush().await.ok()?;
        match self.script.begins {
            Begins::AtOnce => {}
            Begins::AfterReset => drop(saw.wait_for(|seen| seen.reset).await.ok()?),
            Begins::WhenTold => drop(self.told.clone().wait_for(|told| *told).await.ok()?),
        }
        let at_once =
            if self.script.apart { 1 } else { WRITTEN_AT_ONCE.div_ceil(self.script.crumb.len()) };
        let crumbs = self.script.crumb.repeat(at_once);
        loop {
            write.write_all(&crumbs).await.ok()?;
            write.flush().await.ok()?;
            self.sent.send_modify(|sent| *sent += crumbs.len() as u64);
        }
    }
}

/// The bytes that the client has sent so far.
#[derive(Debug, Default)]
struct Seen {
    request: bool,
    reset: bool,
}

async fn read_heads(read: &mut (impl AsyncRead + Unpin), seen: &watch::Sender<Seen>) -> Option<()> {
    loop {
        read_head(read, seen).await?;
    }
}

async fn read_head(read: &mut (impl AsyncRead + Unpin), seen: &watch::Sender<Seen>) -> Option<()> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if read.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    seen.send_modify(|seen| seen.request = true);
    Some(())
}

async fn read_frames(
    read: &mut (impl AsyncRead + Unpin),
    seen: &watch::Sender<Seen>,
) -> Option<()> {
    read.read_exact(&mut [0; H2_PREFACE]).await.ok()?;
    let mut payload = Vec::new();
    loop {
        let mut head = [0; 9];
        read.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        payload.resize(length as usize, 0);
        read.read_exact(&mut payload).await.ok()?;
        match head[3] {
            HEADERS => seen.send_modify(|seen| seen.request = true),
            RST_STREAM => seen.send_modify(|seen| seen.reset = true),
            _ => {}
        }
    }
}

/// A frame of HTTP/2.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block: `:status` 103.
pub(crate) const EARLY_HINTS: &[u8] = b"\x08\x03103";
/// A header block: `:status` 200 and `content-type: application/json`.
pub(crate) const JSON: &[u8] = b"\x88\x0f\x10\x10application/json";
