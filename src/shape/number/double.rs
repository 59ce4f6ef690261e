//! Doubles as jq writes them: the shortest digits that mean the number, with an exponent where it
//! is below 1e-4, or has more than fifteen zeros after its digits.

/// The text of a finite double.
pub(super) fn format_double(f: f64) -> String {
    // Most are: then there is no exponent, and nothing to be counted.
    if (1e-4..1e15).contains(&f.abs()) {
        return f.to_string();
    }
    // `-1.5e-7`: a sign, digits with a point after the first, an exponent.
    let scientific = format!("{f:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let len = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let before_point = exponent + 1;
    if before_point <= -4 || before_point > len + 15 {
        let point = if digits.len() > 1 { "." } else { "" };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        let (first, rest) = digits.split_at(1);
        return format!("{sign}{first}{point}{rest}e{exponent_sign}{:02}", exponent.abs());
    }
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or_default());
    if before_point <= 0 {
        return format!("{sign}0.{}{digits}", zeros(-before_point));
    }
    if before_point >= len {
        return format!("{sign}{digits}{}", zeros(before_point - len));
    }
    let (whole, fraction) = digits.split_at(usize::try_from(before_point).unwrap_or_default());
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::format_double;

    #[test]
    fn doubles_are_written_as_jq_writes_them() {
        for (f, text) in [
            (0.1 + 0.2, "0.30000000000000004"),
            (-1.5, "-1.5"),
            (1e17, "1e+17"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (-1e-7, "-1e-07"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (1.234_567_8e24, "1.2345678e+24"),
            (18_446_744_073_709_551_616.0, "18446744073709552000"),
            (f64::MAX, "1.7976931348623157e+308"),
        ] {
            assert_eq!(format_double(f), text);
        }
    }
}
