//! The sidecar's own identity, as upstreams see it.

use std::time::SystemTime;

use serde::Serialize;

use super::super::findings::{Finding, identity_findings};
use super::connection::certificate_names;
use crate::identity::{Identity, format_timestamp};

/// Our identity as it was read.
#[derive(Debug, Serialize)]
pub(in super::super) struct IdentityReport {
    pub(in super::super) names: Vec<String>,
    pub(in super::super) issuer: String,
    pub(in super::super) not_after: String,
    /// Whether its extended key usage allows it to be a client.
    pub(in super::super) client_auth: bool,
    /// How many certificates are trusted, and when the first of them ends.
    pub(in super::super) authorities: usize,
    pub(in super::super) authorities_not_after: Option<String>,
    pub(in super::super) findings: Vec<Finding>,
}

impl IdentityReport {
    pub(in super::super) fn of(identity: &Identity, now: SystemTime) -> Self {
        let certificate = &identity.certificate;
        Self {
            names: certificate_names(certificate),
            issuer: certificate.issuer.clone(),
            not_after: format_timestamp(identity.not_after),
            client_auth: certificate.client_auth,
            authorities: identity.authorities.len(),
            authorities_not_after: identity.authorities_not_after().map(format_timestamp),
            findings: identity_findings(identity, now),
        }
    }
}
