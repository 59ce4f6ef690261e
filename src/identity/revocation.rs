//! Revoked certificates: `crl.pem` in the identity's folder, where it is.
//!
//! The whole chain is looked up in the lists. A certificate whose issuer has no list there passes,
//! since a bundle need not have one of each. A list past its next update is still honoured, with a
//! warning: a missed renewal is no reason to stop all requests, and a revoked certificate stays
//! revoked.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::pki_types::{SignatureVerificationAlgorithm, pem};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::prelude::FromDer as _;

use super::IdentityError;
use super::certificate::from_unix;
use super::file_error::{describe_pem_blocks, file_error, malformed_pem_error};

const EXPECTED: &str = "a PEM block `X509 CRL`";

/// The lists of one `crl.pem`, at least one.
pub(super) struct Revocations {
    lists: Vec<CertRevocationList<'static>>,
    next_update: Option<SystemTime>,
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").field("lists", &self.lists.len()).finish_non_exhaustive()
    }
}

impl Revocations {
    /// Reads the lists of the file at `path`.
    pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Self, IdentityError> {
        let mut lists = Vec::new();
        let mut next_update = None;
        for der in CertificateRevocationListDer::pem_slice_iter(bytes) {
            let der =
                der.map_err(|error: pem::Error| malformed_pem_error(path, &error, EXPECTED))?;
            let list = OwnedCertRevocationList::from_der(&der).map_err(|error| {
                let number = lists.len() + 1;
                file_error(
                    path,
                    &format!("list {number} cannot be used ({error}); expected a whole X.509 CRL"),
                )
            })?;
            lists.push(list.into());
            next_update = [next_update, next_update_of(&der)].into_iter().flatten().min();
        }
        if lists.is_empty() {
            return Err(file_error(
                path,
                &format!("{}; expected {EXPECTED}, or no such file", describe_pem_blocks(bytes)),
            ));
        }
        Ok(Self { lists, next_update })
    }

    /// When the first of the lists should have been replaced by the next one.
    pub(super) fn next_update(&self) -> Option<SystemTime> {
        self.next_update
    }

    /// Whether a chain to `roots` is left that holds no revoked certificate.
    pub(super) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        roots: &RootCertStore,
        now: UnixTime,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<(), webpki::Error> {
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().collect();
        let Ok(options) = RevocationOptionsBuilder::new(&lists) else { return Ok(()) };
        let options = options
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .with_expiration_policy(ExpirationPolicy::Ignore)
            .build();
        let usage = KeyUsage::server_auth();
        let leaf = EndEntityCert::try_from(leaf)?;
        leaf.verify_for_usage(algorithms, &roots.roots, others, now, usage, Some(options), None)?;
        Ok(())
    }
}

fn next_update_of(der: &[u8]) -> Option<SystemTime> {
    let (_, list) = x509_parser::revocation_list::CertificateRevocationList::from_der(der).ok()?;
    Some(from_unix(list.next_update()?.timestamp()))
}
