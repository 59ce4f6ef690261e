//! Where requests come in: addresses, listeners, and the loop that takes connections within a
//! bound.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};
use tokio_rustls::TlsAcceptor;

use super::connection::{self, Handler};
use super::connection_table::{ConnectionSlot, ConnectionTable, SWEEP_INTERVAL};
use super::port::{Port, PortLimits};

/// An address to listen on: `127.0.0.1:7070`, `[::1]:7070`, `localhost:7070` or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
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

impl FromStr for ListenAddress {
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
        address
            .map(Self::Tcp)
            .map_err(|_| "expected `IP:PORT`, `localhost:PORT` or `unix:/path`".to_owned())
    }
}

impl fmt::Display for ListenAddress {
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
    pub address: ListenAddress,
    /// Why not.
    pub source: io::Error,
}

/// A bound socket. A Unix socket's file is removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: ListenSocket,
    address: ListenAddress,
    inode: Option<u64>,
}

#[derive(Debug)]
enum ListenSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds `address`; `socket_mode` are the permissions of a Unix socket.
    #[allow(
        clippy::unused_async,
        reason = "a socket belongs to a runtime, which an async function always has"
    )]
    pub async fn bind(address: &ListenAddress, socket_mode: u32) -> Result<Self, BindError> {
        let failed = |source| BindError { address: address.clone(), source };
        match address {
            ListenAddress::Tcp(tcp) => {
                let listener = listen_tcp(*tcp).map_err(failed)?;
                let address = ListenAddress::Tcp(listener.local_addr().map_err(failed)?);
                Ok(Self { socket: ListenSocket::Tcp(listener), address, inode: None })
            }
            ListenAddress::Unix(path) => {
                let (listener, inode) = bind_unix(path, socket_mode).map_err(failed)?;
                Ok(Self {
                    socket: ListenSocket::Unix(listener),
                    address: address.clone(),
                    inode: Some(inode),
                })
            }
        }
    }

    async fn accept(&self) -> io::Result<AcceptedStream> {
        match &self.socket {
            ListenSocket::Tcp(tcp) => {
                tcp.accept().await.map(|(stream, _)| AcceptedStream::Tcp(stream))
            }
            ListenSocket::Unix(unix) => {
                unix.accept().await.map(|(stream, _)| AcceptedStream::Unix(stream))
            }
        }
    }

    /// Where it listens; a port 0 has become the real one.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }
}

/// Connections that the kernel keeps for us until they are taken. One more is not answered until
/// its client has asked again, a second later; the system's own bound (`somaxconn`) is 4096 since
/// Linux 5.4.
const BACKLOG: u32 = 4096;

/// Bytes of answers that the kernel holds for a connection whose peer does not read: Linux takes
/// twice as many as it is told, and 4 MiB of each where it is left to itself.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // What `TcpListener::bind` does too: connections of before that linger are not in the way.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A socket file that nobody listens on is a crashed predecessor's, and is replaced.
fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, u64)> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file that is no socket is in the way",
            ));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it"));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let socket = bind_private(path, mode)?;
    // As wide as was asked for, whatever the umask. Nobody connects before it listens.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok((socket.listen(BACKLOG)?, std::fs::metadata(path)?.ino()))
}

/// Binds a socket that does not listen yet. Its file never has wider permissions than `mode`: Linux
/// makes it with those of the socket, less the umask (unix(7): "The permissions of the socket").
fn bind_private(path: &Path, mode: u32) -> io::Result<UnixSocket> {
    let socket = UnixSocket::new_stream()?;
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
    socket.bind(path)?;
    Ok(socket)
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ListenAddress::Unix(path) = &self.address else { return };
        if std::fs::metadata(path).is_ok_and(|found| Some(found.ino()) == self.inode) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How long to wait for a place to be given up after the system refused a connection (out of file
/// descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes connections for as long as it is polled. Dropping it closes the listener, not the
/// connections.
pub async fn accept<A: Handler>(listener: Listener, handler: A, limits: PortLimits, port: Port) {
    accept_loop(listener, None, handler, limits, port).await;
}

/// The same over TLS. A handshake has as long as the head of a request.
pub async fn accept_tls<A: Handler>(
    listener: Listener,
    tls: Arc<ServerConfig>,
    handler: A,
    limits: PortLimits,
    port: Port,
) {
    accept_loop(listener, Some(tls.into()), handler, limits, port).await;
}

async fn accept_loop<A: Handler>(
    listener: Listener,
    tls: Option<TlsAcceptor>,
    handler: A,
    limits: PortLimits,
    port: Port,
) {
    let table = ConnectionTable::new(limits, port.metrics.clone());
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    let mut is_failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = sweep.tick() => {
                table.end_expired();
                continue;
            }
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                if !is_failing {
                    tracing::warn!(%error, address = %listener.address, "a connection could not be \
                         taken");
                }
                is_failing = true;
                // The system may be out of what a connection needs: then one of ours ends for it,
                // as where there is no place.
                table.evict();
                table.wait_for_end(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if is_failing {
            tracing::info!(address = %listener.address, "connections are taken again");
            is_failing = false;
        }
        let slot = table.acquire_slot(tls.is_some()).await;
        let (handler, shared, tls) = (handler.clone(), port.clone(), tls.clone());
        port.tasks.spawn(async move { serve_stream(stream, tls, handler, shared, &slot).await });
    }
}

async fn serve_stream<A: Handler>(
    stream: AcceptedStream,
    tls: Option<TlsAcceptor>,
    handler: A,
    port: Port,
    slot: &ConnectionSlot,
) {
    match (stream, tls) {
        (AcceptedStream::Tcp(tcp), Some(tls)) => {
            let _ = tcp.set_nodelay(true);
            let handshake = tokio::select! {
                handshake = tls.accept(tcp) => handshake,
                _ = slot.progress.wait_for_eviction() => return,
            };
            match handshake {
                Ok(secured) => {
                    slot.progress.end_handshake();
                    connection::serve_connection(secured, true, handler, port, slot).await;
                }
                Err(error) => {
                    port.metrics.handshakes_failed.inc();
                    tracing::debug!(%error, "a TLS handshake failed");
                }
            }
        }
        (AcceptedStream::Tcp(tcp), None) => {
            let _ = tcp.set_nodelay(true);
            connection::serve_connection(tcp, true, handler, port, slot).await;
        }
        (AcceptedStream::Unix(unix), _) => {
            connection::serve_connection(unix, false, handler, port, slot).await;
        }
    }
}

enum AcceptedStream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_socket_is_never_wider_than_asked_and_nobody_connects_before_it_is_right() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o660, 0o606, 0o000] {
            let path = dir.path().join(format!("{mode:o}"));
            let _bound = bind_private(&path, mode).unwrap();
            let made = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(made & !mode, 0, "{made:o} where {mode:o} was asked for");
            let refused = std::os::unix::net::UnixStream::connect(&path).unwrap_err();
            assert!(matches!(
                refused.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::PermissionDenied
            ));
        }
    }

    #[test]
    fn addresses_are_read_and_written_alike() {
        for text in ["127.0.0.1:7070", "[::1]:7070", "unix:/run/bfb.sock"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        assert_eq!("localhost:1".parse::<ListenAddress>().unwrap().to_string(), "127.0.0.1:1");
        for wrong in ["7070", "unix:relative", "example.com:80", ""] {
            assert!(wrong.parse::<ListenAddress>().is_err(), "{wrong}");
        }
    }
}
