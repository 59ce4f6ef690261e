//! The resident memory beyond all reservations: pages that the allocator has not given back yet,
//! buffers of connections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The memory that buffers of connections usually take.
const CONNECTIONS_BYTES: u64 = 8 << 20;
/// Before a reservation of at least this size the resident memory is measured, which takes a few
/// microseconds.
const LARGE_BYTES: u64 = 64 * 1024;
/// How old, in milliseconds, the last look may be for a large reservation.
const LARGE_MAX_AGE_MS: u64 = 5;
/// The same for a small one, which looks only while something is unaccounted for.
const SMALL_MAX_AGE_MS: u64 = 100;

/// Measures the resident memory, now and then.
pub(super) struct ResidentWatch {
    /// Bytes that the process takes beside its work.
    process_bytes: u64,
    /// The unreserved bytes at the last measurement.
    unaccounted: AtomicU64,
    began: Instant,
    /// When it was last looked, in milliseconds since `began` and [`SMALL_MAX_AGE_MS`] more, so
    /// that the first look is never too early.
    checked_ms: AtomicU64,
}

impl ResidentWatch {
    /// The memory that is resident now, and a little for connections, is the process's own.
    pub(super) fn of_this_process() -> Self {
        Self::with_process_bytes(resident_bytes().unwrap_or_default() + CONNECTIONS_BYTES)
    }

    pub(super) fn with_process_bytes(process: u64) -> Self {
        Self {
            process_bytes: process,
            unaccounted: AtomicU64::new(0),
            began: Instant::now(),
            checked_ms: AtomicU64::new(0),
        }
    }

    /// Resident bytes without a reservation, by a measurement that is recent enough for a
    /// reservation of `bytes`.
    pub(super) fn unaccounted(&self, bytes: u64, reserved: impl Fn() -> u64) -> u64 {
        let last = self.unaccounted.load(Ordering::Relaxed);
        let is_large = bytes >= LARGE_BYTES;
        if last == 0 && !is_large {
            return 0;
        }
        let now = u64::try_from(self.began.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(SMALL_MAX_AGE_MS);
        let age = now.saturating_sub(self.checked_ms.load(Ordering::Relaxed));
        if age < if is_large { LARGE_MAX_AGE_MS } else { SMALL_MAX_AGE_MS } {
            return last;
        }
        self.checked_ms.store(now, Ordering::Relaxed);
        let accounted = reserved().saturating_add(self.process_bytes);
        let unaccounted = resident_bytes().unwrap_or_default().saturating_sub(accounted);
        self.unaccounted.store(unaccounted, Ordering::Relaxed);
        unaccounted
    }
}

/// The process's resident memory less the pages of files, which the system can take back, by
/// proc(5): the second number of `statm` less the third, in pages.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm.split(' ').skip(1).map_while(|pages| pages.parse::<u64>().ok());
    let resident = pages.next()?;
    let of_files = pages.next()?;
    resident.saturating_sub(of_files).checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}
