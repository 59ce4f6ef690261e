//! The consumer's side, `docs/consumers.md` to the letter: its requests, the answers, and the
//! headers that sources receive of it.

mod allowed_hosts;
mod answers;
mod forwarded_headers;
mod keys;
mod openapi;
mod requests;
mod tokens;
mod versions;

use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// A sidecar over one source that answers every key with the same part; its requests go to
/// `/part?key=…`.
async fn over_one(key: &str) -> (Sidecar, Upstream) {
    let (setup, upstream) = setup_over_one(key).await;
    (setup.start().await, upstream)
}

async fn setup_over_one(key: &str) -> (Setup, Upstream) {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.handles("/part", |_| Reply::json(r#"{"id":42}"#));
    let domain = DomainFile::of("customer").source("part", &upstream, "/part?key={key}", &[]);
    let domain = if key.is_empty() { domain } else { domain.head(&format!("key: '{key}'")) };
    // The files of the identity are read at the start; they may be removed after that.
    let setup = Setup::of(&[&domain]);
    let identity = setup.dir().join("identity");
    std::fs::create_dir(&identity).unwrap();
    pki.client().write(&identity, pki.authority.ca_pem()).unwrap();
    (setup.arg("--identity").arg(identity), upstream)
}
