//! Times in the report: milliseconds for programs, words for people.

use std::time::Duration;

/// Milliseconds, to a hundredth.
pub(super) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

/// A time to come, for people: `364 days`, `7 hours`.
pub(super) fn span(duration: Duration) -> String {
    const HOUR: u64 = 3600;
    let (count, unit) = match duration.as_secs() {
        seconds if seconds < HOUR => (seconds / 60, "minute"),
        seconds if seconds < 48 * HOUR => (seconds / HOUR, "hour"),
        seconds => (seconds / (24 * HOUR), "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
