//! From files to an [`Identity`]: reads them, checks that all belong together, and names precisely
//! what does not.
//!
//! Files are read twice until both readings agree, so that a pair is never mixed from before and
//! after a rotation. Nothing of a private key reaches a message.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};

use super::certificate::{Certificate, format_timestamp};
use super::file_error::{describe_pem_blocks, file_error, malformed_pem_error};
use super::revocation::Revocations;
use super::{IdentityError, IdentityPaths, provider};
use crate::resources::read_at_most;

/// The largest file read, in bytes: a bundle of a few hundred authorities fits.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
/// The largest `crl.pem`: tens of thousands of revoked certificates fit. It is read twice a second.
const CRL_MAX_BYTES: u64 = 2 * FILE_MAX_BYTES;
/// How often differing readings are tried again.
const READ_ATTEMPTS_MAX: usize = 5;

/// One generation of our identity: certificate chain, key and trust anchors, checked to belong
/// together.
pub struct Identity {
    /// Counts up with every change of the files.
    pub generation: u64,
    /// When our certificate ends.
    pub not_after: SystemTime,
    /// The fields of our certificate.
    pub certificate: Certificate,
    /// The fields of the trusted certificates.
    pub authorities: Vec<Certificate>,
    pub(super) key: Arc<CertifiedKey>,
    pub(super) trust: TrustStore,
    pub(super) digest: [u8; 32],
    pem: IdentityPem,
}

/// An identity's files as they were read, for a driver that does TLS of its own. It is not shown:
/// the private key is in it.
#[derive(Clone)]
pub struct IdentityPem {
    /// The certificate chain and, behind it, its key.
    pub pair: Vec<u8>,
    /// The trusted certificates.
    pub authorities: Vec<u8>,
}

impl fmt::Debug for IdentityPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityPem(…)")
    }
}

/// The authorities whose certificates are trusted.
#[derive(Debug, Clone)]
pub(super) struct TrustStore {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) revocations: Option<Arc<Revocations>>,
}

impl TrustStore {
    /// Trusts the certificates of `roots`, without a list of revoked certificates.
    pub(super) fn from_roots(roots: RootCertStore) -> Self {
        Self { roots: Arc::new(roots), revocations: None }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("generation", &self.generation)
            .field("certificate", &self.certificate)
            .field("authorities", &self.authorities.len())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads and checks the files.
    ///
    /// An identity that is expired or not valid yet is refused like a broken one: it would be
    /// refused by every upstream.
    pub fn load(paths: &IdentityPaths, generation: u64) -> Result<Self, IdentityError> {
        Self::check(paths, &IdentityFiles::read(paths)?, generation)
    }

    pub(super) fn check(
        paths: &IdentityPaths,
        files: &IdentityFiles,
        generation: u64,
    ) -> Result<Self, IdentityError> {
        let cert_file = paths.cert();
        let key_file = paths.key();
        let ca_file = paths.authorities();
        let chain = parse_certificates(&cert_file, &files.cert)?;
        let certificate = parse_certificate(&cert_file, &chain[0])?;
        check_dates(&cert_file, &certificate)?;
        let key = parse_private_key(&key_file, &files.key)?;
        let key = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| key_pair_error(&paths.dir, &error))?;
        let (roots, authorities) = parse_trust_anchors(&ca_file, &files.ca)?;
        let revoked = files.crl.as_deref();
        let revocations =
            revoked.map(|bytes| Revocations::read(&paths.revocations(), bytes)).transpose()?;
        let trust =
            TrustStore { revocations: revocations.map(Arc::new), ..TrustStore::from_roots(roots) };
        Ok(Self {
            generation,
            not_after: certificate.not_after,
            certificate,
            authorities,
            key: Arc::new(key),
            trust,
            digest: files.digest(),
            pem: IdentityPem {
                pair: [files.cert.as_slice(), b"\n", files.key.as_slice()].concat(),
                authorities: files.ca.clone(),
            },
        })
    }

    /// The files that it was read from.
    pub fn pem(&self) -> &IdentityPem {
        &self.pem
    }

    /// Our certificate chain and its key, for a server to present.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }

    /// When the first list of revoked certificates should have been replaced, where there are any.
    pub fn revocations_next_update(&self) -> Option<SystemTime> {
        self.trust.revocations.as_ref()?.next_update()
    }

    /// When the first of the trusted certificates ends.
    pub fn authorities_not_after(&self) -> Option<SystemTime> {
        self.authorities.iter().map(|authority| authority.not_after).min()
    }
}

impl IdentityPaths {
    fn cert(&self) -> PathBuf {
        self.dir.join("tls.crt")
    }

    fn key(&self) -> PathBuf {
        self.dir.join("tls.key")
    }

    fn revocations(&self) -> PathBuf {
        self.dir.join("crl.pem")
    }

    fn authorities(&self) -> PathBuf {
        self.ca.clone().unwrap_or_else(|| self.dir.join("ca.crt"))
    }
}

/// The bytes of the files, of one moment.
#[derive(PartialEq, Eq)]
pub(super) struct IdentityFiles {
    cert: Vec<u8>,
    key: Vec<u8>,
    ca: Vec<u8>,
    crl: Option<Vec<u8>>,
}

impl IdentityFiles {
    pub(super) fn read(paths: &IdentityPaths) -> Result<Self, IdentityError> {
        let mut last = Self::read_once(paths)?;
        for _ in 1..READ_ATTEMPTS_MAX {
            let again = Self::read_once(paths)?;
            if again == last {
                return Ok(again);
            }
            last = again;
        }
        let what = "the files change while they are being read; expected them to hold still";
        Err(file_error(&paths.dir, what))
    }

    fn read_once(paths: &IdentityPaths) -> Result<Self, IdentityError> {
        let revocations = paths.revocations();
        let crl = read_if_exists(&revocations, CRL_MAX_BYTES);
        let crl = crl.map_err(|error| unreadable_error(&revocations, &error))?;
        Ok(Self {
            cert: read_file(&paths.cert())?,
            key: read_file(&paths.key())?,
            ca: read_file(&paths.authorities())?,
            crl,
        })
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        for bytes in [&self.cert, &self.key, &self.ca].into_iter().chain(&self.crl) {
            context.update(&bytes.len().to_le_bytes());
            context.update(bytes);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        out
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let bytes =
        read_if_exists(path, FILE_MAX_BYTES).map_err(|error| unreadable_error(path, &error))?;
    bytes.ok_or_else(|| missing_file_error(path, "no such file; expected a PEM file"))
}

/// The bytes of the file at `path`; `None` where there is none.
fn read_if_exists(path: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    match read_at_most(path, max_bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

fn unreadable_error(path: &Path, error: &io::Error) -> IdentityError {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return file_error(path, &format!("larger than {error}; expected a PEM file"));
    }
    let expected = "a PEM file that this process may read";
    missing_file_error(path, &format!("cannot be read: {error}; expected {expected}"))
}

fn missing_file_error(path: &Path, what: &str) -> IdentityError {
    IdentityError { is_missing: true, ..file_error(path, what) }
}

fn parse_certificates(
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let chain = chain.map_err(|error| malformed_pem_error(path, &error, "a PEM certificate"))?;
    if chain.is_empty() {
        return Err(file_error(
            path,
            &format!("{}; expected a PEM block `CERTIFICATE`", describe_pem_blocks(bytes)),
        ));
    }
    Ok(chain)
}

fn parse_private_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => file_error(
            path,
            &format!(
                "{}; expected a PEM block `PRIVATE KEY` without a passphrase",
                describe_pem_blocks(bytes)
            ),
        ),
        error => malformed_pem_error(path, &error, "a PEM private key"),
    })
}

fn parse_trust_anchors(
    path: &Path,
    bytes: &[u8],
) -> Result<(RootCertStore, Vec<Certificate>), IdentityError> {
    let mut roots = RootCertStore::empty();
    let mut read_all = Vec::new();
    for (index, der) in parse_certificates(path, bytes)?.into_iter().enumerate() {
        read_all.push(parse_certificate(path, &der)?);
        roots.add(der).map_err(|error| {
            file_error(
                path,
                &format!("certificate {} cannot be trusted as an authority: {error}", index + 1),
            )
        })?;
    }
    Ok((roots, read_all))
}

fn parse_certificate(path: &Path, der: &CertificateDer<'_>) -> Result<Certificate, IdentityError> {
    Certificate::read(der)
        .map_err(|error| file_error(path, &format!("{error}; expected a PEM certificate")))
}

fn check_dates(path: &Path, certificate: &Certificate) -> Result<(), IdentityError> {
    let now = SystemTime::now();
    let first = format_timestamp(certificate.not_before);
    let last = format_timestamp(certificate.not_after);
    if certificate.is_expired(now) {
        return Err(file_error(
            path,
            &format!("expired at {last}; expected a certificate that is valid now"),
        ));
    }
    if now < certificate.not_before {
        return Err(file_error(
            path,
            &format!("not valid before {first}; expected a certificate that is valid now"),
        ));
    }
    Ok(())
}

fn key_pair_error(dir: &Path, error: &Error) -> IdentityError {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => file_error(
            dir,
            "`tls.key` is not the key of the certificate in `tls.crt`; expected a pair",
        ),
        // The key parser's message stays out of ours: it could quote its input.
        _ => file_error(
            &dir.join("tls.key"),
            "not a key that can sign; expected an ECDSA, Ed25519 or RSA private key",
        ),
    }
}

/// The cryptography of every configuration made here: aws-lc, post-quantum key exchange first.
pub(super) fn aws_lc() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> =
        std::sync::LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::identity::issue::{Authority, Leaf, Validity};

    struct IdentityFolder {
        dir: tempfile::TempDir,
        authority: Authority,
    }

    impl IdentityFolder {
        fn new() -> Self {
            let folder = Self {
                dir: tempfile::tempdir().unwrap(),
                authority: Authority::new("a", Validity::days(1)).unwrap(),
            };
            folder.issue(&Leaf::new("me").uri("spiffe://d/me"));
            folder
        }

        fn issue(&self, leaf: &Leaf) {
            self.authority
                .issue(leaf)
                .unwrap()
                .write(self.dir.path(), self.authority.ca_pem())
                .unwrap();
        }

        fn put(&self, name: &str, text: impl AsRef<[u8]>) {
            fs::write(self.dir.path().join(name), text).unwrap();
        }

        fn load(&self) -> Result<Identity, String> {
            let paths = IdentityPaths { dir: self.dir.path().to_owned(), ca: None };
            let dir = format!("{}/", self.dir.path().display());
            Identity::load(&paths, 7).map_err(|error| error.message.replace(&dir, ""))
        }
    }

    #[test]
    fn a_good_folder_makes_an_identity() {
        let identity = IdentityFolder::new().load().unwrap();
        assert_eq!(identity.generation, 7);
        assert_eq!(identity.certificate.uris, ["spiffe://d/me"]);
        assert_eq!(identity.authorities.len(), 1);
        assert!(!format!("{identity:?}").contains("PRIVATE"));
    }

    #[test]
    fn every_fault_names_the_file_what_was_met_and_what_was_expected() {
        let folder = IdentityFolder::new();
        let good = fs::read(folder.dir.path().join("tls.crt")).unwrap();
        let good_key = fs::read(folder.dir.path().join("tls.key")).unwrap();

        fs::remove_file(folder.dir.path().join("tls.crt")).unwrap();
        assert_eq!(folder.load().unwrap_err(), "`tls.crt`: no such file; expected a PEM file");
        folder.put("tls.crt", "");
        assert_eq!(
            folder.load().unwrap_err(),
            "`tls.crt`: the file is empty; expected a PEM block `CERTIFICATE`"
        );
        folder.put("tls.crt", "hello");
        assert_eq!(
            folder.load().unwrap_err(),
            "`tls.crt`: no PEM block; expected a PEM block `CERTIFICATE`"
        );
        folder.put("tls.crt", &good_key);
        assert_eq!(
            folder.load().unwrap_err(),
            "`tls.crt`: holds `PRIVATE KEY`; expected a PEM block `CERTIFICATE`"
        );
        folder.put("tls.crt", &good[..good.len() / 2]);
        assert_eq!(
            folder.load().unwrap_err(),
            "`tls.crt`: a PEM block has no end (is the file half-written?); \
             expected a PEM certificate"
        );
        folder.put("tls.crt", &good);

        folder.put("tls.key", &good);
        assert_eq!(
            folder.load().unwrap_err(),
            "`tls.key`: holds `CERTIFICATE`; expected a PEM block `PRIVATE KEY` without a \
             passphrase"
        );
        folder.put("tls.key", folder.authority.issue(&Leaf::new("other")).unwrap().key_pem);
        let mismatch = folder.load().unwrap_err();
        assert!(
            mismatch.ends_with(
                "`tls.key` is not the key of the certificate in `tls.crt`; expected a pair"
            ),
            "{mismatch}"
        );
        folder.put("tls.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        assert_eq!(
            folder.load().unwrap_err(),
            "`tls.key`: not a key that can sign; expected an ECDSA, Ed25519 or RSA private key"
        );
        folder.put("tls.key", &good_key);

        folder.put("ca.crt", "\n");
        assert_eq!(
            folder.load().unwrap_err(),
            "`ca.crt`: no PEM block; expected a PEM block `CERTIFICATE`"
        );
        folder.put("ca.crt", vec![b'x'; 2 * 1024 * 1024]);
        assert_eq!(folder.load().unwrap_err(), "`ca.crt`: larger than 1 MiB; expected a PEM file");
        folder.put("ca.crt", folder.authority.ca_pem());

        folder.put("crl.pem", &good);
        assert_eq!(
            folder.load().unwrap_err(),
            "`crl.pem`: holds `CERTIFICATE`; expected a PEM block `X509 CRL`, or no such file"
        );
        folder.put("crl.pem", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
        let not_a_list = folder.load().unwrap_err();
        assert!(not_a_list.starts_with("`crl.pem`: list 1 cannot be used ("), "{not_a_list}");
        folder.put("crl.pem", vec![b'x'; 3 * 1024 * 1024]);
        assert_eq!(folder.load().unwrap_err(), "`crl.pem`: larger than 2 MiB; expected a PEM file");
        folder.put("crl.pem", folder.authority.revoke(&[]).unwrap());
        assert!(folder.load().is_ok());
    }

    #[test]
    fn an_identity_outside_its_dates_is_refused() {
        let folder = IdentityFolder::new();
        folder.issue(&Leaf::new("me").valid(Validity::expired()));
        let expired = folder.load().unwrap_err();
        assert!(expired.starts_with("`tls.crt`: expired at 20"), "{expired}");
        folder.issue(&Leaf::new("me").valid(Validity::upcoming()));
        let upcoming = folder.load().unwrap_err();
        assert!(upcoming.starts_with("`tls.crt`: not valid before 20"), "{upcoming}");
    }

    #[test]
    fn a_certificate_dated_before_1970_is_read_and_an_end_before_1970_is_said() {
        let folder = IdentityFolder::new();
        let day = |days: u64| SystemTime::UNIX_EPOCH - Duration::from_hours(24 * days);
        let not_after = SystemTime::now() + Duration::from_hours(1);
        folder.issue(&Leaf::new("me").valid(Validity { not_before: day(3_653), not_after }));
        assert!(folder.load().is_ok());
        folder
            .issue(&Leaf::new("me").valid(Validity { not_before: day(3_653), not_after: day(1) }));
        let over = folder.load().unwrap_err();
        assert!(over.starts_with("`tls.crt`: expired at 1969-12-31T00:00:00Z"), "{over}");
    }

    #[test]
    fn the_authorities_may_be_elsewhere() {
        let folder = IdentityFolder::new();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::rename(folder.dir.path().join("ca.crt"), elsewhere.path().join("bundle.pem")).unwrap();
        let paths = IdentityPaths {
            dir: folder.dir.path().to_owned(),
            ca: Some(elsewhere.path().join("bundle.pem")),
        };
        assert_eq!(Identity::load(&paths, 0).unwrap().authorities.len(), 1);
    }
}
