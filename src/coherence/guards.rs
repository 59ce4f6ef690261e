//! The guards of the protocol by name: each is what one rule of the specification demands, written
//! where the code demands it, so that the checks can show what it prevents.
//!
//! The product compiles `Guard::S4Lease.requires(now < until)` to `now < until`: it has no guard to
//! ask and none to lose. Only a build with the feature `removable-guards` can take guards away.

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

/// What a rule demands, holds.
#[cfg(not(feature = "removable-guards"))]
#[allow(clippy::unused_self, reason = "the guard only names the rule; its twin below looks it up")]
impl Guard {
    /// The condition that the rule demands.
    pub(super) const fn requires(self, condition: bool) -> bool {
        condition
    }

    /// The value that the rule prescribes, rather than the one that would do without the rule.
    pub(super) fn prescribes<T>(self, value: T, _without: T) -> T {
        value
    }

    /// Does what the rule demands to be done.
    pub(super) fn demands(self, deed: impl FnOnce()) {
        deed();
    }
}

/// A guard that was taken away demands nothing.
#[cfg(feature = "removable-guards")]
impl Guard {
    /// The condition that the rule demands.
    #[inline]
    pub(super) fn requires(self, condition: bool) -> bool {
        condition || self.is_removed()
    }

    /// The value that the rule prescribes, rather than the one that would do without the rule.
    #[inline]
    pub(super) fn prescribes<T>(self, value: T, without: T) -> T {
        if self.is_removed() { without } else { value }
    }

    /// Does what the rule demands to be done.
    #[inline]
    pub(super) fn demands(self, deed: impl FnOnce()) {
        if !self.is_removed() {
            deed();
        }
    }
}

/// Taking guards away, from a whole process or from what one thread does.
#[cfg(feature = "removable-guards")]
pub mod removable {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Guard;

    /// A bit for each guard that was taken away from the process.
    static REMOVED_FROM_PROCESS: AtomicU32 = AtomicU32::new(0);

    thread_local! {
        /// The guard that was taken away from what this thread does.
        static REMOVED_FROM_THREAD: Cell<Option<Guard>> = const { Cell::new(None) };
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

        pub(super) fn is_removed(self) -> bool {
            REMOVED_FROM_THREAD.get() == Some(self)
                || REMOVED_FROM_PROCESS.load(Ordering::Relaxed) & self.bit() != 0
        }

        const fn bit(self) -> u32 {
            1 << self as u32
        }
    }

    /// Takes `guard` away from this process, for as long as it lives.
    pub fn remove_from_process(guard: Guard) {
        REMOVED_FROM_PROCESS.fetch_or(guard.bit(), Ordering::Relaxed);
    }

    /// Takes `guard` alone away from what this thread does from now on; none of them for `None`.
    pub fn remove_from_thread(guard: Option<Guard>) {
        REMOVED_FROM_THREAD.set(guard);
    }

    /// Whether `guard` was taken away.
    pub fn is_removed(guard: Guard) -> bool {
        guard.is_removed()
    }
}
