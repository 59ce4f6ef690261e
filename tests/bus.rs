//! The bus over a real Redis.

mod acl;
mod cluster;
mod fleet;
mod loss;
mod scripts;
mod servers;
mod support;
