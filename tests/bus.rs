//! The bus over a real Redis.

mod acl;
mod answers;
mod causes;
mod cluster;
mod cost;
mod failover;
mod fleet;
mod foreign;
mod loss;
mod outgrown;
mod poisoned;
mod scripts;
mod servers;
mod slow;
mod support;
mod tampered;
