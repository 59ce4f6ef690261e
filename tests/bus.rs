//! The bus over a real Redis.

mod cluster;
mod fleet;
mod loss;
mod scripts;
mod servers;
mod support;
