//! Numbers as a shape sees them.
//!
//! A number that is not calculated with keeps the text it came with: `1.10`, thirty digits and
//! `1e400` pass unchanged. A calculation is done in 64-bit integers while it fits, else in doubles,
//! as in jq; there are no big integers whose size a program could choose. Integers of any length
//! compare exactly, so that long ids stay distinct.

use std::cmp::Ordering;
use std::rc::Rc;

use super::budget::{BudgetMeter, Flow};
use super::buffer::Buffer;
use super::memory_count::HeldMemory;
use super::value::COUNTS_BYTES;

mod double;
mod lenient;

pub(super) use lenient::LenientNumber;

/// One number.
#[derive(Clone, Debug)]
pub(super) enum Num {
    Int(i64),
    /// Never a whole number that fits a double exactly: that is an `Int`.
    Float(f64),
    /// A valid JSON number that is not exactly an `Int`, as it was written.
    Short(ShortText),
    /// One of more digits than `Short` has room for.
    Long(Rc<LongText>),
}

/// A few bytes of text in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShortText {
    len: u8,
    bytes: [u8; SHORT_MAX],
}

/// The length that fits beside the other kinds of values.
const SHORT_MAX: usize = 22;

/// A number of any length: its value is computed once.
#[derive(Debug)]
pub(super) struct LongText {
    text: Box<str>,
    f64: f64,
    /// Neither fraction nor exponent.
    whole: bool,
    _held: HeldMemory,
}

impl ShortText {
    fn of(text: &str) -> Option<Self> {
        let mut bytes = [0; SHORT_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { len: u8::try_from(text.len()).ok()?, bytes })
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn text(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }
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
            _ => Self::text(text),
        }
    }

    /// Reads a valid JSON number of any length.
    pub(super) fn read_metered(text: &str, meter: &mut BudgetMeter<'_>) -> Flow<Self> {
        if text.len() > SHORT_MAX {
            meter.alloc(size_of::<LongText>() + COUNTS_BYTES + 3 * text.len())?;
        }
        Ok(Self::read(text))
    }

    fn text(text: &str) -> Self {
        if let Some(short) = ShortText::of(text) {
            return Self::Short(short);
        }
        let whole = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let held = HeldMemory::of(size_of::<LongText>() + COUNTS_BYTES + text.len());
        Self::Long(Rc::new(LongText {
            text: text.into(),
            f64: text.parse().unwrap_or(f64::NAN),
            whole,
            _held: held,
        }))
    }

    /// About the bytes that it renders to.
    #[inline]
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Int(_) | Self::Float(_) => 4,
            Self::Short(short) => u64::from(short.len) + 3,
            Self::Long(long) => long.text.len() as u64 + 3,
        }
    }

    /// Whether it is written without fraction and exponent.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Int(_) => true,
            Self::Float(_) => false,
            Self::Short(short) => short.bytes().iter().all(|b| b.is_ascii_digit() || *b == b'-'),
            Self::Long(long) => long.whole,
        }
    }

    /// The text that it came with, if it did.
    pub(super) fn source_text(&self) -> Option<&str> {
        match self {
            Self::Int(_) | Self::Float(_) => None,
            Self::Short(short) => Some(short.text()),
            Self::Long(long) => Some(&long.text),
        }
    }

    /// Reads a number of a program's text, which may have leading zeros and need no digit on one
    /// side of its point.
    pub(super) fn literal(text: &str) -> Self {
        let padded = text.starts_with('0') && text[1..].starts_with(|c: char| c.is_ascii_digit());
        let point = text.find('.');
        let bare = point
            .is_some_and(|at| at == 0 || !text[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
        match text.parse() {
            Ok(int) => Self::Int(int),
            Err(_) if padded || bare => Self::of(text.parse().unwrap_or(f64::NAN)),
            Err(_) => Self::text(text),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "that is what arithmetic in doubles means")]
    pub(super) fn f64(&self) -> f64 {
        match self {
            Self::Int(i) => *i as f64,
            Self::Float(f) => *f,
            Self::Short(short) => short.text().parse().unwrap_or(f64::NAN),
            Self::Long(long) => long.f64,
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
        self.checked_int(other, i64::checked_add)
            .unwrap_or_else(|| Self::of(self.f64() + other.f64()))
    }

    pub(super) fn sub(&self, other: &Self) -> Self {
        self.checked_int(other, i64::checked_sub)
            .unwrap_or_else(|| Self::of(self.f64() - other.f64()))
    }

    pub(super) fn mul(&self, other: &Self) -> Self {
        self.checked_int(other, i64::checked_mul)
            .unwrap_or_else(|| Self::of(self.f64() * other.f64()))
    }

    /// `None` where the divisor is zero.
    pub(super) fn div(&self, other: &Self) -> Option<Self> {
        let exact =
            |x: i64, y| x.checked_rem(y).filter(|rest| *rest == 0).and_then(|_| x.checked_div(y));
        let divisor = other.f64();
        (divisor != 0.0).then(|| {
            self.checked_int(other, exact).unwrap_or_else(|| Self::of(self.f64() / divisor))
        })
    }

    /// Of whole numbers, as in jq; `None` where the divisor is zero.
    pub(super) fn rem(&self, other: &Self) -> Option<Self> {
        let (Some(x), Some(y)) = (self.truncated(), other.truncated()) else {
            return Some(Self::Float(f64::NAN));
        };
        (y != 0).then(|| Self::Int(x.checked_rem(y).unwrap_or(0)))
    }

    pub(super) fn neg(&self, meter: &mut BudgetMeter<'_>) -> Flow<Self> {
        let text = self.source_text().unwrap_or_default();
        // Read, written, and read again.
        meter.alloc(3 * text.len())?;
        Ok(self.negated())
    }

    /// The same where the text is known to be short: a number in a program's text.
    pub(super) fn negated(&self) -> Self {
        match self {
            Self::Int(i) => i.checked_neg().map_or_else(|| Self::of(-self.f64()), Self::Int),
            Self::Float(f) => Self::of(-f),
            Self::Short(_) | Self::Long(_) => {
                let text = self.source_text().unwrap_or_default();
                text.strip_prefix('-').map_or_else(|| Self::read(&format!("-{text}")), Self::read)
            }
        }
    }

    pub(super) fn is_nan(&self) -> bool {
        matches!(self, Self::Float(f) if f.is_nan())
    }

    /// Appends the JSON text. As in jq, numbers without a JSON text are written as `null` (nan) or
    /// as the largest double (infinite).
    pub(super) fn write(&self, out: &mut Buffer, meter: &mut BudgetMeter<'_>) -> Flow {
        match self {
            Self::Int(i) => out.push_int(meter, *i),
            Self::Short(short) => out.push_ascii(meter, short.bytes()),
            Self::Long(long) => out.push(meter, &long.text),
            Self::Float(f) if f.is_nan() => out.push(meter, "null"),
            Self::Float(f) => out.push(meter, &double::format_double(f.clamp(-f64::MAX, f64::MAX))),
        }
    }

    fn checked_int(&self, other: &Self, f: impl Fn(i64, i64) -> Option<i64>) -> Option<Self> {
        match (self, other) {
            (Self::Int(x), Self::Int(y)) => f(*x, *y).map(Self::Int),
            _ => None,
        }
    }

    /// The whole number towards zero, clipped to 64 bits; `None` for nan.
    #[expect(clippy::cast_possible_truncation, reason = "`as` clips, as jq does here")]
    pub(super) fn truncated(&self) -> Option<i64> {
        match self {
            Self::Int(i) => Some(*i),
            other => Some(other.f64()).filter(|f| !f.is_nan()).map(|f| f as i64),
        }
    }

    /// Sign and digits of an integer of any length.
    fn digits(&self) -> Option<(bool, &str)> {
        let text = self.source_text().filter(|_| self.is_whole())?;
        Some(text.strip_prefix('-').map_or((false, text), |rest| (true, rest)))
    }

    /// jq's order: nan below all numbers, and integers exactly.
    pub(super) fn order(&self, other: &Self, meter: &mut BudgetMeter<'_>) -> Flow<Ordering> {
        if let (Self::Int(x), Self::Int(y)) = (self, other) {
            return Ok(x.cmp(y));
        }
        if let (Some((negative, x)), Some((_, y))) = (self.digits(), other.digits())
            && other.digits().is_some_and(|(n, _)| n == negative)
        {
            let size = match x.len().cmp(&y.len()) {
                Ordering::Equal => meter.order_texts(x, y)?,
                longer => longer,
            };
            return Ok(if negative { size.reverse() } else { size });
        }
        let x = self.f64();
        let y = other.f64();
        Ok(x.partial_cmp(&y)
            .unwrap_or_else(|| if x.is_nan() { Ordering::Less } else { Ordering::Greater }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Budget;

    fn meter() -> BudgetMeter<'static> {
        BudgetMeter::new(&Budget::default())
    }

    #[test]
    fn long_integers_stay_distinct_and_ordered() {
        let a = Num::read("100000000000000000000000000001");
        let b = Num::read("100000000000000000000000000002");
        let order = |x: &Num, y: &Num| x.order(y, &mut meter()).expect("within the budget");
        assert_eq!(order(&a, &b), Ordering::Less);
        assert_eq!(order(&a.negated(), &b.negated()), Ordering::Greater);
        assert_eq!(order(&Num::Int(i64::MAX), &a), Ordering::Less);
        assert_eq!(order(&a.negated(), &Num::Int(i64::MIN)), Ordering::Less);
    }

    #[test]
    fn arithmetic_leaves_integers_only_where_they_no_longer_fit() {
        let text = |n: Num| {
            let mut out = Buffer::default();
            n.write(&mut out, &mut meter()).expect("within the budget");
            String::from_utf8(out.into_bytes()).expect("it is text")
        };
        assert_eq!(text(Num::Int(7).div(&Num::Int(2)).expect("not zero")), "3.5");
        assert_eq!(text(Num::Int(8).div(&Num::Int(2)).expect("not zero")), "4");
        assert_eq!(text(Num::Int(i64::MAX).add(&Num::Int(1))), "9223372036854776000");
        assert_eq!(text(Num::Int(i64::MIN).negated()), "9223372036854776000");
        assert_eq!(text(Num::Int(i64::MIN).rem(&Num::Int(-1)).expect("not zero")), "0");
        assert!(
            Num::Int(1).div(&Num::read("0.0")).is_none() && Num::Int(1).rem(&Num::Int(0)).is_none()
        );
        assert_eq!(text(Num::read("1.10")), "1.10");
    }
}
