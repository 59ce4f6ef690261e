//! The vocabulary of the tests: certificates (`pki`), upstreams (`upstream`, and `flood` whose
//! answers never end), links that break (`link`), domain files (`domain`), the program itself
//! (`process`, `sidecar`, `webhook`), its clients (`client`, and `wire` where it must be cheap),
//! listeners of its events (`events`) and crowds of connections (`crowd`, which speaks HTTP/2 by
//! hand with `frames`), a private Redis (`redis`, and `claims` that watches a fleet's claims there)
//! on a port that is free (`port`), a private `PostgreSQL` of each version that is there
//! (`postgres`, `postgres_versions`) with or without a pooler before it (`pgbouncer`), neither of
//! which runs as root (`account`), a private server of `MongoDB`'s protocol (`mongo`) and one that
//! only shows what it is asked (`mongo_wire`), and a small API server of Kubernetes (`apiserver`).

pub(crate) mod account;
#[cfg(feature = "webhook")]
pub(crate) mod apiserver;
pub(crate) mod claims;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod crowd;
pub(crate) mod domain;
pub(crate) mod events;
pub(crate) mod flood;
pub(crate) mod frames;
pub(crate) mod link;
pub(crate) mod mongo;
#[cfg(feature = "mongodb")]
pub(crate) mod mongo_wire;
pub(crate) mod pgbouncer;
pub(crate) mod pki;
pub(crate) mod port;
pub(crate) mod postgres;
pub(crate) mod postgres_versions;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod sidecar;
pub(crate) mod upstream;
#[cfg(feature = "webhook")]
pub(crate) mod webhook;
pub(crate) mod wire;
