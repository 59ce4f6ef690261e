//! How the API server reaches Services: it asks this proxy to connect it with a cluster address, which does what a node's rules
//! do, and hands the connection to one of those that stand behind the Service.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixListener, UnixStream};

/// The longest head of a request that is read.
const HEAD_LINES_MAX: usize = 20;

/// Who stands behind each Service, by its cluster address and port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Services {
    behind: Arc<Mutex<HashMap<String, Vec<SocketAddr>>>>,
}

impl Services {
    /// Puts these behind a Service, in the place of those before.
    pub(crate) fn set(&self, address: &str, behind: Vec<SocketAddr>) {
        self.behind.lock().unwrap().insert(address.to_owned(), behind);
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

    async fn connect(self, stream: UnixStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        let to = asked(&mut stream).await?;
        let Some(mut behind) = self.reach(&to).await else {
            return stream.write_all(b"HTTP/1.1 503 nobody stands behind it\r\n\r\n").await.ok();
        };
        stream.write_all(b"HTTP/1.1 200 connected\r\n\r\n").await.ok()?;
        tokio::io::copy_bidirectional(&mut stream, &mut behind).await.ok().map(drop)
    }

    /// A connection to one of those behind; who refuses is passed over.
    async fn reach(&self, to: &str) -> Option<TcpStream> {
        let mut behind = self.behind.lock().unwrap().get(to).cloned().unwrap_or_default();
        fastrand::shuffle(&mut behind);
        for address in behind {
            if let Ok(stream) = TcpStream::connect(address).await {
                return Some(stream);
            }
        }
        None
    }
}

/// The address that a `CONNECT` names.
async fn asked(stream: &mut BufReader<UnixStream>) -> Option<String> {
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
