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
    Fence,
    /// Redis refuses a dataset whose fence is older than a stamp.
    WriteFence,
    /// Redis does not hand out a dataset that is older than a stamp.
    ReadStamp,
    /// Memory answers only while the lease holds.
    Lease,
    /// The lease runs from when the heartbeat was sent, not from when its reply came.
    LeaseFromSent,
    /// The lease begins only once everything that the heartbeat told is applied.
    LeaseAfterApplied,
    /// An entry is applied only when all before it have been.
    Gap,
    /// Where the stream no longer reaches back, memory is emptied.
    StreamEnd,
    /// A sidecar that meets another epoch empties its memory.
    Epoch,
    /// A script that finds the log of another life begins a new epoch.
    Life,
    /// In a young epoch that nobody settled, the whole lease is waited.
    Young,
    /// A registry speaks only for its own epoch.
    Over,
    /// The lease to wait is the longest registered, not the invalidator's own.
    Longest,
    /// Without the lease nobody joins a flight that began before they came.
    Join,
    /// Nobody joins a flight that an applied invalidation has outdated.
    JoinOutdated,
    /// A tag's invalidation outdates every flight in the air, since nobody knows their tags yet.
    JoinTags,
    /// Emptying memory outdates every flight in the air.
    Emptied,
    /// A silent registration is removed only if it was last told less than the invalidation's
    /// `seq`.
    Silent,
    /// ... and only once a whole lease has passed.
    SilentLapsed,
    /// A sidecar that stops gives up its lease before it deregisters.
    StopFirst,
    /// ... and hears no more replies.
    StopDeaf,
    /// Forgetting stamps raises the floor below which no fence is believed.
    Floor,
    /// A hint is suppressed only by stamps that are newer than everything its hearer has surely
    /// heard.
    HintBound,
    /// Redis keeps datasets by plan as well as by key.
    Plan,
}

impl Guard {
    /// Every guard.
    pub const ALL: [Self; 24] = [
        Self::Fence,
        Self::WriteFence,
        Self::ReadStamp,
        Self::Lease,
        Self::LeaseFromSent,
        Self::LeaseAfterApplied,
        Self::Gap,
        Self::StreamEnd,
        Self::Epoch,
        Self::Life,
        Self::Young,
        Self::Over,
        Self::Longest,
        Self::Join,
        Self::JoinOutdated,
        Self::JoinTags,
        Self::Emptied,
        Self::Silent,
        Self::SilentLapsed,
        Self::StopFirst,
        Self::StopDeaf,
        Self::Floor,
        Self::HintBound,
        Self::Plan,
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
