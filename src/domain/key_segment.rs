//! The key as a segment of a path that `bfb` publishes: percent-encoded, decoded, checked.

use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, percent_decode_str, utf8_percent_encode};

use super::model::Domain;
use super::value::check_value;

/// The longest key, in bytes once decoded.
pub const MAX_KEY_BYTES: usize = 512;

/// Percent-encodes a key for its segment; [`decode_key`] reads it. (In the URLs of sources it is
/// encoded by [`encode_value`](super::encode_value), like all values there.)
pub(crate) fn encode_key(key: &str) -> PercentEncode<'_> {
    utf8_percent_encode(key, NON_ALPHANUMERIC)
}

/// The key that a segment names: decoded once, UTF-8, of bounded length, matching the domain's
/// pattern.
pub(crate) fn decode_key(segment: &str, domain: &Domain) -> Result<String, String> {
    // Every byte of the key takes at most three of the segment.
    if segment.len() > 3 * MAX_KEY_BYTES {
        return Err(format!("the key is longer than {MAX_KEY_BYTES} bytes"));
    }
    if has_broken_escape(segment) {
        return Err("the key's segment holds a `%` that is not followed by two hexadecimal digits"
            .to_owned());
    }
    let key = percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| "the decoded key is not UTF-8".to_owned())?;
    if key.len() > MAX_KEY_BYTES {
        return Err(format!("the key is longer than {MAX_KEY_BYTES} bytes"));
    }
    check_value(&key).map_err(|found| format!("the decoded key {found}"))?;
    if !domain.key.matches(&key) {
        return Err(format!("the key does not match `{}`", domain.key.text));
    }
    Ok(key.into_owned())
}

fn has_broken_escape(segment: &str) -> bool {
    let mut escapes = segment.split('%').skip(1);
    escapes.any(|rest| {
        !rest.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_escapes_are_found() {
        for segment in ["%", "%4", "a%zz", "%%41"] {
            assert!(has_broken_escape(segment), "{segment}");
        }
        assert!(!has_broken_escape("a%41%2f") && !has_broken_escape("42"));
    }
}
