//! The guards of the protocol by name, so that the checks can show what each of them prevents.
//!
//! In a production build [`Guards`] has no content and every guard holds; the compiler removes the
//! question. Only a test build, or one with the feature `removable-guards`, can take one away.

/// One rule whose removal breaks a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Guard {
    /// What was invalidated since a flight began is not stored in memory; without it a dataset
    /// counts as new as the moment at which it is stored.
    S5Fence,
    /// Redis refuses a dataset whose fence is older than a stamp.
    R3WriteFence,
    /// Redis does not hand out a dataset that is older than a stamp.
    R3ReadStamp,
    /// Memory answers only while the lease holds.
    S4Lease,
    /// The lease runs from when the heartbeat was sent, not from when its reply came.
    S3LeaseFromSent,
    /// The lease begins only once everything that the heartbeat told is applied.
    S3LeaseAfterApplied,
    /// An entry is applied only when all before it have been.
    S1InOrder,
    /// Where the stream no longer reaches back, memory is emptied.
    S1StreamEnd,
    /// A sidecar that meets another epoch empties its memory.
    S2Epoch,
    /// A script that finds the log of another life begins a new epoch.
    R1Life,
    /// In a young epoch that nobody settled, the whole lease is waited.
    A2YoungEpoch,
    /// A registry speaks only for its own epoch.
    A1OwnEpoch,
    /// The lease to wait is the longest registered, not the invalidator's own.
    A2LongestLease,
    /// Without the lease nobody joins a flight that began before they came.
    S6JoinNeedsLease,
    /// Nobody joins a flight that an applied invalidation has outdated.
    S6JoinOutdated,
    /// A tag's invalidation outdates every flight in the air, since nobody knows their tags yet.
    S6JoinTags,
    /// Emptying memory outdates every flight in the air.
    S5EmptiedMemory,
    /// A silent registration is removed only if it was last told less than the invalidation's
    /// `seq`.
    A2SilentToldLess,
    /// ... and only once a whole lease has passed.
    A2SilentLapsed,
    /// A sidecar that stops gives up its lease before it deregisters.
    S7LeaseBeforeDeregister,
    /// ... and hears no more replies.
    S7NoMoreReplies,
    /// Forgetting stamps raises the floor below which no fence is believed.
    R3Floor,
    /// A hint is suppressed only by stamps that are newer than everything its hearer has surely
    /// heard.
    H1HintBound,
    /// Redis keeps datasets by plan as well as by key.
    R3Plan,
}

impl Guard {
    /// Every guard.
    pub const ALL: [Self; 24] = [
        Self::S5Fence,
        Self::R3WriteFence,
        Self::R3ReadStamp,
        Self::S4Lease,
        Self::S3LeaseFromSent,
        Self::S3LeaseAfterApplied,
        Self::S1InOrder,
        Self::S1StreamEnd,
        Self::S2Epoch,
        Self::R1Life,
        Self::A2YoungEpoch,
        Self::A1OwnEpoch,
        Self::A2LongestLease,
        Self::S6JoinNeedsLease,
        Self::S6JoinOutdated,
        Self::S6JoinTags,
        Self::S5EmptiedMemory,
        Self::A2SilentToldLess,
        Self::A2SilentLapsed,
        Self::S7LeaseBeforeDeregister,
        Self::S7NoMoreReplies,
        Self::R3Floor,
        Self::H1HintBound,
        Self::R3Plan,
    ];
}

/// Which guards hold: all of them.
#[cfg(not(any(test, feature = "removable-guards")))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Guards;

#[cfg(not(any(test, feature = "removable-guards")))]
impl Guards {
    /// Whether `guard` holds: always.
    #[allow(clippy::unused_self, reason = "the test build's twin looks at itself")]
    pub const fn hold(self, guard: Guard) -> bool {
        let _ = guard;
        true
    }
}

/// Which guards hold: all but those taken away.
#[cfg(any(test, feature = "removable-guards"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Guards(u32);

#[cfg(any(test, feature = "removable-guards"))]
impl Guards {
    /// All guards but `guard`.
    #[must_use]
    pub const fn without(guard: Guard) -> Self {
        Self(1 << guard as u32)
    }

    /// These without `guard`.
    #[must_use]
    pub const fn and_without(self, guard: Guard) -> Self {
        Self(self.0 | 1 << guard as u32)
    }

    /// Whether `guard` holds.
    pub const fn hold(self, guard: Guard) -> bool {
        self.0 & (1 << guard as u32) == 0
    }
}
