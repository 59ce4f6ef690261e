//! The guard that an exploration or a run removes. Only a build with the feature `removable-guards`
//! has any that can be removed.

use bfb::coherence::Guard;

/// The guard to remove, if any.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GuardRemoval {
    removed: Option<Guard>,
}

impl GuardRemoval {
    #[cfg(feature = "removable-guards")]
    pub(super) const fn of(guard: Guard) -> Self {
        Self { removed: Some(guard) }
    }

    /// Removes this guard for everything that this thread does from now on, and puts back any
    /// other.
    pub(super) fn apply(self) {
        #[cfg(feature = "removable-guards")]
        bfb::coherence::removable::remove_from_thread(self.removed);
        #[cfg(not(feature = "removable-guards"))]
        assert_eq!(self.removed, None, "the guards of this build cannot be taken away");
    }
}
