//! Where requests come in: addresses, listeners, and the loop that takes connections within a bound.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use super::connection::{self, Answering};
use super::port::{Limits, Port};

/// An address to listen on: `127.0.0.1:7070`, `[::1]:7070`, `localhost:7070` or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Whether this is `[::1]`, which a machine without IPv6 does not have.
    pub fn is_ipv6_loopback(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.ip() == IpAddr::V6(Ipv6Addr::LOCALHOST))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err("expected `unix:/absolute/path`".into())
            };
        }
        let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let address = numeric.as_deref().unwrap_or(text).parse();
        address.map(Self::Tcp).map_err(|_| "expected `IP:PORT`, `localhost:PORT` or `unix:/path`".to_owned())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`: {source}")]
pub struct BindError {
    /// The address.
    pub address: Address,
    /// Why not.
    pub source: io::Error,
}

/// A bound socket. A Unix socket's file is removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
    inode: Option<u64>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds `address`; `socket_mode` are the permissions of a Unix socket.
    pub async fn bind(address: &Address, socket_mode: u32) -> Result<Self, BindError> {
        let failed = |source| BindError { address: address.clone(), source };
        match address {
            Address::Tcp(tcp) => {
                let listener = TcpListener::bind(tcp).await.map_err(failed)?;
                let address = Address::Tcp(listener.local_addr().map_err(failed)?);
                Ok(Self { socket: Socket::Tcp(listener), address, inode: None })
            }
            Address::Unix(path) => {
                let (listener, inode) = bind_unix(path, socket_mode).map_err(failed)?;
                Ok(Self { socket: Socket::Unix(listener), address: address.clone(), inode: Some(inode) })
            }
        }
    }

    /// Where it listens; a port 0 has become the real one.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// A socket file that nobody listens on is a crashed predecessor's, and is replaced.
fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, u64)> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is in the way"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it"));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok((listener, std::fs::metadata(path)?.ino()))
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Address::Unix(path) = &self.address else { return };
        if std::fs::metadata(path).is_ok_and(|found| Some(found.ino()) == self.inode) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How long to wait after the system refused a connection (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long to wait for a place before an idle connection is asked to end.
const CROWDED_PAUSE: Duration = Duration::from_millis(5);

/// Takes connections for as long as it is polled. Dropping it closes the listener, not the connections.
pub async fn accept<A: Answering>(listener: Listener, answering: A, limits: Limits, port: Port) {
    take(listener, None, answering, limits, port).await;
}

/// The same over TLS. A handshake has as long as the head of a request.
pub async fn accept_tls<A: Answering>(
    listener: Listener,
    tls: Arc<ServerConfig>,
    answering: A,
    limits: Limits,
    port: Port,
) {
    take(listener, Some(tls.into()), answering, limits, port).await;
}

async fn take<A: Answering>(listener: Listener, tls: Option<TlsAcceptor>, answering: A, limits: Limits, port: Port) {
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let crowded = Arc::new(Notify::new());
    loop {
        let slot = room(&slots, &crowded, &port).await;
        let accepted = match &listener.socket {
            Socket::Tcp(tcp) => tcp.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Socket::Unix(unix) => unix.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, address = %listener.address, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (answering, shared, crowded, tls) = (answering.clone(), port.clone(), crowded.clone(), tls.clone());
        port.tasks.spawn(async move {
            shared.metrics.connections.inc();
            converse(stream, tls, answering, limits, shared.clone(), &crowded).await;
            shared.metrics.connections.dec();
            drop(slot);
        });
    }
}

async fn converse<A: Answering>(
    stream: Stream,
    tls: Option<TlsAcceptor>,
    answering: A,
    limits: Limits,
    port: Port,
    crowded: &Notify,
) {
    match (stream, tls) {
        (Stream::Tcp(tcp), Some(tls)) => {
            let _ = tcp.set_nodelay(true);
            match tokio::time::timeout(limits.head, tls.accept(tcp)).await {
                Ok(Ok(secured)) => connection::serve(secured, true, answering, limits, port, crowded).await,
                failed => {
                    port.metrics.handshakes_failed.inc();
                    let why = failed.map_or("too slow".to_owned(), |shaken| {
                        shaken.err().map(|error| error.to_string()).unwrap_or_default()
                    });
                    tracing::debug!(why, "a TLS handshake failed");
                }
            }
        }
        (Stream::Tcp(tcp), None) => {
            let _ = tcp.set_nodelay(true);
            connection::serve(tcp, true, answering, limits, port, crowded).await;
        }
        (Stream::Unix(unix), _) => connection::serve(unix, false, answering, limits, port, crowded).await,
    }
}

/// A place for one more connection. While there is none, idle connections are asked to end, one at a time.
async fn room(slots: &Arc<Semaphore>, crowded: &Notify, port: &Port) -> OwnedSemaphorePermit {
    if slots.available_permits() == 0 {
        port.metrics.connections_full.inc();
    }
    loop {
        let slot = slots.clone().acquire_owned();
        if let Ok(Ok(slot)) = tokio::time::timeout(CROWDED_PAUSE, slot).await {
            return slot;
        }
        crowded.notify_one();
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for text in ["127.0.0.1:7070", "[::1]:7070", "unix:/run/bfb.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("localhost:1".parse::<Address>().unwrap().to_string(), "127.0.0.1:1");
        for wrong in ["7070", "unix:relative", "example.com:80", ""] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }
}
