//! Settings that are a text of a certain form.

use std::fmt;
use std::str::FromStr;

use super::values::{InvalidValue, SettingValue};
use crate::log_filter::{self, LogFilterError};

/// `--namespace`: the sidecars of a namespace share a cache. It stands in the names of Redis's
/// keys, where a brace would move the slot of a Cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(String);

/// The longest name.
const NAMESPACE_MAX_BYTES: usize = 63;

impl Namespace {
    /// Its name.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl SettingValue for Namespace {
    const EXPECTED: &'static str = "1 to 63 of the characters `a-z A-Z 0-9 - _ .`";
}

impl Default for Namespace {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for Namespace {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let may_stand = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_valid =
            (1..=NAMESPACE_MAX_BYTES).contains(&text.len()) && text.chars().all(may_stand);
        is_valid.then(|| Self(text.to_owned())).ok_or_else(InvalidValue::of::<Self>)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `--log`: a filter, as [`log_filter`] reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SettingValue for LogFilter {
    const EXPECTED: &'static str = "a level such as `info`, \
        or a filter such as `info,bfb::sources=debug`, of at most 1024 bytes";
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        log_filter::parse(text).map(|_| Self(text.to_owned()))
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_can_stand_in_the_names_of_keys() {
        for fine in ["default", "a", "Shop_1.eu-west", &"x".repeat(63)] {
            assert!(fine.parse::<Namespace>().is_ok(), "{fine}");
        }
        for wrong in ["", "a/b", "a{b}", "a b", "ä", &"x".repeat(64)] {
            assert!(wrong.parse::<Namespace>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_log_level_is_one_that_serve_takes() {
        for fine in ["info", "DEBUG", "off", "info,bfb::sources=debug", "bfb[span]=trace"] {
            assert!(fine.parse::<LogFilter>().is_ok(), "{fine}");
        }
        for wrong in ["loud", "inof", "info,bfb::sources", "", "bfb=loud", "loud=very=much"] {
            assert!(wrong.parse::<LogFilter>().is_err(), "{wrong}");
        }
    }
}
