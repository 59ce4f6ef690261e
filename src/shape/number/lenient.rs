//! Numbers as jq's `tonumber` and `fromjson` accept them, beyond JSON's.

use super::super::budget::{BudgetMeter, Flow};
use super::Num;

/// A number that need not be JSON: `+1`, `.5`, `5.`, `01`, `nan`, `-Infinity`.
pub(in super::super) enum LenientNumber {
    Double(f64),
    /// The same number as JSON.
    Json(String),
}

impl LenientNumber {
    /// Reads all of `text`, which the caller has charged for.
    pub(in super::super) fn read(text: &str) -> Option<Self> {
        let negative = text.starts_with('-');
        let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
        if rest.eq_ignore_ascii_case("nan") {
            return Some(Self::Double(f64::NAN));
        }
        if rest.eq_ignore_ascii_case("infinity") || rest.eq_ignore_ascii_case("inf") {
            return Some(Self::Double(if negative { f64::NEG_INFINITY } else { f64::INFINITY }));
        }
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, rest) = rest.split_at(digits(rest));
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits(rest)),
            None => ("", rest),
        };
        let (sign, exponent) = match rest.strip_prefix(['e', 'E']) {
            Some(exponent) => {
                let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
                exponent.split_at(exponent.len() - digits.len())
            }
            None if rest.is_empty() => ("", "0"),
            None => return None,
        };
        let is_number = whole.len() + fraction.len() > 0
            && !exponent.is_empty()
            && digits(exponent) == exponent.len();
        is_number.then(|| {
            let whole = whole.trim_start_matches('0');
            let mut json = if negative { "-" } else { "" }.to_owned();
            json.push_str(if whole.is_empty() { "0" } else { whole });
            if !fraction.is_empty() {
                json.push('.');
                json.push_str(fraction);
            }
            if !rest.is_empty() {
                json.push('e');
                json.push_str(sign);
                json.push_str(exponent);
            }
            Self::Json(json)
        })
    }

    /// The number that it is.
    pub(in super::super) fn number(&self, meter: &mut BudgetMeter<'_>) -> Flow<Num> {
        match self {
            Self::Double(f) => Ok(Num::Float(*f)),
            Self::Json(json) => Num::read_metered(json, meter),
        }
    }
}
