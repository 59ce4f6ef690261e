//! Who we are to the upstreams, and who they must be to us.

use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use http::Uri;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::domain::ServerIdentity;

/// Where the identity's files are.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Holds `tls.crt`, `tls.key` and, unless `ca` is given, `ca.crt`.
    pub dir: PathBuf,
    /// `--ca`: where the trusted certificates are instead.
    pub ca: Option<PathBuf>,
}

/// One generation of our identity: certificate chain, key and trust anchors, checked to belong together.
#[derive(Debug)]
pub struct Identity {
    /// Counts up with every change of the files.
    pub generation: u64,
    /// When our certificate ends.
    pub not_after: SystemTime,
}

/// Why files did not make an identity.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct IdentityError {
    /// Which file, what was met, what was expected.
    pub message: String,
}

impl Identity {
    /// Reads and checks the files.
    pub fn load(paths: &Paths, generation: u64) -> Result<Self, IdentityError> {
        let _ = (paths, generation);
        unimplemented!()
    }
}

/// Follows the files: every change that makes a valid identity is sent, a broken one is reported and counted.
pub async fn follow(paths: Paths, current: watch::Sender<Arc<Identity>>, metrics: Metrics) {
    let _ = (paths, current, metrics);
    unimplemented!()
}

/// The counters and gauges of this module.
#[derive(Debug, Clone, Default)]
pub struct Metrics {}

impl Metrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let _ = registry;
        Self::default()
    }
}

/// How TLS to upstreams is done, whoever they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct TlsOptions {
    /// `--tls12`: also speak TLS 1.2.
    pub tls12: bool,
}

/// Opens connections to one upstream, and proves each mutual before it hands it out.
#[derive(Debug, Clone)]
pub struct Connector {}

impl Connector {
    /// For `https://`: as `identity`, to exactly `server`.
    pub fn mutual(identity: Arc<Identity>, server: ServerIdentity, tls: TlsOptions, metrics: Metrics) -> Self {
        let _ = (identity, server, tls, metrics);
        unimplemented!()
    }

    /// For `http://` (`--insecure-upstreams`).
    pub fn plain() -> Self {
        unimplemented!()
    }
}

/// Why no connection came about.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct ConnectError {
    /// Which of the three it was.
    pub kind: ConnectErrorKind,
    /// In words: what was met and expected, never data.
    pub detail: String,
}

/// The kinds of [`ConnectError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectErrorKind {
    /// No TCP connection (name, refusal, route).
    Connect,
    /// TLS failed, or the certificate is not the expected one.
    Tls,
    /// The server did not ask for our certificate.
    NotMutual,
}

/// A proven connection; implements hyper's `Read` and `Write` and hyper-util's `Connection` (ALPN says HTTP/2).
#[derive(Debug)]
pub struct Connection {}

impl tower_service::Service<Uri> for Connector {
    type Response = Connection;
    type Error = ConnectError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Connection, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let _ = uri;
        unimplemented!()
    }
}
