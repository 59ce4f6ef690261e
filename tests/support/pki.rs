//! Certificates for tests: an authority, the sidecar's identity in a folder (written plainly or as
//! a kubelet does), and servers with their certificates and demands.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use bfb::domain::ServerIdentity;
use bfb::identity::issue::{Authority, IssuedCertificate, Leaf, Validity};
use bfb::identity::{Identity, IdentityPaths};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientCertVerifierBuilder, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;

/// The sidecar's SPIFFE ID.
pub(crate) const CLIENT: &str = "spiffe://shop.example/ns/shop/sa/web";
/// The SPIFFE ID of a good server.
pub(crate) const PROFILE: &str = "spiffe://shop.example/ns/crm/sa/profile";

/// Whether a server asks for a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// And refuses a client without one.
    Always,
    /// But serves a client without one.
    Optionally,
    /// It does not.
    Never,
    /// And names only other authorities, though it accepts ours.
    NamingOthers,
    /// And trusts only certificates of other authorities.
    TrustingOthers,
}

/// An authority, another one that nobody trusts, and the sidecar's identity in a folder.
pub(crate) struct Pki {
    pub(crate) authority: Authority,
    pub(crate) stranger: Authority,
    dir: TempDir,
}

impl Pki {
    /// Our identity lies in the folder as plain files.
    pub(crate) fn new() -> Self {
        let authority = Authority::new("shop", Validity::days(2)).unwrap();
        let stranger = Authority::new("stranger", Validity::days(2)).unwrap();
        let pki = Self { authority, stranger, dir: tempfile::tempdir().unwrap() };
        pki.rotate();
        pki
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn paths(&self) -> IdentityPaths {
        IdentityPaths { dir: self.dir().to_owned(), ca: None }
    }

    pub(crate) fn identity(&self) -> Arc<Identity> {
        Arc::new(Identity::load(&self.paths(), 0).unwrap())
    }

    /// A new pair for us.
    pub(crate) fn client(&self) -> IssuedCertificate {
        self.authority.issue(&Leaf::new("web").uri(CLIENT)).unwrap()
    }

    /// Replaces our pair file by file.
    pub(crate) fn rotate(&self) {
        self.client().write(self.dir(), self.authority.ca_pem()).unwrap();
    }

    /// Replaces our pair as a kubelet does: a new folder, then `..data` swapped over to it.
    pub(crate) fn rotate_like_kubernetes(&self, revision: u32) {
        let folder = format!("..2026_revision_{revision}");
        self.client().write(&self.dir().join(&folder), self.authority.ca_pem()).unwrap();
        symlink(&folder, self.dir().join("..data_tmp")).unwrap();
        fs::rename(self.dir().join("..data_tmp"), self.dir().join("..data")).unwrap();
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            let link = self.dir().join(name);
            if fs::read_link(&link).is_err() {
                let _ = fs::remove_file(&link);
                symlink(Path::new("..data").join(name), &link).unwrap();
            }
        }
        if revision > 1 {
            fs::remove_dir_all(self.dir().join(format!("..2026_revision_{}", revision - 1)))
                .unwrap();
        }
    }

    /// A server that presents `leaf` under the authority, both TLS versions, HTTP/1.1.
    pub(crate) fn server(&self, leaf: &Leaf, asks: Asks) -> ServerConfig {
        self.server_of(&self.authority, leaf, asks, rustls::ALL_VERSIONS)
    }

    /// The same for these TLS versions only.
    pub(crate) fn server_speaking(
        &self,
        asks: Asks,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ServerConfig {
        self.server_of(&self.authority, &profile(), asks, versions)
    }

    /// A server whose certificate the untrusted authority issued.
    pub(crate) fn stranger(&self, leaf: &Leaf) -> ServerConfig {
        self.server_of(&self.stranger, leaf, Asks::Always, rustls::ALL_VERSIONS)
    }

    fn server_of(
        &self,
        issuer: &Authority,
        leaf: &Leaf,
        asks: Asks,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ServerConfig {
        self.server_presenting(&issuer.issue(leaf).unwrap(), asks, versions)
    }

    /// A server that presents this very certificate.
    pub(crate) fn server_with(&self, pair: &IssuedCertificate, asks: Asks) -> ServerConfig {
        self.server_presenting(pair, asks, rustls::ALL_VERSIONS)
    }

    fn server_presenting(
        &self,
        pair: &IssuedCertificate,
        asks: Asks,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ServerConfig {
        let builder =
            ServerConfig::builder_with_provider(crypto()).with_protocol_versions(versions).unwrap();
        let builder = match self.client_verifier(asks) {
            Some(verifier) => builder.with_client_cert_verifier(verifier.build().unwrap()),
            None => builder.with_no_client_auth(),
        };
        builder.with_single_cert(vec![der(&pair.cert_pem)], key(&pair.key_pem)).unwrap()
    }

    fn client_verifier(&self, asks: Asks) -> Option<ClientCertVerifierBuilder> {
        let ours = || WebPkiClientVerifier::builder_with_provider(roots(&self.authority), crypto());
        let strangers = roots(&self.stranger);
        match asks {
            Asks::Always => Some(ours()),
            Asks::Optionally => Some(ours().allow_unauthenticated()),
            Asks::Never => None,
            Asks::NamingOthers => {
                Some(ours().clear_root_hint_subjects().add_root_hint_subjects(strangers.subjects()))
            }
            Asks::TrustingOthers => {
                Some(WebPkiClientVerifier::builder_with_provider(strangers, crypto()))
            }
        }
    }
}

/// The certificate of a good server.
pub(crate) fn profile() -> Leaf {
    Leaf::new("profile").uri(PROFILE).dns("localhost").ip([127, 0, 0, 1])
}

/// The expected identity of [`profile`].
pub(crate) fn expected() -> ServerIdentity {
    ServerIdentity::Spiffe(PROFILE.to_owned())
}

/// The cryptography of the servers.
pub(crate) fn crypto() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(der(authority.ca_pem())).unwrap();
    Arc::new(roots)
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn key(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()
}
