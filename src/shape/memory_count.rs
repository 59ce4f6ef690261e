//! Counts the bytes that a run's values hold.
//!
//! Each type that holds memory counts it where it is made and where it is dropped, so that none can
//! be forgotten. The count is the thread's: a run's values cannot leave its thread (they are
//! `Rc`s), and the run looks at the difference.

use std::cell::Cell;

thread_local! {
    static HELD: Cell<u64> = const { Cell::new(0) };
}

/// The bytes held by the values that were made on this thread.
pub(super) fn held_bytes() -> u64 {
    HELD.get()
}

/// Counts an allocation of `bytes`, with the overhead of an allocator.
pub(super) fn add_held(bytes: usize) {
    HELD.set(HELD.get().wrapping_add(weight(bytes)));
}

/// The end of an allocation of `bytes`.
pub(super) fn subtract_held(bytes: usize) {
    HELD.set(HELD.get().wrapping_sub(weight(bytes)));
}

/// The weight of an allocation of `bytes`. An allocator's size classes lie up to a quarter apart,
/// so half of that is added on average, with a few bytes for small ones.
pub(super) fn weight(bytes: usize) -> u64 {
    if bytes == 0 { 0 } else { (bytes + bytes / 8 + 8) as u64 }
}

/// Memory that is counted while this lives: for allocations that are no values.
#[derive(Debug, Default)]
pub(super) struct HeldMemory(usize);

impl HeldMemory {
    pub(super) fn of(bytes: usize) -> Self {
        add_held(bytes);
        Self(bytes)
    }

    /// Holds `bytes` instead.
    pub(super) fn set(&mut self, bytes: usize) {
        subtract_held(self.0);
        add_held(bytes);
        self.0 = bytes;
    }
}

impl Clone for HeldMemory {
    fn clone(&self) -> Self {
        Self::of(self.0)
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        subtract_held(self.0);
    }
}
