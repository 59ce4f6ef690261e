//! Hostile upstreams and hostile consumers: a clear answer, bounded memory, and the sidecar serves
//! on.

mod consumers;
mod floods;
mod ports;
mod upstreams;
#[cfg(feature = "webhook")]
mod webhook;

use crate::support::sidecar::Sidecar;

/// More than the sidecar may grow in any of these tests, including the allocator's slack; the tests
/// send far more.
const GROWTH_MAX_KIB: u64 = 192 * 1024;

/// The resident memory at a moment, to be compared with its later maximum.
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
