//! Settings that are one of a few words. What `clap` knows of the words is what annotations and
//! messages know of them.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;

use super::values::{InvalidValue, SettingValue};

/// `--bus-loss`: the behaviour of a sidecar that has had no answer from Redis for a lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum BusLoss {
    /// Collect afresh, keep nothing.
    #[default]
    Bypass,
    /// Serve memory up to its ttl, and say so: *Fresh* does not hold meanwhile.
    Stale,
    /// Answer 503.
    Fail,
}

impl BusLoss {
    /// How reads are answered meanwhile.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Bypass => "memory is not served from, every read collects",
            Self::Stale => "memory is served from up to its ttl, and may be outdated",
            Self::Fail => "requests are answered 503",
        }
    }
}

/// `--request-cache-control`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum CacheControlPolicy {
    /// A consumer may ask for `no-cache`, `no-store`, `max-age` and `only-if-cached`.
    #[default]
    Honour,
    /// It may not.
    Ignore,
}

/// `--log-format`: the format of a line of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The texts of a choice are the words of its `ValueEnum`.
macro_rules! choice_setting {
    ($name:ident, $expected:expr) => {
        impl SettingValue for $name {
            const EXPECTED: &'static str = $expected;
        }

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                <Self as ValueEnum>::from_str(text, false).map_err(|_| InvalidValue::of::<Self>())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.to_possible_value().as_ref().map_or("", |word| word.get_name()))
            }
        }
    };
}

choice_setting!(BusLoss, "`bypass`, `stale` or `fail`");
choice_setting!(CacheControlPolicy, "`honour` or `ignore`");
choice_setting!(LogFormat, "`text` or `json`");
