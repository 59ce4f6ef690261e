//! A TLS server that records each connection: the handshake, the client's certificate, and every
//! decrypted byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Uri;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// One connection, once it is over.
#[derive(Debug)]
pub(crate) struct RecordedConnection {
    /// The kind of handshake; `None` if it failed.
    pub(crate) handshake: Option<HandshakeKind>,
    /// The client's certificate.
    pub(crate) client: Option<Vec<u8>>,
    /// The key exchange.
    pub(crate) group: Option<&'static str>,
    /// All that the client sent inside TLS.
    pub(crate) bytes: Vec<u8>,
}

/// A server on a port of its own; it answers all input with `pong`, and stops when dropped.
pub(crate) struct Recorder {
    address: SocketAddr,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    connections: mpsc::Receiver<RecordedConnection>,
    _tasks: JoinSet<()>,
}

impl Recorder {
    pub(crate) async fn start(config: ServerConfig) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Arc::new(Mutex::new(Arc::new(config)));
        let (sender, recorded) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        let current = config.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let config = current.lock().unwrap().clone();
                let sender = sender.clone();
                connections.spawn(async move {
                    let _ = sender.send(record(stream, config).await).await;
                });
            }
        });
        Self { address, config, connections: recorded, _tasks: tasks }
    }

    pub(crate) fn uri(&self) -> Uri {
        format!("https://127.0.0.1:{}", self.address.port()).parse().unwrap()
    }

    /// Changes the configuration, from the next connection on.
    pub(crate) fn become_like(&self, config: ServerConfig) {
        *self.config.lock().unwrap() = Arc::new(config);
    }

    /// The next connection that has ended.
    pub(crate) async fn next_connection(&mut self) -> RecordedConnection {
        self.connections.recv().await.unwrap()
    }
}

async fn record(stream: TcpStream, config: Arc<ServerConfig>) -> RecordedConnection {
    let mut recorded =
        RecordedConnection { handshake: None, client: None, group: None, bytes: Vec::new() };
    let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await else {
        return recorded;
    };
    let session = stream.get_ref().1;
    recorded.handshake = session.handshake_kind();
    recorded.client =
        session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
    recorded.group =
        session.negotiated_key_exchange_group().and_then(|group| group.name().as_str());
    while let Ok(count @ 1..) = stream.read_buf(&mut recorded.bytes).await {
        let _ = count;
        if stream.write_all(b"pong").await.is_err() {
            break;
        }
    }
    recorded
}

/// A server that answers the first bytes of a client with these bytes and closes.
pub(crate) async fn answering(bytes: Vec<u8>) -> (Uri, JoinSet<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let uri = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            // Waits until the client has closed: a reset would overtake the bytes just written.
            while let Ok(1..) = stream.read(&mut [0; 4096]).await {}
        }
    });
    (uri, tasks)
}
