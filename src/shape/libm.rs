//! C's mathematics of doubles that Rust lacks: their parts, and their neighbours.

/// A mantissa of 0.5 to 1, and the exponent of 2 that makes it `f`.
pub(super) fn frexp(f: f64) -> (f64, i32) {
    if f == 0.0 || !f.is_finite() {
        return (f, 0);
    }
    // Below the normal numbers the mantissa has no first bit of its own.
    let (f, shift) = if f.is_normal() { (f, 0) } else { (f * 2_f64.powi(54), 54) };
    let exponent = i32::try_from(f.to_bits() >> 52 & 0x7FF).unwrap_or_default() - 1022;
    let mantissa = f64::from_bits(f.to_bits() & !(0x7FF << 52) | 1022 << 52);
    (mantissa, exponent - shift)
}

/// `f * 2^exponent`, rounded once.
pub(super) fn ldexp(f: f64, exponent: f64) -> f64 {
    if f == 0.0 || !f.is_finite() || exponent.is_nan() {
        return if exponent.is_nan() { exponent } else { f };
    }
    // Further than any double is from any other.
    let exponent = exponent.clamp(-3000.0, 3000.0).trunc();
    let mut f = f;
    let mut left = exponent;
    while left > 1023.0 {
        f *= 2_f64.powi(1023);
        left -= 1023.0;
    }
    // So that a result below the normal numbers is rounded in the last step only.
    while left < -1022.0 {
        f *= 2_f64.powi(53 - 1022);
        left += 1022.0 - 53.0;
    }
    f * 2_f64.powf(left)
}

/// The exponent of 2 of the highest bit.
pub(super) fn logb(f: f64) -> f64 {
    match f {
        0.0 => f64::NEG_INFINITY,
        f if !f.is_finite() => f.abs(),
        f => f64::from(frexp(f).1 - 1),
    }
}

/// The mantissa of 1 to 2.
pub(super) fn significand(f: f64) -> f64 {
    frexp(f).0 * if f.is_finite() { 2.0 } else { 1.0 }
}

/// The remainder of `x` beside the multiple of `y` that is nearest, the even one of two.
pub(super) fn remainder(x: f64, y: f64) -> f64 {
    if x.is_infinite() || y == 0.0 || x.is_nan() || y.is_nan() {
        return f64::NAN;
    }
    let size = y.abs();
    let mut rest = if size <= f64::MAX / 2.0 { x.abs() % (2.0 * size) } else { x.abs() };
    let is_more_than_half = |rest: f64| rest > size - rest;
    if is_more_than_half(rest) {
        rest -= size;
        if rest >= size - rest {
            rest -= size;
        }
    }
    if x.is_sign_negative() { -rest } else { rest }
}

/// The double beside `x`, towards `y`.
pub(super) fn nextafter(x: f64, y: f64) -> f64 {
    match x.partial_cmp(&y) {
        None => f64::NAN,
        Some(std::cmp::Ordering::Equal) => y,
        Some(std::cmp::Ordering::Less) => x.next_up(),
        Some(std::cmp::Ordering::Greater) => x.next_down(),
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these are exact")]
mod tests {
    use super::*;

    #[test]
    fn doubles_come_apart_and_together_again() {
        for (f, mantissa, exponent) in [
            (8.0, 0.5, 4),
            (0.3, 0.6, -1),
            (-5.0, -0.625, 3),
            (1e-320, 0.988_281_25, -1063),
            (0.0, 0.0, 0),
        ] {
            assert_eq!(frexp(f), (mantissa, exponent));
            assert_eq!(ldexp(mantissa, f64::from(exponent)).to_bits(), f.to_bits());
        }
        assert_eq!(ldexp(1.0, 5000.0), f64::INFINITY);
        assert_eq!(ldexp(1.0, -5000.0).to_bits(), 0);
        assert_eq!(ldexp(1.0, -1074.0).to_bits(), 1);
        assert_eq!([8.0, 0.3, -5.0, f64::MIN_POSITIVE / 4.0].map(logb), [3.0, -2.0, 2.0, -1024.0]);
        assert_eq!([8.0, 0.3, -5.0, 0.0].map(significand), [1.0, 1.2, -1.25, 0.0]);
    }

    #[test]
    fn remainders_are_of_the_nearest_multiple() {
        for (x, y, rest) in [
            (7.0, 4.0, -1.0),
            (5.0, 3.0, -1.0),
            (6.0, 4.0, -2.0),
            (10.0, 4.0, 2.0),
            (-7.0, 4.0, 1.0),
            (1.0, 4.0, 1.0),
        ] {
            assert_eq!(remainder(x, y), rest, "{x} and {y}");
        }
        assert!(remainder(1.0, 0.0).is_nan() && remainder(f64::INFINITY, 1.0).is_nan());
        assert_eq!(nextafter(1.0, 2.0), 1.0 + f64::EPSILON);
        assert_eq!(nextafter(0.0, -1.0).to_bits(), (-5e-324_f64).to_bits());
    }
}
