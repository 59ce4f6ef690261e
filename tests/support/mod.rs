//! The vocabulary of the tests: certificates (`pki`), upstreams (`upstream`), links that break (`link`), domain files
//! (`domain`), the program itself (`sidecar`) and who asks it (`client`).

pub(crate) mod client;
pub(crate) mod domain;
pub(crate) mod link;
pub(crate) mod pki;
pub(crate) mod sidecar;
pub(crate) mod upstream;
