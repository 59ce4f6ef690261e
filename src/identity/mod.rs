//! Our identity towards the upstreams, and the proof of theirs.
//!
//! An [`Identity`] is read from files and followed as they change. A [`Connector`] opens
//! connections with one generation of it, and hands out none before it is proven: TLS 1.3 (1.2 by
//! flag), a chain to `ca.crt`, exactly the expected server identity, and a server that asked for
//! our certificate. That is the promise *Mutual*. HTTP, retries and deadlines belong to `sources`.

mod certificate;
mod config;
mod connection;
mod connector;
mod error;
mod file_error;
mod files;
pub mod issue;
mod metrics;
mod probe;
mod proof;
mod response_heads;
mod revocation;
mod rotation;
mod start_tls;
mod tls_error;
mod traffic_meter;
mod verifier;

use std::path::PathBuf;

pub use certificate::{Certificate, format_timestamp, is_past_expiry};
pub use config::{IdentityConfig, IdentityConfigError, RotatingIdentity};
pub use connection::{MutualConnection, MutualityProof};
pub use connector::Connector;
pub use error::{ConnectError, ConnectErrorKind};
pub use files::{Identity, IdentityPem};
pub use metrics::IdentityMetrics;
pub use probe::{
    Inspection, ProbeRefusal, inspect, inspect_with_authorities, probe_without_certificate,
};
pub use rotation::follow_files;
pub use traffic_meter::{Flooded, TrafficMeter};

use files::aws_lc as provider;

/// Where the identity's files are.
#[derive(Debug, Clone)]
pub struct IdentityPaths {
    /// Holds `tls.crt`, `tls.key` and, unless `ca` is given, `ca.crt`; and `crl.pem`, where
    /// certificates were revoked.
    pub dir: PathBuf,
    /// `--ca`: where the trusted certificates are instead.
    pub ca: Option<PathBuf>,
}

/// Why files did not make an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct IdentityError {
    /// The file, the value found and the value expected.
    pub message: String,
    /// Whether a file cannot be had at all; otherwise one holds something else than it should.
    pub is_missing: bool,
}

/// The options of TLS to all upstreams.
#[derive(Debug, Clone, Copy, Default)]
pub struct TlsOptions {
    /// `--tls12`: also speak TLS 1.2.
    pub tls12: bool,
}

/// Makes aws-lc the cryptography of everything in this process that asks for the default. Call it
/// first in `main`; calling it again does nothing.
pub fn install_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
