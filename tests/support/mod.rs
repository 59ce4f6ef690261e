//! The vocabulary of the tests: certificates (`pki`), upstreams (`upstream`), links that break (`link`).

pub(crate) mod link;
pub(crate) mod pki;
pub(crate) mod upstream;
