//! The coherence protocol, checked: an exhaustive model check and a seeded simulation, both of the
//! code that runs in a sidecar ([`bfb::coherence`], which is pure).
//!
//! By itself this is a test target, `cargo test --test coherence`: the properties that hold, with
//! the product's own code. In a build with the feature `removable-guards` it is part of the
//! binary's tests (`cargo test --features removable-guards --bin bfb-removable-guards`) and shows
//! of each guard that without it both the check and the simulation find a broken promise.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a setup that fails should stop there, and the counts are part of the result"
)]

mod beginning;
mod check;
mod fault_profile;
mod fleet;
mod guard_removal;
mod node;
#[cfg(feature = "removable-guards")]
mod removed_guards;
#[cfg(feature = "removable-guards")]
mod removed_store_guards;
#[cfg(not(feature = "removable-guards"))]
mod runs;
mod scenario;
#[cfg(not(feature = "removable-guards"))]
mod scenarios;
mod simulation;
mod source;
mod steps;
mod store;
#[cfg(not(feature = "removable-guards"))]
mod store_scenarios;
