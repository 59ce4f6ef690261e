//! Resident memory over the time of a run.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, interval_at};

use crate::support::sidecar::Sidecar;

/// So often it is looked at.
const SAMPLES: u32 = 200;
/// By how much the last quarter's most may be above the second's: a fiftieth, and what an allocator keeps at hand or not.
const GROWTH_MAX: (u64, u64) = (50, 16 * 1024);

/// KiB, one after the other.
pub(super) struct Samples(Vec<u64>);

impl Samples {
    /// Takes them, evenly over this time from `begun` on.
    pub(super) async fn take(sidecar: &Sidecar, begun: Instant, length: Duration) -> Self {
        let mut times = interval_at(begun, length / SAMPLES);
        let mut samples = Vec::new();
        for _ in 0..SAMPLES {
            times.tick().await;
            samples.push(sidecar.resident_kib());
        }
        Self(samples)
    }

    /// The most of each quarter.
    fn quarters(&self) -> Vec<u64> {
        let most = |quarter: &[u64]| quarter.iter().copied().max().unwrap_or_default();
        self.0.chunks(self.0.len().div_ceil(4)).map(most).collect()
    }

    pub(super) fn are_flat(&self) {
        assert!(is_flat(&self.quarters()), "resident memory grows: {self}");
    }
}

fn is_flat(quarters: &[u64]) -> bool {
    let (share, slack_kib) = GROWTH_MAX;
    quarters[3] <= quarters[1] + quarters[1] / share + slack_kib
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.first().unwrap(), self.0.last().unwrap());
        write!(f, "resident: {first} KiB at first, {last} at last; the most of each quarter {:?}", self.quarters())
    }
}

#[test]
fn what_grows_is_not_flat() {
    assert!(is_flat(&[10_000, 100_000, 90_000, 101_000]));
    assert!(is_flat(&[10_000, 100_000, 140_000, 100_000]), "a peak between is none of this one's business");
    assert!(!is_flat(&[10_000, 100_000, 110_000, 120_000]));
}
