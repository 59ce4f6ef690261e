//! Trials of the protocol: an exhaustive model check and a seeded simulation, both of the code that
//! runs in a sidecar.

mod check;
mod fault_profile;
mod fleet;
mod guards;
mod node;
mod runs;
mod scenarios;
mod simulation;
mod source;
mod steps;
