//! Hostile upstreams and hostile consumers: a clear answer, bounded memory, and the sidecar serves
//! on.

mod consumers;
mod floods;
mod ports;
mod upstreams;
#[cfg(feature = "webhook")]
mod webhook;

use crate::support::sidecar::Sidecar;

/// More than any of these tests may make the sidecar hold, allocator's slack and all; what they
/// send is far more.
const GROWTH_MAX_KIB: u64 = 192 * 1024;

/// The resident memory at a moment, to be held against the most that it ever is after.
struct Memory(u64);

impl Memory {
    fn of(sidecar: &Sidecar) -> Self {
        Self(sidecar.resident_kib())
    }

    #[track_caller]
    fn is_bounded(&self, sidecar: &Sidecar) {
        self.grew_by_less_than(GROWTH_MAX_KIB, sidecar);
    }

    #[track_caller]
    fn grew_by_less_than(&self, kib: u64, sidecar: &Sidecar) {
        let before = self.0;
        let peak = sidecar.peak_resident_kib();
        assert!(peak < before + kib, "from {before} KiB to {peak} KiB");
    }
}
