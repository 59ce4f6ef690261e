//! Numbers as a shape sees them.
//!
//! A number that is not calculated with keeps the text it came with: `1.10`, thirty digits and `1e400` pass unchanged. A
//! calculation is done in 64-bit integers while it fits, else in doubles, as in jq; there are no big integers whose size
//! a program could choose. Integers of any length compare exactly, so that long ids stay distinct.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::sync::Arc;

/// One number.
#[derive(Clone, Debug)]
pub(super) enum Num {
    Int(i64),
    /// Never a whole number that fits a double exactly: that is an `Int`.
    Float(f64),
    /// A valid JSON number that is not exactly an `Int`, as it was written.
    Text(Arc<str>),
}

/// Up to here doubles hold every whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Num {
    /// The number for a double, normalised.
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
    pub(super) fn of(f: f64) -> Self {
        if f.fract() == 0.0 && f.abs() <= EXACT { Self::Int(f as i64) } else { Self::Float(f) }
    }

    pub(super) fn count(n: usize) -> Self {
        i64::try_from(n).map_or(Self::Float(f64::INFINITY), Self::Int)
    }

    /// Reads a valid JSON number.
    pub(super) fn read(text: &str) -> Self {
        match text.parse() {
            Ok(int) if text != "-0" => Self::Int(int),
            _ => Self::Text(text.into()),
        }
    }

    /// Reads a number of a program's text, which may have leading zeros.
    pub(super) fn literal(text: &str) -> Self {
        let padded = text.starts_with('0') && text[1..].starts_with(|c: char| c.is_ascii_digit());
        match text.parse() {
            Ok(int) => Self::Int(int),
            Err(_) if padded => Self::of(text.parse().unwrap_or(f64::NAN)),
            Err(_) => Self::Text(text.into()),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "that is what arithmetic in doubles means")]
    pub(super) fn f64(&self) -> f64 {
        match self {
            Self::Int(i) => *i as f64,
            Self::Float(f) => *f,
            Self::Text(text) => text.parse().unwrap_or(f64::NAN),
        }
    }

    /// The whole number below, clipped to 64 bits; `None` for nan.
    #[expect(clippy::cast_possible_truncation, reason = "`as` clips, which is what indices want")]
    pub(super) fn floor(&self) -> Option<i64> {
        match self {
            Self::Int(i) => Some(*i),
            other => Some(other.f64()).filter(|f| !f.is_nan()).map(|f| f.floor() as i64),
        }
    }

    pub(super) fn add(&self, other: &Self) -> Self {
        self.ints(other, i64::checked_add).unwrap_or_else(|| Self::of(self.f64() + other.f64()))
    }

    pub(super) fn sub(&self, other: &Self) -> Self {
        self.ints(other, i64::checked_sub).unwrap_or_else(|| Self::of(self.f64() - other.f64()))
    }

    pub(super) fn mul(&self, other: &Self) -> Self {
        self.ints(other, i64::checked_mul).unwrap_or_else(|| Self::of(self.f64() * other.f64()))
    }

    /// `None` where the divisor is zero.
    pub(super) fn div(&self, other: &Self) -> Option<Self> {
        let exact = |x: i64, y| x.checked_rem(y).filter(|rest| *rest == 0).and_then(|_| x.checked_div(y));
        let divisor = other.f64();
        (divisor != 0.0).then(|| self.ints(other, exact).unwrap_or_else(|| Self::of(self.f64() / divisor)))
    }

    /// Of whole numbers, as in jq; `None` where the divisor is zero.
    pub(super) fn rem(&self, other: &Self) -> Option<Self> {
        let (Some(x), Some(y)) = (self.truncated(), other.truncated()) else { return Some(Self::Float(f64::NAN)) };
        (y != 0).then(|| Self::Int(x.checked_rem(y).unwrap_or(0)))
    }

    pub(super) fn neg(&self) -> Self {
        match self {
            Self::Int(i) => i.checked_neg().map_or_else(|| Self::of(-self.f64()), Self::Int),
            Self::Float(f) => Self::of(-f),
            Self::Text(text) => match text.strip_prefix('-') {
                Some(rest) => Self::read(rest),
                None => Self::read(&format!("-{text}")),
            },
        }
    }

    /// Appends the JSON text; false where JSON has none (nan, infinite).
    pub(super) fn write(&self, out: &mut String) -> bool {
        match self {
            Self::Int(i) => out.push_str(&i.to_string()),
            Self::Text(text) => out.push_str(text),
            Self::Float(f) if f.is_finite() => {
                let _ = write!(out, "{f:?}");
            }
            Self::Float(_) => return false,
        }
        true
    }

    fn ints(&self, other: &Self, f: impl Fn(i64, i64) -> Option<i64>) -> Option<Self> {
        match (self, other) {
            (Self::Int(x), Self::Int(y)) => f(*x, *y).map(Self::Int),
            _ => None,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "`as` clips, as jq does here")]
    fn truncated(&self) -> Option<i64> {
        match self {
            Self::Int(i) => Some(*i),
            other => Some(other.f64()).filter(|f| !f.is_nan()).map(|f| f as i64),
        }
    }

    /// Sign and digits of an integer of any length.
    fn digits(&self) -> Option<(bool, &str)> {
        let Self::Text(text) = self else { return None };
        let (negative, digits) = text.strip_prefix('-').map_or((false, &**text), |rest| (true, rest));
        digits.bytes().all(|b| b.is_ascii_digit()).then_some((negative, digits))
    }
}

/// jq's order: nan below all numbers, and integers exactly.
impl Ord for Num {
    fn cmp(&self, other: &Self) -> Ordering {
        if let (Self::Int(x), Self::Int(y)) = (self, other) {
            return x.cmp(y);
        }
        if let (Some((negative, x)), Some((_, y))) = (self.digits(), other.digits())
            && other.digits().is_some_and(|(n, _)| n == negative)
        {
            let size = x.len().cmp(&y.len()).then_with(|| x.cmp(y));
            return if negative { size.reverse() } else { size };
        }
        let (x, y) = (self.f64(), other.f64());
        x.partial_cmp(&y).unwrap_or_else(|| if x.is_nan() { Ordering::Less } else { Ordering::Greater })
    }
}

impl PartialOrd for Num {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Num {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Num {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_integers_stay_distinct_and_ordered() {
        let (a, b) = (Num::read("100000000000000000000000000001"), Num::read("100000000000000000000000000002"));
        assert!(a < b && a != b && a.neg() > b.neg());
        assert!(Num::Int(i64::MAX) < a && a.neg() < Num::Int(i64::MIN));
    }

    #[test]
    fn arithmetic_leaves_integers_only_where_they_no_longer_fit() {
        let text = |n: Num| {
            let mut out = String::new();
            assert!(n.write(&mut out));
            out
        };
        assert_eq!(text(Num::Int(7).div(&Num::Int(2)).expect("not zero")), "3.5");
        assert_eq!(text(Num::Int(8).div(&Num::Int(2)).expect("not zero")), "4");
        assert_eq!(text(Num::Int(i64::MAX).add(&Num::Int(1))), "9.223372036854776e18");
        assert_eq!(text(Num::Int(i64::MIN).neg()), "9.223372036854776e18");
        assert_eq!(text(Num::Int(i64::MIN).rem(&Num::Int(-1)).expect("not zero")), "0");
        assert!(Num::Int(1).div(&Num::read("0.0")).is_none() && Num::Int(1).rem(&Num::Int(0)).is_none());
        assert_eq!(text(Num::read("1.10")), "1.10");
    }
}
