//! Times, as people write them (`500ms`, `25s`, `5m`), each within its bounds.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::values::{InvalidValue, SettingValue};

const TIME: InvalidValue = InvalidValue { expected: "a time such as `500ms`, `25s` or `5m`" };
const ANY: RangeInclusive<Duration> = Duration::ZERO..=Duration::MAX;
const YEAR: Duration = Duration::from_hours(365 * 24);

/// Any time.
pub fn parse_time(text: &str) -> Result<Duration, InvalidValue> {
    humantime::parse_duration(text).map_err(|_| TIME)
}

/// A type for each time that is a setting: its default, its bounds, what is expected of a text.
macro_rules! time_setting {
    ($(#[$doc:meta])* $name:ident = $default:expr, $bounds:expr, $expected:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(Duration);

        impl $name {
            /// The shortest and the longest.
            pub const BOUNDS: RangeInclusive<Duration> = $bounds;

            /// How long it is.
            pub const fn duration(self) -> Duration {
                self.0
            }
        }

        impl SettingValue for $name {
            const EXPECTED: &'static str = $expected;
        }

        impl Default for $name {
            fn default() -> Self {
                Self($default)
            }
        }

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                let time = humantime::parse_duration(text).ok();
                let time = time.filter(|time| Self::BOUNDS.contains(time));
                time.map(Self).ok_or_else(InvalidValue::of::<Self>)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                humantime::format_duration(self.0).fmt(f)
            }
        }
    };
}

time_setting! {
    /// How long a sidecar may serve from memory without having heard from Redis. With shorter
    /// leases, heartbeats would be most of what Redis does.
    Lease = Duration::from_secs(3),
    Duration::from_millis(200)..=Duration::from_mins(5),
    "a time from 200ms to 5m, such as `3s`"
}

time_setting! {
    /// How long a deposed primary of Redis may go on answering.
    FailoverGrace = Duration::ZERO, ANY, TIME.expected
}

time_setting! {
    /// How long a drain may take.
    DrainTime = Duration::from_secs(25), ANY, TIME.expected
}

time_setting! {
    /// How long a certificate that the webhook makes for itself lasts.
    CertificateLifetime = Duration::from_hours(30 * 24),
    Duration::from_secs(3)..=YEAR,
    "a time from 3s to 365d, such as `30d`"
}

time_setting! {
    /// How long replicas of the webhook wait for a leader that is silent.
    LeaderLease = Duration::from_secs(15),
    Duration::from_millis(500)..=Duration::from_hours(1),
    "a time from 500ms to 1h, such as `15s`"
}

time_setting! {
    /// How often the webhook's leader looks for pods without their sidecar.
    WatchdogInterval = Duration::from_mins(1),
    Duration::from_millis(500)..=Duration::from_hours(1),
    "a time from 500ms to 1h, such as `15s`"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_taken_within_its_bounds_only() {
        let lease = |text: &str| text.parse().map(Lease::duration);
        assert_eq!(lease("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(lease("5m"), Ok(Duration::from_mins(5)));
        for wrong in ["199ms", "301s", "3", "soon", "", "-3s"] {
            assert_eq!(lease(wrong), Err(InvalidValue::of::<Lease>()), "{wrong}");
        }
        assert_eq!("0s".parse(), Ok(FailoverGrace::default()));
        assert_eq!(parse_time("1m 30s"), Ok(Duration::from_secs(90)));
    }
}
