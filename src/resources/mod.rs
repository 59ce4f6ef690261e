//! What the process spends on its work: one account of memory, one of CPU time.
//!
//! Whoever takes memory that others decide about (an answer's body, a shape's tree, a cached
//! dataset) reserves it from the [`MemoryAccount`] first, and whoever runs work whose length data
//! decides about (jq, a review) runs it on the [`ComputePool`]. Both are shared by all domains and
//! fair between them: what does not fit waits within its deadline and is then refused by name, and
//! one domain can take neither all of the memory nor all of the threads. [`read_at_most`] bounds
//! the files that flags name.

mod compute;
mod files;
mod limit;
mod memory;
mod resident;
mod stored_bytes;
mod work_memory;

pub use compute::{
    ComputeBusy, ComputeMetrics, ComputePool, ComputeQueue, RUN_MAX, RunClock, thread_cpu_time,
};
pub use files::read_at_most;
pub use limit::{MemoryLimit, MemoryLimitError, cgroup_limit};
pub use memory::{MemoryAccount, MemoryFull, MemoryMetrics, MemoryShare, NO_MEMORY, Reservation};
pub use stored_bytes::{StoredBytes, allocated_size};
pub use work_memory::WorkMemory;
