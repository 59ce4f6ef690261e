//! Making certificates: a small authority and its leaves, for `bfb demo`, the webhook and tests.
//!
//! Keys are ECDSA P-256. An authority lives in memory only: its private key never leaves this
//! module, and who needs its certificates again later makes a new authority. Production identities
//! come from elsewhere (cert-manager, SPIRE, a secret).

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use time::OffsetDateTime;

/// How far a fresh certificate is dated back, so that a peer whose clock is a little behind accepts
/// it.
const BACKDATE: Duration = Duration::from_mins(5);

const DAY: Duration = Duration::from_hours(24);

/// From when to when a certificate is valid (whole seconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: SystemTime,
    /// The last moment.
    pub not_after: SystemTime,
}

impl Validity {
    /// From five minutes ago until `lifetime` from now.
    pub fn lasting(lifetime: Duration) -> Self {
        let now = SystemTime::now();
        Self { not_before: now - BACKDATE, not_after: now + lifetime }
    }

    /// From five minutes ago until `days` days from now.
    pub fn days(days: u32) -> Self {
        Self::lasting(DAY * days)
    }

    /// Over since yesterday.
    pub fn expired() -> Self {
        let now = SystemTime::now();
        Self { not_before: now - DAY * 30, not_after: now - DAY }
    }

    /// Not before tomorrow.
    pub fn upcoming() -> Self {
        let now = SystemTime::now();
        Self { not_before: now + DAY, not_after: now + DAY * 30 }
    }
}

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Usage {
    /// To be a TLS server.
    Server,
    /// To be a TLS client.
    Client,
    /// To be either, as a workload's identity usually is.
    #[default]
    Both,
}

/// What a leaf certificate says.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The subject's common name: for people, nobody checks it.
    pub common_name: String,
    /// DNS SANs.
    pub dns: Vec<String>,
    /// URI SANs: a SPIFFE ID.
    pub uris: Vec<String>,
    /// IP SANs.
    pub ips: Vec<IpAddr>,
    /// From when to when.
    pub valid: Validity,
    /// Server, client or both.
    pub usage: Usage,
}

impl Leaf {
    /// Without any SAN, for both uses, valid for a day.
    pub fn new(common_name: impl Into<String>) -> Self {
        Self {
            common_name: common_name.into(),
            dns: Vec::new(),
            uris: Vec::new(),
            ips: Vec::new(),
            valid: Validity::days(1),
            usage: Usage::Both,
        }
    }

    /// With one more DNS SAN.
    #[must_use]
    pub fn dns(mut self, name: impl Into<String>) -> Self {
        self.dns.push(name.into());
        self
    }

    /// With one more URI SAN.
    #[must_use]
    pub fn uri(mut self, uri: impl Into<String>) -> Self {
        self.uris.push(uri.into());
        self
    }

    /// With one more IP SAN.
    #[must_use]
    pub fn ip(mut self, ip: impl Into<IpAddr>) -> Self {
        self.ips.push(ip.into());
        self
    }

    /// Valid as said.
    #[must_use]
    pub fn valid(mut self, valid: Validity) -> Self {
        self.valid = valid;
        self
    }

    /// For this use only.
    #[must_use]
    pub fn usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }
}

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate: {0}")]
pub struct IssueError(#[from] rcgen::Error);

/// A certificate authority in memory.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new self-signed authority; no certificate below it may itself be an authority.
    pub fn new(common_name: &str, valid: Validity) -> Result<Self, IssueError> {
        let mut params = params(common_name, valid);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Its own certificate: what goes into a `ca.crt`.
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// A new key and a certificate for it.
    pub fn issue(&self, leaf: &Leaf) -> Result<IssuedCertificate, IssueError> {
        let mut params = params(&leaf.common_name, leaf.valid);
        for name in &leaf.dns {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        for uri in &leaf.uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
        }
        params.subject_alt_names.extend(leaf.ips.iter().copied().map(SanType::IpAddress));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match leaf.usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Both => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
        };
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(IssuedCertificate { cert_pem, key_pem: key.serialize_pem() })
    }

    /// A list of revoked certificates, in PEM: what goes into a `crl.pem`.
    pub fn revoke(&self, revoked: &[&IssuedCertificate]) -> Result<String, IssueError> {
        let now = OffsetDateTime::now_utc();
        let serial_of = |issued: &IssuedCertificate| {
            let (_, pem) = x509_parser::pem::parse_x509_pem(issued.cert_pem.as_bytes()).ok()?;
            Some(SerialNumber::from_slice(pem.parse_x509().ok()?.raw_serial()))
        };
        let revocation = |serial_number| RevokedCertParams {
            serial_number,
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: now + DAY,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .filter_map(|issued| serial_of(issued))
                .map(revocation)
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }
}

fn params(common_name: &str, valid: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = OffsetDateTime::from(valid.not_before);
    params.not_after = OffsetDateTime::from(valid.not_after);
    params
}

/// A certificate and its private key.
#[derive(Clone)]
pub struct IssuedCertificate {
    /// The certificate.
    pub cert_pem: String,
    /// Its key, in PKCS#8.
    pub key_pem: String,
}

impl std::fmt::Debug for IssuedCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

impl IssuedCertificate {
    /// Writes `tls.crt`, `tls.key` (readable by its owner only) and `ca.crt` into `dir`, each
    /// replaced whole.
    pub fn write(&self, dir: &Path, ca_pem: &str) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        replace_file(dir, "ca.crt", ca_pem, 0o644)?;
        replace_file(dir, "tls.key", &self.key_pem, 0o600)?;
        replace_file(dir, "tls.crt", &self.cert_pem, 0o644)
    }
}

/// Writes beside the file, then renames over it: a reader meets the old text or the new one, and
/// the mode holds from the first byte.
fn replace_file(dir: &Path, name: &str, text: &str, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let beside = dir.join(format!(".{name}.new"));
    // One that an earlier writer left behind may have another mode, or be somebody's link.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&beside, dir.join(name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_leaf_says_what_it_was_asked_to_say() {
        let authority = Authority::new("test", Validity::days(1)).unwrap();
        let valid = Validity::lasting(Duration::from_mins(10));
        let leaf = Leaf::new("profile")
            .dns("profile.crm")
            .uri("spiffe://shop.example/ns/crm/sa/profile")
            .valid(valid);
        let issued = authority.issue(&leaf.ip([127, 0, 0, 1])).unwrap();

        let (_, pem) = x509_parser::pem::parse_x509_pem(issued.cert_pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let names = format!(
            "{:?}",
            certificate.subject_alternative_name().unwrap().unwrap().value.general_names
        );
        assert!(names.contains("DNSName(\"profile.crm\")"), "{names}");
        assert!(names.contains("URI(\"spiffe://shop.example/ns/crm/sa/profile\")"), "{names}");
        assert!(names.contains("[127, 0, 0, 1]") || names.contains("7f"), "{names}");
        let not_after = valid.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(u64::try_from(certificate.validity().not_after.timestamp()).unwrap(), not_after);
        assert_eq!(certificate.issuer().to_string(), "CN=test");
    }

    #[test]
    fn a_written_key_is_for_its_owner_only_even_over_an_older_file() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("test", Validity::days(1)).unwrap();
        fs::write(dir.path().join("tls.key"), "old").unwrap();
        authority.issue(&Leaf::new("me")).unwrap().write(dir.path(), authority.ca_pem()).unwrap();
        let mode = fs::metadata(dir.path().join("tls.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["ca.crt", "tls.crt", "tls.key"]);
    }

    #[test]
    fn no_debug_output_holds_a_private_key() {
        let authority = Authority::new("test", Validity::days(1)).unwrap();
        let issued = authority.issue(&Leaf::new("me")).unwrap();
        assert!(!format!("{authority:?}{issued:?}").contains("PRIVATE"));
    }
}
