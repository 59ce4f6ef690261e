//! Values in the URLs of sources, keys and references alike: which may stand there, and how they
//! are percent-encoded.
//!
//! Values go out percent-encoded, but a proxy on the way may decode before it routes (nginx does),
//! and then takes `..%2Fadmin` for the way to another folder, with our certificate's rights.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

/// All but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes a value, so that it cannot leave its segment or its query value.
pub(crate) fn encode_value(value: &str) -> PercentEncode<'_> {
    utf8_percent_encode(value, RESERVED)
}

/// The error of a value that is to stand in a URL, after its one decoding: words that follow its
/// name.
pub(crate) fn check_value(value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        return Err("is empty");
    }
    if value.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    if has_dot_part(value) {
        return Err("has a part between `/` or `\\` that is `.` or `..`");
    }
    Ok(())
}

/// Whether a part of `text` between `/` or `\` is `.` or `..`.
pub(crate) fn has_dot_part(text: &str) -> bool {
    text.split(['/', '\\']).any(|part| matches!(part, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_could_lead_elsewhere_once_a_proxy_has_decoded_it_is_refused() {
        for value in [
            ".", "..", "../x", "x/..", "a/../b", "a/./b", "./a", "a\\..\\b", "..\\x", "/..", "../",
            "a\\./b", "//..//",
        ] {
            assert!(check_value(value).is_err_and(|found| found.contains("part")), "{value}");
        }
        for value in
            ["...", ".a", "a..", "a/b", "/a", "a\\b", "..%2f", "%2e%2e", "..;", "a. ./b", "/"]
        {
            assert_eq!(check_value(value), Ok(()), "{value}");
        }
    }

    #[test]
    fn an_empty_value_and_control_characters_are_refused() {
        assert_eq!(check_value(""), Err("is empty"));
        for control in ['\0', '\t', '\n', '\r', '\u{7f}', '\u{85}', '\u{9b}'] {
            assert_eq!(check_value(&format!("a{control}b")), Err("holds a control character"));
        }
        assert_eq!(check_value("a\u{202e}b \u{a0}ä😀"), Ok(()));
    }
}
