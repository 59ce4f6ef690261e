//! The trait of a setting's value: the text that a person may write, and the default.

use std::fmt;
use std::str::FromStr;

/// A value of a setting, however it was given: by a flag, a variable or an annotation. What is
/// displayed is read back as the same value.
pub trait SettingValue: FromStr + fmt::Display + Default {
    /// The form that a text must have, for messages.
    const EXPECTED: &'static str;
}

/// A text is no value of its setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct InvalidValue {
    /// The form that was expected.
    pub expected: &'static str,
}

impl InvalidValue {
    /// Of the values of `T`.
    pub(super) fn of<T: SettingValue>() -> Self {
        Self { expected: T::EXPECTED }
    }
}

/// What a text must be to be a value of `T`, if it is none.
pub(super) fn check<T: SettingValue>(text: &str) -> Result<(), InvalidValue> {
    text.parse::<T>().map(drop).map_err(|_| InvalidValue::of::<T>())
}

/// The default, as text.
pub(super) fn default_text<T: SettingValue>() -> String {
    T::default().to_string()
}
