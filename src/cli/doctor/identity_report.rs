//! Our own identity: what upstreams will see of us.

use std::time::SystemTime;

use serde::Serialize;

use super::finding::Finding;
use super::source_findings;
use crate::identity::{Certificate, Identity, moment};

/// Our identity as it was read.
#[derive(Debug, Serialize)]
pub(super) struct IdentityReport {
    pub(super) names: Vec<String>,
    pub(super) issuer: String,
    pub(super) not_after: String,
    /// Whether its extended key usage allows it to be a client.
    pub(super) client_auth: bool,
    /// How many certificates are trusted, and when the first of them ends.
    pub(super) authorities: usize,
    pub(super) authorities_not_after: Option<String>,
    pub(super) findings: Vec<Finding>,
}

impl IdentityReport {
    pub(super) fn of(identity: &Identity, now: SystemTime) -> Self {
        let certificate = &identity.certificate;
        let mut findings = Vec::new();
        if !certificate.client_auth {
            let observation =
                "our certificate may not be used as a client (its extended key usage)";
            findings.push(
                Finding::error("not-a-client", observation)
                    .expected("`clientAuth` among its usages"),
            );
        }
        findings.extend(source_findings::expiry_finding("our certificate", certificate, now));
        let authorities = identity.authorities.iter();
        findings.extend(authorities.filter_map(|authority| {
            source_findings::expiry_finding("a certificate of `ca.crt`", authority, now)
        }));
        if identity.revocations_next_update().is_some_and(|next| next < now) {
            let observation = "`crl.pem` is older than it should be, and honoured all the same";
            findings.push(
                Finding::warning("revocations-old", observation)
                    .expected("a list before its next update"),
            );
        }
        Self {
            names: certificate_names(certificate),
            issuer: certificate.issuer.clone(),
            not_after: moment(identity.not_after),
            client_auth: certificate.client_auth,
            authorities: identity.authorities.len(),
            authorities_not_after: identity.authorities_not_after().map(moment),
            findings,
        }
    }
}

/// The most names that are shown of a certificate, and the most characters of each: a stranger may
/// have written them.
const NAMES_MAX: usize = 32;
const NAME_MAX_CHARS: usize = 256;

/// The names of a certificate: URIs, DNS names, addresses; control characters escaped.
pub(super) fn certificate_names(certificate: &Certificate) -> Vec<String> {
    let texts = certificate.uris.iter().chain(&certificate.dns).cloned();
    let texts = texts.chain(certificate.ips.iter().map(ToString::to_string)).take(NAMES_MAX);
    texts
        .map(|name| name.chars().take(NAME_MAX_CHARS).flat_map(char::escape_debug).collect())
        .collect()
}
