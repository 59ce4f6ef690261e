//! Bound sockets: TCP, and Unix sockets whose file has exactly the configured permissions.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::Mode;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

use super::listen_address::ListenAddress;

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

    pub(super) async fn accept(&self) -> io::Result<AcceptedStream> {
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

/// Connections that the kernel queues until they are accepted. One beyond them is answered only
/// once its client has tried again, a second later; the system's own bound (`somaxconn`) is 4096
/// since Linux 5.4.
const BACKLOG: u32 = 4096;

/// Bytes of answers that the kernel holds for a connection whose peer does not read: Linux reserves
/// twice the number that is set, and up to 4 MiB where none is.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // `TcpListener::bind` sets it too: lingering connections of a predecessor do not block the
    // address.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A socket file without a listener is a crashed predecessor's, and is replaced.
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
    // The permissions are exactly `mode`, whatever the umask. No client connects before the socket
    // listens.
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

/// A connection that a listener took.
pub(super) enum AcceptedStream {
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
}
