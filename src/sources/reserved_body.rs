//! The memory of a body on its way.

use super::BODY_COPIES;
use super::attempt_error::AttemptError;
use crate::resources::WorkMemory;

/// Memory for a body on its way, given back where it does not become a part: for the bytes as they
/// arrive, and for their copy in the dataset, so that no request waits for the second with the
/// first in hand.
#[derive(Debug)]
pub(super) struct ReservedBody<'a> {
    memory: &'a WorkMemory,
    bytes: usize,
}

impl<'a> ReservedBody<'a> {
    /// Nothing yet.
    pub(super) fn new(memory: &'a WorkMemory) -> Self {
        Self { memory, bytes: 0 }
    }

    /// Reserves `bytes` in all.
    pub(super) async fn reserve_total(&mut self, bytes: usize) -> Result<(), AttemptError> {
        let more = bytes.saturating_sub(self.bytes);
        self.memory.take(BODY_COPIES * more as u64).await.map_err(|_| AttemptError::no_memory())?;
        self.bytes += more;
        Ok(())
    }

    /// It became a body of `bytes`, which stays reserved.
    pub(super) fn keep(mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Drop for ReservedBody<'_> {
    fn drop(&mut self) {
        self.memory.give_back(BODY_COPIES * self.bytes as u64);
    }
}
