//! The bus over a real Redis.

mod acl;
mod answers;
mod cluster;
mod cost;
mod failover;
mod fault_causes;
mod fleet;
mod foreign;
mod loss;
mod oversized_answers;
mod poisoned;
mod scripts;
mod servers;
mod slow;
mod support;
mod tampered;
