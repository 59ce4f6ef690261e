//! The `server` key: the identity that a source's certificate must carry.

use std::fmt;

use http::Uri;
use rustls_pki_types::{IpAddr, ServerName};

use super::context::{Context, FieldPlace};

/// The identity that a server's certificate must carry: exactly this one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerIdentity {
    /// A SPIFFE ID: the certificate's one and only URI SAN.
    Spiffe(String),
    /// A DNS name, in lower case, among the certificate's DNS SANs (no wildcard stands in for it).
    Dns(String),
    /// An IP address among the certificate's IP SANs.
    Ip(std::net::IpAddr),
}

impl fmt::Display for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => f.write_str(id),
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

const EXPECTED: &str = "a SPIFFE ID, a DNS name or an IP address";
/// The longest SPIFFE ID and trust domain, in bytes (SPIFFE-ID, sections 2.1 and 2.3).
const MAX_SPIFFE: usize = 2048;
const MAX_TRUST_DOMAIN: usize = 255;

/// Reads an identity.
pub(super) fn server(context: &mut Context<'_>, at: FieldPlace<'_>) -> Option<ServerIdentity> {
    let text = at.scalar.text.as_str();
    let result = match text.split_once("://") {
        Some((scheme, _)) if !scheme.eq_ignore_ascii_case("spiffe") => Err((
            "this is a URL, not an identity",
            "write the host's name alone, or a `spiffe://` ID",
        )),
        Some((_, id)) => {
            check_spiffe_id(id).map(|()| ServerIdentity::Spiffe(format!("spiffe://{id}")))
        }
        None => parse_host(text).ok_or(("this is no host name", "write it without port and path")),
    };
    result
        .map_err(|(message, hint)| {
            context.problem(at.span.clone(), message, EXPECTED, hint);
        })
        .ok()
}

impl ServerIdentity {
    /// The identity of a host that is named without a domain file: a DNS name or an address.
    pub fn of_host(text: &str) -> Option<Self> {
        parse_host(text)
    }
}

/// The identity that a URL's host asks for.
pub(super) fn identity_of_origin(origin: &Uri) -> Option<ServerIdentity> {
    parse_host(origin.host()?)
}

fn parse_host(text: &str) -> Option<ServerIdentity> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    match ServerName::try_from(bare).ok()? {
        ServerName::DnsName(name) => {
            Some(ServerIdentity::Dns(name.as_ref().trim_end_matches('.').to_ascii_lowercase()))
        }
        ServerName::IpAddress(IpAddr::V4(ip)) => {
            Some(ServerIdentity::Ip(std::net::IpAddr::V4(ip.into())))
        }
        ServerName::IpAddress(IpAddr::V6(ip)) => {
            Some(ServerIdentity::Ip(std::net::IpAddr::V6(ip.into())))
        }
        _ => None,
    }
}

/// Checks the text behind `spiffe://` against the SPIFFE-ID specification, section 2; else returns
/// the error and a hint.
fn check_spiffe_id(id: &str) -> Result<(), (&'static str, &'static str)> {
    const FORM: &str = "write `spiffe://trust.domain/path`";
    if id.contains(['?', '#']) {
        return Err(("a SPIFFE ID has no query and no fragment", FORM));
    }
    if id.len() + "spiffe://".len() > MAX_SPIFFE {
        return Err(("a SPIFFE ID has at most 2048 bytes", FORM));
    }
    let (domain, path) = id.split_once('/').ok_or(("a workload's SPIFFE ID has a path", FORM))?;
    if domain.contains([':', '@']) {
        return Err(("a SPIFFE ID has no port and no user", FORM));
    }
    if domain.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(("a trust domain is in lower case", "write it in lower case"));
    }
    let in_domain =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    if domain.is_empty() || domain.len() > MAX_TRUST_DOMAIN || !domain.chars().all(in_domain) {
        return Err((
            "this is not a trust domain",
            "it has letters, digits, `.`, `-` and `_`, at most 255",
        ));
    }
    let in_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    for segment in path.split('/') {
        if segment.is_empty() {
            return Err(("a SPIFFE ID has no empty segment and no slash at its end", FORM));
        }
        if segment == "." || segment == ".." || !segment.chars().all(in_path) {
            return Err((
                "this is not the path of a SPIFFE ID",
                "it has letters, digits, `.`, `-` and `_`",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ids_of_the_specification_pass() {
        for good in ["shop.example/ns/crm/sa/profile", "a_b-c.d/X.y_z-0"] {
            assert_eq!(check_spiffe_id(good), Ok(()), "{good}");
        }
        for bad in [
            "a", "a/", "/a", "A/b", "a:1/b", "u@a/b", "a/b/", "a//b", "a/./b", "a/..", "a/b?c",
            "a/b#c", "a/%41", "ä/b",
        ] {
            assert!(check_spiffe_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_is_an_address_or_a_name_in_lower_case() {
        assert_eq!(parse_host("Orders.Shop"), Some(ServerIdentity::Dns("orders.shop".into())));
        assert_eq!(parse_host("[::1]"), Some(ServerIdentity::Ip("::1".parse().unwrap())));
        assert_eq!(parse_host("127.0.0.1"), Some(ServerIdentity::Ip("127.0.0.1".parse().unwrap())));
        for bad in ["", "a b", "*.shop", "host:1", "a/b"] {
            assert_eq!(parse_host(bad), None, "{bad}");
        }
    }
}
