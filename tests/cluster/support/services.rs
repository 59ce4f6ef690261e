//! The API server's way to Services: a proxy that it asks (`CONNECT`) for a connection to a cluster
//! address. Like a node's rules, the proxy connects it with one of the endpoints behind the
//! Service.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

use super::until;

/// The longest head of a request that is read.
const HEAD_LINES_MAX: usize = 20;

/// The endpoints behind each Service, by its cluster address and port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Services {
    services: Arc<Mutex<HashMap<String, Service>>>,
}

/// The endpoints of one Service.
#[derive(Debug, Clone, Default)]
struct Service {
    behind: Vec<SocketAddr>,
    /// Connections hold a receiver each; a message ends them.
    cut: watch::Sender<()>,
}

impl Services {
    /// Replaces the endpoints of a Service.
    pub(crate) fn set(&self, address: &str, behind: Vec<SocketAddr>) {
        self.services.lock().unwrap().entry(address.to_owned()).or_default().behind = behind;
    }

    /// Ends all connections to a Service, and waits until the API server has closed its side of
    /// them too: its next request goes over a new one.
    pub(crate) async fn cut(&self, address: &str) {
        let cut = self.service(address).cut;
        cut.send_replace(());
        until("connections are closed", async || (cut.receiver_count() == 0).then_some(())).await;
    }

    /// Answers `CONNECT` on a Unix socket, as long as its runtime lives.
    pub(crate) fn serve(self, socket: &Path) {
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(self.clone().connect(stream));
            }
        });
    }

    fn service(&self, address: &str) -> Service {
        self.services.lock().unwrap().get(address).cloned().unwrap_or_default()
    }

    async fn connect(self, stream: UnixStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        let service = self.service(&connect_target(&mut stream).await?);
        let mut cut = service.cut.subscribe();
        let Some(mut behind) = reach(&service.behind).await else {
            return stream.write_all(b"HTTP/1.1 503 nobody answers\r\n\r\n").await.ok();
        };
        stream.write_all(b"HTTP/1.1 200 connected\r\n\r\n").await.ok()?;
        tokio::select! {
            done = tokio::io::copy_bidirectional(&mut stream, &mut behind) => {
                return done.ok().map(drop);
            }
            cut = cut.changed() => cut.ok()?,
        }
        drop(behind);
        stream.shutdown().await.ok()?;
        stream.read_to_end(&mut Vec::new()).await.ok().map(drop)
    }
}

/// A connection to a random endpoint: the rules of a node do not check which one answers.
async fn reach(behind: &[SocketAddr]) -> Option<TcpStream> {
    TcpStream::connect(fastrand::choice(behind)?).await.ok()
}

/// The address that a `CONNECT` names.
async fn connect_target(stream: &mut BufReader<UnixStream>) -> Option<String> {
    let mut head = Vec::new();
    for _ in 0..HEAD_LINES_MAX {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        if line.trim().is_empty() {
            break;
        }
        head.push(line);
    }
    let mut words = head.first()?.split(' ');
    (words.next()? == "CONNECT").then(|| words.next().map(str::to_owned))?
}
