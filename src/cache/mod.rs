//! What was collected, kept for who asks next: memory, and the flights that fill it.
//!
//! A [`Cache`] is one domain's: it answers a key from memory where the coherence protocol allows
//! it, else seats the caller in a flight, which looks into Redis before it collects, so that a key
//! is collected once however many ask, in the pod and in the fleet (*One read*). Whether a dataset
//! may be served, joined or kept is asked of the domain's state machine on the [`crate::bus`] each
//! time; this module never decides it. What sources are is not known here: a flight runs the plan
//! of `collect`.

mod claim;
mod envelope;
mod fleet;
mod flight;
mod fly;
mod happening;
mod kept;
mod memory;
mod metrics;
mod patience;
mod program;
mod read;
mod seal;
mod served;
mod sharing;
mod tags;
mod token;
mod verify;
mod wish;

pub use claim::CLAIM_LASTS;
pub use envelope::open_stored;
pub use fleet::InRedis;
pub use happening::{Happening, Happenings, NotKept, What};
pub use kept::{Content, EtagDigest, Kept, Rendered};
pub use memory::{Memory, Size};
pub use metrics::Metrics;
pub use program::{ProgramError, SHAPE_OUTPUT_BYTES_MAX};
pub use read::{BusLoss, Cache, Shared};
pub use seal::{Seal, SealError};
pub use served::{How, ReadError, Served};
pub use tags::{TagsRefusal, TagsRefusals};
pub use token::Token;
pub use verify::{Rate, Samples, Shown, Verifier, verifier};
pub use wish::{After, Wish};
