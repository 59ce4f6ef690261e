//! The vocabulary of the tests: certificates (`pki`).

pub(crate) mod pki;
