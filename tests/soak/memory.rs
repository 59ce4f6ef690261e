//! Resident memory over the time of a run.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, interval_at};

use crate::support::sidecar::Sidecar;

/// The number of samples in a run.
const SAMPLES: u32 = 200;
/// The process may hold 256 MiB for its work by default; more than that is never resident.
const RESIDENT_MAX_KIB: u64 = 256 * 1024;
/// A run of this length is long enough for the whole load to have begun in its second quarter, on a
/// busy machine too.
const LONG: Duration = Duration::from_mins(10);
/// How far the maximum of the last quarter may be above that of the second: in a long run, by the
/// memory that an allocator keeps for reuse; in a short one the load is still growing, and its
/// concurrency depends on the machine.
const GROWTH_MAX_KIB: (u64, u64) = (16 * 1024, 64 * 1024);

/// The resident memory over a run.
pub(super) struct Samples {
    /// KiB, one after the other.
    kib: Vec<u64>,
    /// The maximum, between the samples too.
    peak_kib: u64,
    length: Duration,
}

impl Samples {
    /// Takes the samples, evenly over this time from `begun` on.
    pub(super) async fn take(sidecar: &Sidecar, begun: Instant, length: Duration) -> Self {
        let mut times = interval_at(begun, length / SAMPLES);
        let mut kib = Vec::new();
        for _ in 0..SAMPLES {
            times.tick().await;
            kib.push(sidecar.resident_kib());
        }
        Self { kib, peak_kib: sidecar.peak_resident_kib(), length }
    }

    /// The maximum of each quarter.
    fn quarters(&self) -> Vec<u64> {
        let most = |quarter: &[u64]| quarter.iter().copied().max().unwrap_or_default();
        self.kib.chunks(self.kib.len().div_ceil(4)).map(most).collect()
    }

    pub(super) fn are_flat(&self) {
        let slack_kib = if self.length < LONG { GROWTH_MAX_KIB.1 } else { GROWTH_MAX_KIB.0 };
        let quarters = self.quarters();
        assert!(is_flat(&quarters, slack_kib), "resident memory grows: {self}");
        assert!(self.peak_kib <= RESIDENT_MAX_KIB, "too much is resident: {self}");
    }
}

fn is_flat(quarters: &[u64], slack_kib: u64) -> bool {
    quarters[3] <= quarters[1] + slack_kib
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.kib.first().unwrap();
        let last = self.kib.last().unwrap();
        let peak = self.peak_kib;
        let quarters = self.quarters();
        write!(
            f,
            "resident: {first} KiB at first, {last} at last, {peak} at most; \
             of each quarter {quarters:?}"
        )
    }
}

#[test]
fn what_grows_is_not_flat() {
    assert!(is_flat(&[10_000, 100_000, 90_000, 101_000], 2_000));
    assert!(
        is_flat(&[10_000, 100_000, 140_000, 100_000], 2_000),
        "a peak between is none of this one's business"
    );
    assert!(!is_flat(&[10_000, 100_000, 110_000, 120_000], 16_000));
}
