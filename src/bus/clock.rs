//! The clock of the lease: monotonic, and it runs while the machine sleeps.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::coherence::Moment;

/// Linux's `CLOCK_MONOTONIC` stands still while the machine is suspended, so a lease would go on
/// after other sidecars had waited for its end.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// The current moment.
pub fn now() -> Moment {
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Moment::from_origin(Duration::new(seconds, nanos))
}
