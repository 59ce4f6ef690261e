//! Sizes in bytes, shares of a whole, and the permissions of a socket.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;

use super::values::{InvalidValue, SettingValue};

/// A size in bytes, as people write it: `64MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySize(pub u64);

impl SettingValue for MemorySize {
    const EXPECTED: &'static str = "a size such as `64MiB`";
}

impl Default for MemorySize {
    fn default() -> Self {
        Self(64 * bytesize::MIB)
    }
}

impl FromStr for MemorySize {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let size = text.parse::<ByteSize>();
        size.map(|size| Self(size.as_u64())).map_err(|_| InvalidValue::of::<Self>())
    }
}

impl fmt::Display for MemorySize {
    /// In the largest unit of which it is a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(bytesize::GIB, "GiB"), (bytesize::MIB, "MiB"), (bytesize::KIB, "KiB")];
        let whole = |(unit, _): &(u64, &str)| self.0 > 0 && self.0.is_multiple_of(*unit);
        let (unit, name) = units.into_iter().find(whole).unwrap_or((1, "B"));
        write!(f, "{}{name}", self.0 / unit)
    }
}

/// A share of the hits, from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SampleRate(f64);

impl SampleRate {
    /// The share.
    pub const fn share(self) -> f64 {
        self.0
    }
}

impl SettingValue for SampleRate {
    const EXPECTED: &'static str = "a share from 0 to 1, such as `0.01` or `1%`";
}

impl FromStr for SampleRate {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (number, of) = text.strip_suffix('%').map_or((text, 1.0), |percent| (percent, 100.0));
        let share = number.trim().parse::<f64>().ok().map(|number| number / of);
        let share = share.filter(|share| (0.0..=1.0).contains(share));
        share.map(Self).ok_or_else(InvalidValue::of::<Self>)
    }
}

impl fmt::Display for SampleRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The permissions of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl SettingValue for SocketMode {
    const EXPECTED: &'static str = "permissions in octal, such as `0660`";
}

impl Default for SocketMode {
    fn default() -> Self {
        Self(0o660)
    }
}

impl FromStr for SocketMode {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.map(Self).ok_or_else(InvalidValue::of::<Self>)
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_as_it_is_written() {
        for text in ["64MiB", "3GiB", "1KiB", "1025B", "0B"] {
            assert_eq!(text.parse::<MemorySize>().map(|size| size.to_string()), Ok(text.into()));
        }
        assert_eq!("1MB".parse(), Ok(MemorySize(1_000_000)));
        assert!("64 things".parse::<MemorySize>().is_err());
    }

    #[test]
    fn a_rate_is_a_share_or_a_percentage() {
        for (text, share) in [("0.01", 0.01), ("1%", 0.01), ("0", 0.0), ("100%", 1.0), ("1", 1.0)] {
            assert_eq!(text.parse(), Ok(SampleRate(share)), "{text}");
        }
        for wrong in ["", "2", "-1", "101%", "NaN", "one"] {
            assert!(wrong.parse::<SampleRate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!("600".parse(), Ok(SocketMode(0o600)));
        assert_eq!(SocketMode(0o600).to_string(), "0600");
        for wrong in ["", "9", "1000", "u+rw"] {
            assert!(wrong.parse::<SocketMode>().is_err(), "{wrong}");
        }
    }
}
