//! The guards of the protocol by name. Each names one rule of the specification and stands where
//! the code enforces that rule, so that the checks can remove it and show what it prevents.
//!
//! The product compiles `Guard::S4Lease.requires(now < until)` to `now < until`: guards cannot be
//! removed from it. Only a build with the feature `removable-guards` can remove guards.

/// One rule whose removal breaks a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Guard {
    /// A dataset that was invalidated since its flight began is not stored in memory; without the
    /// guard a dataset counts as new as the moment at which it is stored.
    S5Fence,
    /// Redis refuses a dataset whose fence is older than a stamp.
    R3WriteFence,
    /// Redis does not hand out a dataset that is older than a stamp.
    R3ReadStamp,
    /// Memory answers only while the lease holds.
    S4Lease,
    /// The lease runs from when the heartbeat was sent, not from when its reply came.
    S3LeaseFromSent,
    /// The lease begins only once everything up to the `seq` in the heartbeat's reply is applied.
    S3LeaseAfterApplied,
    /// An entry is applied only when all before it have been.
    S1InOrder,
    /// Where the stream no longer reaches back, memory is emptied.
    S1StreamEnd,
    /// A sidecar that meets another epoch empties its memory.
    S2Epoch,
    /// A script that finds the log of another life begins a new epoch.
    R1Life,
    /// In a young epoch that is not settled, the whole lease is waited for.
    A2YoungEpoch,
    /// A registry counts only for its own epoch.
    A1OwnEpoch,
    /// The lease to wait for is the longest registered, not the invalidator's own.
    A2LongestLease,
    /// Without the lease no caller joins a flight that began before the caller came.
    S6JoinNeedsLease,
    /// No caller joins a flight that an applied invalidation has outdated.
    S6JoinOutdated,
    /// A tag's invalidation outdates every running flight, since their tags are not known yet.
    S6JoinTags,
    /// Emptying memory outdates every running flight.
    S5EmptiedMemory,
    /// A silent registration is removed only if its last reply had less than the invalidation's
    /// `seq`.
    A2SilentToldLess,
    /// ... and only once a whole lease has passed.
    A2SilentLapsed,
    /// A sidecar that stops gives up its lease before it deregisters.
    S7LeaseBeforeDeregister,
    /// ... and takes no more replies.
    S7NoMoreReplies,
    /// Forgetting stamps raises the floor below which no fence is valid.
    R3Floor,
    /// A hint is suppressed only by stamps that are newer than everything that its receiver has
    /// received without a gap.
    H1HintBound,
    /// Redis keeps datasets by plan as well as by key.
    R3Plan,
    /// A stamping of the store has a number of its own, taken once it is known what to stamp.
    D2OwnNumber,
    /// The mark moves once the stamps are there.
    D2StampsThenMark,
    /// Stamps are forgotten only once the floor has risen to them.
    D2FloorFirst,
    /// A mark moves only from where it stands.
    D3Compare,
    /// The mark of an epoch opens at 0.
    D3OpensAtZero,
    /// Where the log no longer reaches back to the mark, all is stamped.
    D3LogTooOld,
    /// A name that no dataset can have is passed over.
    D3PassesOver,
    /// The fence of a dataset in the store is from before its sources were read.
    D4FenceBefore,
    /// A row is not replaced by what began earlier.
    D5Later,
    /// ... where the numbers are equal, by the database's time.
    D5TieBreak,
    /// What no flight can have written is replaced.
    D5NoRow,
    /// A dataset is believed only without a higher stamp of its key and tags.
    D6Stamps,
    /// ... and from the floor on.
    D6Floor,
    /// A reading in several stages sees the mark first.
    D6MarkFirst,
    /// ... and the floor last.
    D6FloorLast,
    /// While the lease holds, what the store gave is as new as the mark that was read with it, and
    /// no newer.
    D7Mark,
    /// ... also for a flight that a caller joined while the lease held.
    D7Joined,
    /// Without the lease, too, no entry that was applied above the mark may name it.
    D7OwnEntries,
    /// An invalidation is acknowledged only once every store of the registry has its stamps.
    D8Stores,
    /// ... and once Redis has answered in the invalidation's own epoch after that.
    D8OwnEpoch,
    /// ... a deposed primary of Redis aside, which may answer for the grace.
    D8Grace,
    /// A store stays in the registry for as long as the epoch.
    D8StoresStay,
    /// What was applied and not seen stamped is owed beyond its epoch.
    D9Owed,
    /// What was read before the epoch changed, or before a debt was paid, is not handed out.
    D9AskedSince,
    /// Another life of the store is another one.
    D10Life,
    /// ... in which no row of before is believed, whatever its number.
    D10Era,
    /// A mark below what Redis was told shows that the store has gone back.
    D10Told,
}

/// In the product every guard enforces its rule.
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

    /// Performs the step that the rule demands.
    pub(super) fn demands(self, step: impl FnOnce()) {
        step();
    }
}

/// With the feature, a removed guard enforces nothing.
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

    /// Performs the step that the rule demands.
    #[inline]
    pub(super) fn demands(self, step: impl FnOnce()) {
        if !self.is_removed() {
            step();
        }
    }
}

/// Removing guards, from a whole process or from one thread.
#[cfg(feature = "removable-guards")]
pub mod removable {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Guard;

    /// A bit for each guard that was removed from the process.
    static REMOVED_FROM_PROCESS: AtomicU64 = AtomicU64::new(0);

    thread_local! {
        /// The guard that was removed from this thread.
        static REMOVED_FROM_THREAD: Cell<Option<Guard>> = const { Cell::new(None) };
    }

    impl Guard {
        /// Every guard.
        pub const ALL: [Self; 51] = [
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
            Self::D2OwnNumber,
            Self::D2StampsThenMark,
            Self::D2FloorFirst,
            Self::D3Compare,
            Self::D3OpensAtZero,
            Self::D3LogTooOld,
            Self::D3PassesOver,
            Self::D4FenceBefore,
            Self::D5Later,
            Self::D5TieBreak,
            Self::D5NoRow,
            Self::D6Stamps,
            Self::D6Floor,
            Self::D6MarkFirst,
            Self::D6FloorLast,
            Self::D7Mark,
            Self::D7Joined,
            Self::D7OwnEntries,
            Self::D8Stores,
            Self::D8OwnEpoch,
            Self::D8Grace,
            Self::D8StoresStay,
            Self::D9Owed,
            Self::D9AskedSince,
            Self::D10Life,
            Self::D10Era,
            Self::D10Told,
        ];

        pub(super) fn is_removed(self) -> bool {
            REMOVED_FROM_THREAD.get() == Some(self)
                || REMOVED_FROM_PROCESS.load(Ordering::Relaxed) & self.bit() != 0
        }

        const fn bit(self) -> u64 {
            1 << self as u64
        }
    }

    /// Removes `guard` from this process, for as long as it lives.
    pub fn remove_from_process(guard: Guard) {
        REMOVED_FROM_PROCESS.fetch_or(guard.bit(), Ordering::Relaxed);
    }

    /// Removes `guard` alone from this thread from now on; `None` restores all.
    pub fn remove_from_thread(guard: Option<Guard>) {
        REMOVED_FROM_THREAD.set(guard);
    }

    /// Whether `guard` was removed.
    pub fn is_removed(guard: Guard) -> bool {
        guard.is_removed()
    }
}
