//! The certificate that is served, which changes while connections are accepted; and the check
//! whether an API server would trust it.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::configuration::MutatingWebhookConfiguration;
use crate::identity::Certificate;

/// The certificate that is served. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct ServingCertificate(Arc<RwLock<Arc<CertifiedKey>>>);

impl ServingCertificate {
    /// Serves `first` until another one is set.
    pub(super) fn new(first: Arc<CertifiedKey>) -> Self {
        Self(Arc::new(RwLock::new(first)))
    }

    /// Serves `key` to new connections.
    pub(super) fn set(&self, key: Arc<CertifiedKey>) {
        *self.0.write() = key;
    }

    /// The certificate that new connections get.
    pub(super) fn get(&self) -> Arc<CertifiedKey> {
        self.0.read().clone()
    }

    /// The expiry of that certificate.
    pub(super) fn not_after(&self) -> Option<SystemTime> {
        Certificate::read(self.get().cert.first()?).ok().map(|certificate| certificate.not_after)
    }

    /// The configuration of a TLS server with it: TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2, no client
    /// certificate.
    pub(super) fn server_config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(rustls::ALL_VERSIONS)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

/// Why an API server would not trust `key`: the first webhook of the configuration whose bundle or
/// name does not fit, and the reason. `None` if every webhook trusts it.
pub(super) fn distrust_reason(
    configuration: &MutatingWebhookConfiguration,
    key: &CertifiedKey,
) -> Option<String> {
    let now = SystemTime::now();
    configuration.hooks().find_map(|hook| {
        let name = hook.server_name().ok_or("its `clientConfig` names nobody".to_owned());
        let bundle = hook.bundle().ok_or("its `caBundle` is empty".to_owned());
        let result = name.and_then(|name| verify_trust(&bundle?, key, &name, now));
        result.err().map(|reason| format!("the webhook `{}`: {reason}", hook.name()))
    })
}

/// Verifies, as an API server that trusts `bundle` (PEM) does, that `key` is the certificate of the
/// server `name`. The error is the reason why it is not.
fn verify_trust(
    bundle: &[u8],
    key: &CertifiedKey,
    name: &str,
    now: SystemTime,
) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bundle).collect();
    roots.add_parsable_certificates(
        certificates.map_err(|_| "its `caBundle` is no PEM".to_owned())?,
    );
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|_| "its `caBundle` holds no authority".to_owned())?;
    let (leaf, rest) = key.cert.split_first().ok_or("no certificate is served")?;
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| format!("`{name}` is no name of a server"))?;
    let now =
        UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    verifier
        .verify_server_cert(leaf, rest, &name, &[], now)
        .map(drop)
        .map_err(|error| format!("the certificate that is served would be refused: {error}"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use std::time::Duration;

    use super::super::certificate_secret::KeyPair;
    use super::*;

    #[test]
    fn a_certificate_is_believed_by_whom_its_authority_names_for_its_names_until_its_end() {
        let make = || {
            KeyPair::issue(
                &["a.b.svc", "127.0.0.1"].map(str::to_owned).into(),
                SystemTime::now(),
                Duration::from_mins(1),
            )
            .unwrap()
        };
        let pair = make();
        let other = make();
        let key = pair.certified_key().unwrap();
        let now = SystemTime::now();
        let both = format!("{}{}", other.ca_pem, pair.ca_pem);
        assert_eq!(verify_trust(both.as_bytes(), &key, "a.b.svc", now), Ok(()));
        assert_eq!(verify_trust(both.as_bytes(), &key, "127.0.0.1", now), Ok(()));
        for (bundle, name, at) in [
            (other.ca_pem.as_str(), "a.b.svc", now),
            (&pair.ca_pem, "c.b.svc", now),
            (&pair.ca_pem, "a.b.svc", now + Duration::from_hours(1)),
            ("", "a.b.svc", now),
            ("x", "a.b.svc", now),
            (&pair.ca_pem, "", now),
        ] {
            assert!(verify_trust(bundle.as_bytes(), &key, name, at).is_err(), "{name}");
        }
    }
}
