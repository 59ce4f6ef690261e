//! The demo's certificates: one authority, made anew at each start, that everybody in the demo
//! trusts; or files of others, where its upstreams run apart.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::upstream_state::UpstreamKind;
use crate::identity::issue::{Authority, IssuedCertificate, Leaf, Usage, Validity};

/// The identity of the demo's sidecar.
const CONSUMER: &str = "spiffe://shop.example/ns/demo/sa/consumer";

/// A demo does not run longer.
const DAYS: u32 = 30;

/// The demo's authority.
pub(super) struct Pki {
    authority: Authority,
}

impl Pki {
    pub(super) fn new() -> io::Result<Self> {
        let authority =
            Authority::new("bfb demo", Validity::days(DAYS)).map_err(io::Error::other)?;
        Ok(Self { authority })
    }

    /// Writes the sidecar's `tls.crt`, `tls.key` and `ca.crt` into `dir`.
    pub(super) fn write_consumer(&self, dir: &Path) -> io::Result<()> {
        self.issue(Leaf::new("consumer").uri(CONSUMER).usage(Usage::Client))?
            .write(dir, self.authority.ca_pem())
    }

    /// TLS as the upstream does it: 1.3 only, and nobody without a certificate of the authority
    /// gets in.
    pub(super) fn server(&self, kind: UpstreamKind) -> io::Result<ServerConfig> {
        let issued = self.issue(server_leaf(kind))?;
        server_config(&issued.cert_pem, &issued.key_pem, self.authority.ca_pem())
    }

    fn issue(&self, leaf: Leaf) -> io::Result<IssuedCertificate> {
        self.authority.issue(&leaf.valid(Validity::days(DAYS))).map_err(io::Error::other)
    }
}

/// The same with a certificate, a key and authorities that others made: `tls.crt`, `tls.key` and
/// `ca.crt` in `dir`.
pub(super) fn server_of(dir: &Path) -> io::Result<ServerConfig> {
    let read = |name: &str| {
        let file = dir.join(name);
        fs::read_to_string(&file).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot read `{}`: {error}", file.display()))
        })
    };
    server_config(&read("tls.crt")?, &read("tls.key")?, &read("ca.crt")?)
}

/// All in PEM.
fn server_config(cert: &str, key: &str, authorities: &str) -> io::Result<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificates = |pem: &str| {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(io::Error::other)
    };
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(io::Error::other)?;
    let mut trusted = rustls::RootCertStore::empty();
    for authority in certificates(authorities)? {
        trusted.add(authority).map_err(io::Error::other)?;
    }
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(&provider))
            .build()
            .map_err(io::Error::other)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates(cert)?, key)
        .map_err(io::Error::other)?;
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Two upstreams are known by a SPIFFE ID and two by a host name, as the domain file expects.
fn server_leaf(kind: UpstreamKind) -> Leaf {
    let leaf = Leaf::new(kind.name()).usage(Usage::Server);
    match kind {
        UpstreamKind::Profile => leaf.uri("spiffe://shop.example/ns/crm/sa/profile"),
        UpstreamKind::Orders => leaf.uri("spiffe://shop.example/ns/shop/sa/orders"),
        UpstreamKind::Favorites | UpstreamKind::Reviews => leaf.dns("localhost"),
    }
}
