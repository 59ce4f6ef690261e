//! The fields of a certificate: names, issuer, dates, fingerprint.
//!
//! Read from our own certificate, from the trusted ones and from a server's. A server's is
//! untrusted text: it is escaped and bounded here before it goes into a message.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// The most names that a message lists.
const NAMES_MAX: usize = 4;
/// The longest piece of a stranger's text in a message, in characters.
const TEXT_MAX_CHARS: usize = 120;

/// The fields of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's distinguished name: for people.
    pub subject: String,
    /// The issuer's distinguished name: for people.
    pub issuer: String,
    /// URI SANs, in order; unreadable ones as `?`, so that they count.
    pub uris: Vec<String>,
    /// DNS SANs, in order, as written.
    pub dns: Vec<String>,
    /// IP SANs, in order.
    pub ips: Vec<IpAddr>,
    /// The first moment of its validity.
    pub not_before: SystemTime,
    /// The last moment of its validity.
    pub not_after: SystemTime,
    /// SHA-256 over its DER, in lower-case hex.
    pub fingerprint: String,
    /// Whether its extended key usage (if it has one) allows it to be a TLS client.
    pub client_auth: bool,
    /// The same for a TLS server.
    pub server_auth: bool,
}

impl Certificate {
    /// Reads DER; the error names what is wrong with it.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der)
            .map_err(|error| format!("not an X.509 certificate: {error}"))?;
        let usage = parsed
            .extended_key_usage()
            .map_err(|error| format!("its extended key usage is malformed: {error}"))?;
        let usage = usage.map(|usage| usage.value);
        let mut read = Self {
            subject: escape_bounded(&parsed.subject().to_string()),
            issuer: escape_bounded(&parsed.issuer().to_string()),
            uris: Vec::new(),
            dns: Vec::new(),
            ips: Vec::new(),
            not_before: from_unix(parsed.validity().not_before.timestamp()),
            not_after: from_unix(parsed.validity().not_after.timestamp()),
            fingerprint: hex(digest::digest(&digest::SHA256, der).as_ref()),
            client_auth: usage.is_none_or(|usage| usage.any || usage.client_auth),
            server_auth: usage.is_none_or(|usage| usage.any || usage.server_auth),
        };
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| format!("its alternative names are malformed: {error}"))?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            read.add_name(name);
        }
        Ok(read)
    }

    fn add_name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            // A name whose text cannot be read still counts: the only URI must be the only one.
            GeneralName::Invalid(tag, _) if tag.0 == 6 => self.uris.push("?".to_owned()),
            GeneralName::DNSName(name) => self.dns.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => self.ips.extend(parse_ip(octets)),
            _ => {}
        }
    }

    /// Whether its validity is over.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        is_past_expiry(self.not_after, now)
    }

    /// Its names for a message: a few of them, escaped.
    pub fn describe_names(&self) -> String {
        let all = self
            .uris
            .iter()
            .chain(&self.dns)
            .cloned()
            .chain(self.ips.iter().map(ToString::to_string));
        let count = self.uris.len() + self.dns.len() + self.ips.len();
        if count == 0 {
            return "no name".to_owned();
        }
        let listed: Vec<_> =
            all.take(NAMES_MAX).map(|name| format!("`{}`", escape_bounded(&name))).collect();
        match count - listed.len() {
            0 => listed.join(", "),
            more => format!("{} and {more} more", listed.join(", ")),
        }
    }
}

/// Whether a certificate that ends so is over. Whole seconds, the last included, as X.509 and
/// webpki count.
pub fn is_past_expiry(not_after: SystemTime, now: SystemTime) -> bool {
    unix_seconds(now) > unix_seconds(not_after)
}

/// Escapes control characters and cuts texts that are too long.
pub(super) fn escape_bounded(text: &str) -> String {
    let mut out: String = text.chars().take(TEXT_MAX_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(TEXT_MAX_CHARS).is_some() {
        out.push('…');
    }
    out
}

fn parse_ip(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

pub(super) fn from_unix(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `2026-06-01T00:00:00Z`. A certificate may be dated to any time, also before 1970.
pub fn format_timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or_else(
        |before| i64::try_from(before.duration().as_secs()).map(i64::wrapping_neg),
        |since| i64::try_from(since.as_secs()),
    );
    let date = seconds.ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    date.and_then(|date| date.format(&Rfc3339).ok())
        .unwrap_or_else(|| "a time beyond the years 1 to 9999".to_owned())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::identity::issue::{Authority, Leaf, Validity};

    fn read(leaf: &Leaf) -> Certificate {
        let pem = Authority::new("test", Validity::days(1)).unwrap().issue(leaf).unwrap().cert_pem;
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        Certificate::read(&pem.contents).unwrap()
    }

    #[test]
    fn every_time_that_a_certificate_may_name_has_words() {
        for (seconds, words) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (-631_152_000, "1950-01-01T00:00:00Z"),
            (1_780_272_000, "2026-06-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (1 << 40, "a time beyond the years 1 to 9999"),
        ] {
            assert_eq!(format_timestamp(from_unix(seconds)), words);
        }
        let nanosecond = Duration::from_nanos(1);
        assert_eq!(format_timestamp(SystemTime::UNIX_EPOCH + nanosecond), "1970-01-01T00:00:00Z");
        assert_eq!(unix_seconds(from_unix(-5)), 0);
        let past = Validity { not_before: from_unix(-631_152_000), not_after: from_unix(-1) };
        assert!(read(&Leaf::new("a").valid(past)).is_expired(SystemTime::now()));
    }

    #[test]
    fn a_strangers_names_are_bounded_and_escaped_in_messages() {
        let mut leaf = Leaf::new("a\nb").uri(format!("spiffe://d/{}", "x".repeat(5_000)));
        for n in 0..50 {
            leaf = leaf.dns(format!("host-{n}.example"));
        }
        let certificate = read(&leaf);
        let names = certificate.describe_names();
        assert!(names.len() < 400, "{}", names.len());
        assert!(names.ends_with("and 47 more"), "{names}");
        assert!(!certificate.subject.contains('\n'));
        assert_eq!(read(&Leaf::new("a")).describe_names(), "no name");
    }

    #[test]
    fn usage_and_addresses_are_read() {
        use crate::identity::issue::Usage;
        let server = read(&Leaf::new("a").ip([127, 0, 0, 1]).usage(Usage::Server));
        assert_eq!((server.server_auth, server.client_auth), (true, false));
        assert_eq!(server.ips, [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(server.fingerprint.len(), 64);
    }
}
