//! The findings about the sidecar's own identity.

use std::time::SystemTime;

use super::certificate::expiry_finding;
use super::finding::Finding;
use crate::identity::Identity;

/// The findings about `identity`.
pub(in super::super) fn identity_findings(identity: &Identity, now: SystemTime) -> Vec<Finding> {
    let certificate = &identity.certificate;
    let mut findings = Vec::new();
    if !certificate.client_auth {
        let observation = "our certificate may not be used as a client (its extended key usage)";
        findings.push(
            Finding::error("not-a-client", observation).expected("`clientAuth` among its usages"),
        );
    }
    findings.extend(expiry_finding("our certificate", certificate, now));
    let authorities = identity.authorities.iter();
    findings.extend(
        authorities
            .filter_map(|authority| expiry_finding("a certificate of `ca.crt`", authority, now)),
    );
    if identity.revocations_next_update().is_some_and(|next| next < now) {
        let observation = "`crl.pem` is older than it should be, and honoured all the same";
        findings.push(
            Finding::warning("revocations-old", observation)
                .expected("a list before its next update"),
        );
    }
    findings
}
