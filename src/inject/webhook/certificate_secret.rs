//! The Secret of a generated certificate, which every replica reads: the pair that is served, the
//! next pair, and the authorities of earlier pairs.
//!
//! Each pair has an authority of its own, whose key is dropped as soon as it has signed the pair.
//! An authority expires together with its certificate, so a bundle trusts nothing for longer than
//! the certificates that it is for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::BASE64;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::{Map, Value, json};

use crate::identity::Certificate;
use crate::identity::issue::{Authority, IssueError, Leaf, Usage, Validity};

/// The time before its creation from which a certificate is valid.
const BACKDATE: Duration = Duration::from_mins(5);
/// The most authorities of earlier certificates in the Secret.
const FORMER_MAX: usize = 8;

/// A certificate with its key, and the authority that signed it.
#[derive(Clone)]
pub(super) struct KeyPair {
    cert_pem: String,
    key_pem: String,
    /// The authority's certificate.
    pub ca_pem: String,
    /// Its DNS names and addresses.
    pub names: BTreeSet<String>,
    /// Its expiry.
    pub not_after: SystemTime,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair")
            .field("names", &self.names)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl PartialEq for KeyPair {
    fn eq(&self, other: &Self) -> bool {
        self.cert_pem == other.cert_pem
            && self.key_pem == other.key_pem
            && self.ca_pem == other.ca_pem
    }
}

impl KeyPair {
    /// Generates a pair for these names, valid from a little before `now`, since clocks differ.
    pub(super) fn issue(
        names: &BTreeSet<String>,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Self, IssueError> {
        let valid = Validity { not_before: now - BACKDATE, not_after: now + lifetime };
        let authority = Authority::new("bfb-webhook authority", valid)?;
        let leaf = names.iter().fold(Leaf::new("bfb-webhook"), |leaf, name| {
            match name.parse::<IpAddr>() {
                Ok(ip) => leaf.ip(ip),
                Err(_) => leaf.dns(name.clone()),
            }
        });
        let issued = authority.issue(&leaf.valid(valid).usage(Usage::Server))?;
        Ok(Self {
            cert_pem: issued.cert_pem,
            key_pem: issued.key_pem,
            ca_pem: authority.ca_pem().to_owned(),
            names: names.clone(),
            not_after: valid.not_after,
        })
    }

    /// Parses a pair; `None` if one of its parts is malformed or does not fit the others.
    fn read(cert_pem: String, key_pem: String, ca_pem: String) -> Option<Self> {
        let certificate = parse_certificate(&cert_pem)?;
        parse_certificate(&ca_pem)?;
        let addresses = certificate.ips.iter().map(ToString::to_string);
        let names = certificate.dns.iter().cloned().chain(addresses).collect();
        let pair = Self { cert_pem, key_pem, ca_pem, names, not_after: certificate.not_after };
        pair.certified_key().map(|_| pair)
    }

    /// The pair in the form that a TLS server takes.
    pub(super) fn certified_key(&self) -> Option<Arc<CertifiedKey>> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(self.cert_pem.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).ok()?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        CertifiedKey::from_der(chain.ok()?, key, &provider).ok().map(Arc::new)
    }
}

fn parse_certificate(pem: &str) -> Option<Certificate> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    Certificate::read(&der).ok()
}

/// The content of the Secret.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct CertificateSecret {
    /// The pair that is served.
    pub current: Option<KeyPair>,
    /// The pair that will be served as soon as API servers trust it.
    pub next: Option<KeyPair>,
    /// The authorities (PEM) of earlier pairs, which a replica may still serve.
    pub former_authorities: Vec<String>,
}

impl CertificateSecret {
    /// Parses a Secret. A malformed pair counts as missing, so that it is generated anew.
    pub(super) fn from_secret(secret: &Value) -> Self {
        let text = |name: &str| {
            let encoded = secret.get("data")?.get(name)?.as_str()?;
            String::from_utf8(BASE64.decode(encoded.as_bytes()).ok()?).ok()
        };
        let pair = |names: [&str; 3]| {
            let [cert, key, ca] = names.map(text);
            KeyPair::read(cert?, key?, ca?)
        };
        Self {
            current: pair(["tls.crt", "tls.key", "ca.crt"]),
            next: pair(["next.crt", "next.key", "next-ca.crt"]),
            former_authorities: text("former-ca.crt")
                .map(|bundle| pem_blocks(&bundle))
                .unwrap_or_default(),
        }
    }

    /// The Secret with this content: `existing` with other data, which keeps its `resourceVersion`
    /// and can only replace the object that was read; or a new one.
    pub(super) fn to_secret(&self, existing: Option<&Value>, name: &str, namespace: &str) -> Value {
        let mut data = Map::new();
        let mut insert = |name: &str, text: &str| {
            drop(data.insert(name.to_owned(), BASE64.encode(text.as_bytes()).into()));
        };
        // A Secret of this type must have these two, at least empty.
        insert("tls.crt", self.current.as_ref().map_or("", |pair| &pair.cert_pem));
        insert("tls.key", self.current.as_ref().map_or("", |pair| &pair.key_pem));
        if let Some(pair) = &self.current {
            insert("ca.crt", &pair.ca_pem);
        }
        if let Some(pair) = &self.next {
            insert("next.crt", &pair.cert_pem);
            insert("next.key", &pair.key_pem);
            insert("next-ca.crt", &pair.ca_pem);
        }
        if !self.former_authorities.is_empty() {
            insert("former-ca.crt", &self.former_authorities.concat());
        }
        let mut secret = existing.cloned().unwrap_or_else(|| {
            json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/tls",
                "metadata": {"name": name, "namespace": namespace},
            })
        });
        secret["data"] = Value::Object(data);
        secret
    }

    /// The bundle: the authorities of all pairs, as PEM.
    pub(super) fn bundle(&self) -> String {
        let pairs = self.current.iter().chain(&self.next).map(|pair| &pair.ca_pem);
        let mut bundle = String::new();
        for ca in pairs.chain(&self.former_authorities) {
            bundle.push_str(ca.trim_end());
            bundle.push('\n');
        }
        bundle
    }

    /// Makes the next pair the current one, and keeps the authority of the previous pair.
    #[must_use]
    pub(super) fn promote_next(mut self) -> Self {
        if let Some(next) = self.next.take()
            && let Some(previous) = self.current.replace(next)
        {
            self.former_authorities.insert(0, format!("{}\n", previous.ca_pem.trim_end()));
            self.former_authorities.truncate(FORMER_MAX);
        }
        self
    }

    /// Whether the authority of an earlier certificate has expired, and so is of no use.
    pub(super) fn has_expired_authority(&self, now: SystemTime) -> bool {
        self.former_authorities.iter().any(|ca| is_expired(ca, now))
    }

    /// Removes the expired authorities of earlier certificates.
    #[must_use]
    pub(super) fn without_expired(mut self, now: SystemTime) -> Self {
        self.former_authorities.retain(|ca| !is_expired(ca, now));
        self
    }
}

fn is_expired(ca_pem: &str, now: SystemTime) -> bool {
    parse_certificate(ca_pem).is_none_or(|certificate| certificate.is_expired(now))
}

/// The certificates of a bundle, a PEM text each.
fn pem_blocks(bundle: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let parts = bundle.split_inclusive(END).filter(|part| part.contains(END));
    parts.map(|part| format!("{}\n", part.trim())).take(FORMER_MAX).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    fn names() -> BTreeSet<String> {
        ["bfb-webhook.bfb-system.svc", "127.0.0.1"].map(str::to_owned).into()
    }

    #[test]
    fn a_secret_gives_back_what_was_put_into_it() {
        let pair = || KeyPair::issue(&names(), SystemTime::now(), Duration::from_mins(1)).unwrap();
        let mut content = CertificateSecret {
            current: Some(pair()),
            next: Some(pair()),
            former_authorities: Vec::new(),
        };
        for _ in 0..3 {
            content = CertificateSecret { next: Some(pair()), ..content.promote_next() };
        }
        assert_eq!(content.former_authorities.len(), 3);
        let secret = content.to_secret(None, "bfb-webhook", "bfb-system");
        let read = CertificateSecret::from_secret(&secret);
        assert_eq!(read, content);
        assert_eq!(read.current.as_ref().unwrap().names, names());
        assert_eq!(read.bundle().matches("BEGIN CERTIFICATE").count(), 5);
        let existing = json!({"metadata": {"resourceVersion": "9", "labels": {"a": "b"}},
            "data": {"other": "eA=="}});
        let secret =
            CertificateSecret { next: None, ..content }.to_secret(Some(&existing), "x", "y");
        assert_eq!(secret["metadata"], existing["metadata"]);
        assert!(secret["data"].get("other").is_none() && secret["data"].get("next.key").is_none());
    }

    #[test]
    fn what_is_not_whole_is_not_there() {
        let content = CertificateSecret {
            current: Some(
                KeyPair::issue(&names(), SystemTime::now(), Duration::from_mins(1)).unwrap(),
            ),
            ..CertificateSecret::default()
        };
        let whole = content.to_secret(None, "a", "b");
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            let mut secret = whole.clone();
            secret["data"][name] = "eA==".into();
            assert_eq!(CertificateSecret::from_secret(&secret).current, None, "{name}");
        }
        assert_eq!(CertificateSecret::from_secret(&json!({})), CertificateSecret::default());
        assert_eq!(
            CertificateSecret::from_secret(&CertificateSecret::default().to_secret(None, "a", "b")),
            CertificateSecret::default()
        );
    }

    #[test]
    fn no_debug_output_holds_a_private_key() {
        let content = CertificateSecret {
            current: Some(
                KeyPair::issue(&names(), SystemTime::now(), Duration::from_mins(1)).unwrap(),
            ),
            ..CertificateSecret::default()
        };
        assert!(!format!("{content:?}").contains("PRIVATE"));
    }
}
