//! Datasets received from Redis, with the memory of the flight that they take.

use crate::coherence::FetchedDataset;
use crate::resources::WorkMemory;

/// The bytes of a dataset that are requested together with its metadata, at least and at most: as
/// many as a flight has reserved anyway. For a larger one Redis answers with its size, and it is
/// fetched once there is memory for it.
pub(super) const READY_BYTES: (u64, u64) = (4 * 1024, 256 * 1024);
/// Copies of a large dataset that exist at once as it is read: the connection's, the library's and
/// the decoded one.
pub(super) const COPIES: u64 = 3;

/// A dataset received from Redis, with the memory that it takes.
pub(super) struct Received<'m> {
    pub(super) fetched: FetchedDataset,
    pub(super) _in_use: MemoryInUse<'m>,
}

/// Memory of a flight that is in use while this lives.
pub(super) struct MemoryInUse<'m> {
    pub(super) bytes: u64,
    pub(super) memory: &'m WorkMemory,
}

impl MemoryInUse<'_> {
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        self.memory.give_back(self.bytes - bytes);
        self.bytes = bytes;
    }
}

impl Drop for MemoryInUse<'_> {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes);
    }
}

/// Takes the memory for an answer out of the reservation as far as that goes; 0 where there is
/// none.
pub(super) fn take_ready(memory: &WorkMemory) -> u64 {
    let bytes = memory.unused().clamp(READY_BYTES.0, READY_BYTES.1);
    if memory.try_take(bytes) { bytes } else { 0 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::resources::{MemoryAccount, MemoryMetrics};

    #[test]
    fn what_came_is_in_use_until_it_is_dropped() {
        let share = MemoryAccount::new(100, MemoryMetrics::default()).full_share();
        let memory = WorkMemory::new(share.try_reserve(100).unwrap(), Instant::now());
        assert!(memory.try_take(COPIES * 30));
        let mut in_use = MemoryInUse { bytes: COPIES * 30, memory: &memory };
        in_use.shrink_to(30);
        assert_eq!(memory.unused(), 70, "the other copies are gone");
        drop(in_use);
        assert_eq!(memory.unused(), 100);
    }
}
