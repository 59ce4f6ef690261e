//! The memory of one piece of work: reserved in advance by what such work took of late, grown as it
//! turns out to need more.

use parking_lot::Mutex;
use tokio::time::Instant;

use super::memory::{MemoryAccount, MemoryFull, MemoryMetrics, MemoryShare, Reservation};

/// What one piece of work has reserved, and how much of that is in use. Several parts of the work
/// share it.
#[derive(Debug)]
pub struct WorkMemory {
    share: MemoryShare,
    /// Held to move numbers, never across an `.await`.
    state: Mutex<WorkMemoryState>,
    /// When the work must have ended.
    deadline: Instant,
}

#[derive(Debug)]
struct WorkMemoryState {
    reserved: Reservation,
    used: u64,
    /// The most that was in use at once.
    peak: u64,
}

impl WorkMemoryState {
    fn add_used(&mut self, bytes: u64) {
        self.used += bytes;
        self.peak = self.peak.max(self.used);
    }
}

impl WorkMemory {
    /// Work that begins with `reserved`, none of it in use, and must have ended by `deadline`.
    pub fn new(reserved: Reservation, deadline: Instant) -> Self {
        let share = reserved.share();
        Self { share, state: Mutex::new(WorkMemoryState { reserved, used: 0, peak: 0 }), deadline }
    }

    /// The memory of work that has nobody beside it: a command that asks once and ends.
    pub fn unshared() -> Self {
        let account = MemoryAccount::new(u64::MAX / 2, MemoryMetrics::default());
        Self::new(account.full_share().charge(0), Instant::now())
    }

    /// Takes `bytes` into use, waiting for room where there is none, for half of the time that is
    /// left.
    ///
    /// Who waits for more keeps what is there already, and so may wait for each other. Then those
    /// whose half is over first give up, and what they held lets the others go on while there is
    /// time.
    pub async fn take(&self, bytes: u64) -> Result<(), MemoryFull> {
        let Some(missing) = self.take_or_missing(bytes) else { return Ok(()) };
        let now = Instant::now();
        let until = now + self.deadline.saturating_duration_since(now) / 2;
        let more = self.share.reserve(missing, until).await?;
        let mut state = self.state.lock();
        state.reserved.merge(more);
        state.add_used(bytes);
        Ok(())
    }

    /// Takes `bytes` into use if that is possible now, else says how many are missing.
    fn take_or_missing(&self, bytes: u64) -> Option<u64> {
        let mut state = self.state.lock();
        let missing = (state.used + bytes).saturating_sub(state.reserved.bytes());
        if missing > 0 && !state.reserved.try_grow(missing) {
            return Some(missing);
        }
        state.add_used(bytes);
        None
    }

    /// Takes `bytes` into use if that is possible now.
    pub fn try_take(&self, bytes: u64) -> bool {
        self.take_or_missing(bytes).is_none()
    }

    /// Puts `bytes` out of use; they stay reserved for what this work needs next.
    pub fn give_back(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.used = state.used.saturating_sub(bytes);
    }

    /// Splits `bytes` off for something that outlives the work, reserving more where they are not
    /// there: it exists.
    pub fn split(&self, bytes: u64) -> Reservation {
        let mut state = self.state.lock();
        let mut part = state.reserved.split(bytes);
        state.used = state.used.min(state.reserved.bytes());
        part.settle(bytes);
        part
    }

    /// What is reserved and not in use.
    pub fn unused(&self) -> u64 {
        let state = self.state.lock();
        state.reserved.bytes().saturating_sub(state.used)
    }

    /// What is reserved, in use or not.
    pub fn reserved(&self) -> u64 {
        self.state.lock().reserved.bytes()
    }

    /// The most that was in use at once so far.
    pub fn peak(&self) -> u64 {
        self.state.lock().peak
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_reserved_is_used_before_more_is_asked_for() {
        let account = MemoryAccount::new(100, MemoryMetrics::default());
        let share = account.full_share();
        let work = WorkMemory::new(
            share.try_reserve(40).unwrap(),
            Instant::now() + Duration::from_millis(10),
        );
        work.take(30).await.unwrap();
        assert_eq!((account.used(), work.peak()), (40, 30));
        work.take(30).await.unwrap();
        assert_eq!(account.used(), 60);
        work.give_back(30);
        work.take(25).await.unwrap();
        assert_eq!(account.used(), 60, "what was given back serves again");
        assert_eq!(work.peak(), 60, "what is reserved and not used is none of it");
        let held = share.try_reserve(40).unwrap();
        assert_eq!(work.take(10).await.unwrap_err().bytes, 5);
        let part = work.split(20);
        drop((work, held));
        assert_eq!((account.used(), part.bytes()), (20, 20));
    }
}
