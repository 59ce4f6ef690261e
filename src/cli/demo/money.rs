//! Amounts of money that keep their decimals in JSON.

use std::iter::Sum;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Cents, written as a JSON number with two decimals: `129.90`, which a float would shorten to
/// `129.9`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Money(pub(super) u64);

impl Money {
    /// The price of several.
    pub(super) fn times(self, quantity: u32) -> Self {
        Self(self.0 * u64::from(quantity))
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        Self(amounts.map(|amount| amount.0).sum())
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = format!("{}.{:02}", self.0 / 100, self.0 % 100);
        RawValue::from_string(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_json_numbers_with_two_decimals() {
        let written: Vec<_> =
            [0, 5, 12_990, 100].map(|cents| serde_json::to_string(&Money(cents)).unwrap()).into();
        assert_eq!(written, ["0.00", "0.05", "129.90", "1.00"]);
    }

    #[test]
    fn a_total_is_exact() {
        let total: Money = [Money(1_999).times(3), Money(10)].into_iter().sum();
        assert_eq!(total, Money(6_007));
    }
}
