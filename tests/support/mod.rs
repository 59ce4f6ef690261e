//! The vocabulary of the tests: certificates (`pki`), upstreams (`upstream`).

pub(crate) mod pki;
pub(crate) mod upstream;
