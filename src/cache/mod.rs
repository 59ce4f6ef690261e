//! What was collected, kept for who asks next: memory, and the flights that fill it.
//!
//! A [`Cache`] is one domain's: it answers a key from memory where the coherence protocol allows it, else seats the caller in
//! a flight, so that a key is collected once however many ask (*One read*). Whether a dataset may be served, joined or kept
//! is asked of the domain's state machine on the [`crate::bus`] each time; this module never decides it. What sources are is not known here: a flight
//! runs the plan of `collect`.

mod flight;
mod happening;
mod kept;
mod memory;
mod metrics;
mod read;
mod token;

pub use happening::{Happening, Happenings, NotKept, What};
pub use kept::{Content, Kept, Rendered};
pub use memory::{Memory, Size};
pub use metrics::Metrics;
pub use read::{After, BusLoss, Cache, How, ReadError, Served, Shared, Wish};
pub use token::Token;
