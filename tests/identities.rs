//! The promise *Mutual*: no byte of a request goes to a server that does not prove the expected
//! identity, or that did not ask for our certificate. The servers' own logs of decrypted bytes
//! prove it.

mod probes;
mod recorder;
mod refusals;
mod requests;
mod resumption;
mod rotation;

use std::error::Error;
use std::sync::Arc;

use bfb::domain::ServerIdentity;
use bfb::identity::{
    ConnectError, Connector, Identity, IdentityMetrics, MutualConnection, TlsOptions,
};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower_service::Service as _;

use crate::support::pki::{Pki, expected};

const TLS13: TlsOptions = TlsOptions { tls12: false };
const TLS12: TlsOptions = TlsOptions { tls12: true };

/// A connector, and its counters.
struct Client {
    connector: Connector,
    metrics: IdentityMetrics,
}

impl Client {
    fn of(pki: &Pki) -> Self {
        Self::with(pki.identity(), expected(), TLS13)
    }

    fn with(identity: Arc<Identity>, server: ServerIdentity, tls: TlsOptions) -> Self {
        let metrics = IdentityMetrics::default();
        Self { connector: Connector::mutual(identity, server, tls, metrics.clone()), metrics }
    }

    async fn open(&self, uri: Uri) -> Result<MutualConnection, ConnectError> {
        self.connector.clone().call(uri).await
    }

    /// Opens a connection, exchanges bytes over it (so that tickets arrive) and closes it; returns
    /// whether it was resumed.
    async fn visit(&self, uri: Uri) -> Result<bool, ConnectError> {
        let connection = self.open(uri).await?;
        let resumed = connection.proof().unwrap().resumed;
        let mut stream = TokioIo::new(connection);
        ping(&mut stream).await.unwrap();
        let _ = stream.shutdown().await;
        Ok(resumed)
    }
}

async fn ping(stream: &mut TokioIo<MutualConnection>) -> Result<(), Box<dyn Error>> {
    stream.write_all(b"ping").await?;
    stream.flush().await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"pong");
    Ok(())
}
