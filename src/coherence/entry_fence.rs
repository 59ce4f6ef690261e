//! The fence of a dataset in memory, by which the protocol decides at each read whether the dataset
//! may be served.

use super::protocol::{Epoch, Fence};

/// The fence that a dataset in memory carries; [`super::Replica::is_valid`] checks it at each read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryFence {
    pub(super) generation: u64,
    pub(super) fence: Fence,
}

impl EntryFence {
    /// The place in the log that the dataset is known to be as new as.
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// As bytes, which take less room than the numbers with their alignment.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.generation.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.fence.epoch.0.to_le_bytes());
        bytes[24..].copy_from_slice(&self.fence.seq.to_le_bytes());
        bytes
    }

    /// The fence that [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let number = |at: usize| bytes[at..].first_chunk().copied().map_or(0, u64::from_le_bytes);
        let epoch = bytes[8..].first_chunk().copied().map_or(0, u128::from_le_bytes);
        Self { generation: number(0), fence: Fence { epoch: Epoch(epoch), seq: number(24) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_comes_back_from_its_bytes() {
        let fence = EntryFence {
            generation: 7,
            fence: Fence { epoch: Epoch(u128::MAX - 2), seq: 1 << 40 },
        };
        assert_eq!(EntryFence::from_bytes(fence.to_bytes()), fence);
    }
}
