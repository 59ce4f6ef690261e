//! Whether bytes are one JSON text within our bounds. They are never taken apart: a part stays as
//! it came.
//!
//! A text may be nested [`MAX_DEPTH`] levels deep (RFC 8259, section 9 lets a parser set such a
//! bound). The depth is counted by a scan without recursion before any parser sees the text, so no
//! input can use up the stack.

use std::str::Utf8Error;

use bytes::Bytes;
use serde_json::value::RawValue;

/// The deepest nesting of arrays and objects in a part.
pub(super) const MAX_DEPTH: usize = 128;

/// The text without a byte order mark (RFC 8259, section 8.1 lets a parser ignore one) and without
/// white space around it; or its error (in words and places, never in data).
pub(super) fn validate(body: &Bytes) -> Result<Bytes, InvalidJson> {
    let text = std::str::from_utf8(body).map_err(|error| not_utf8_error(body, error))?;
    let (text, behind_mark) = match text.strip_prefix('\u{feff}') {
        Some(text) => (text, ", counted behind its byte order mark"),
        None => (text, ""),
    };
    if let Some(at) = find_excess_depth(text.as_bytes()) {
        let detail =
            format!("the body is nested deeper than {MAX_DEPTH} levels, from byte {at} on");
        return Err(InvalidJson { detail, is_broken: false });
    }
    let _: &RawValue = serde_json::from_str(text).map_err(|error| {
        InvalidJson::broken(format!("the body is not JSON: {error}{behind_mark}"))
    })?;
    let trimmed = text.trim_matches([' ', '\t', '\n', '\r']).as_bytes();
    // A slice would keep the whole body in memory: where most of it is white space, it is copied.
    let mostly_space = trimmed.len() < body.len() / 2;
    Ok(if mostly_space { Bytes::copy_from_slice(trimmed) } else { body.slice_ref(trimmed) })
}

/// Why a text is no part.
#[derive(Debug)]
pub(super) struct InvalidJson {
    /// In words and places, never in data.
    pub(super) detail: String,
    /// The body was cut or garbled on the way, so that another request may bring a whole one.
    pub(super) is_broken: bool,
}

impl InvalidJson {
    fn broken(detail: String) -> Self {
        Self { detail, is_broken: true }
    }
}

fn not_utf8_error(body: &[u8], error: Utf8Error) -> InvalidJson {
    if matches!(body, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        let detail = "the body begins with the byte order mark of UTF-16, expected UTF-8";
        return InvalidJson::broken(detail.to_owned());
    }
    let valid = error.valid_up_to();
    InvalidJson::broken(format!("the body is not UTF-8: byte {valid} is the first that is not"))
}

/// Where the nesting passes [`MAX_DEPTH`], if it does. Brackets within strings do not count.
fn find_excess_depth(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut bytes = text.iter().enumerate();
    let mut in_string = false;
    while let Some((at, byte)) = bytes.next() {
        match (in_string, byte) {
            (true, b'\\') => {
                bytes.next();
            }
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => depth += 1,
            // A text with too many closing brackets is the parser's to refuse.
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn check(text: &str) -> Result<Bytes, String> {
        validate(&Bytes::copy_from_slice(text.as_bytes())).map_err(|invalid| invalid.detail)
    }

    #[test]
    fn a_text_stays_as_it_came_but_for_the_white_space_around_it() {
        for text in
            ["{ \"a\" : 1.10 }", "[1e400, 12345678901234567890123]", "\"\\ud800\"", "null", "-0.0"]
        {
            assert_eq!(check(&format!(" \r\n\t{text}\n")).unwrap(), text);
        }
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place_and_without_its_data() {
        for text in [
            "",
            " ",
            "secret",
            "{\"a\":secret}",
            "[1,]",
            "{'a':1}",
            "NaN",
            "01",
            "1 2",
            "[1]]",
            "\"\u{1}\"",
            "\u{feff}",
            "\u{feff}\u{feff}1",
            " \u{feff}1",
        ] {
            let problem = check(text).unwrap_err();
            assert!(problem.contains("line 1 column"), "{problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_refused() {
        let invalid = validate(&Bytes::from_static(b"\"a\xff\"")).unwrap_err();
        assert_eq!(invalid.detail, "the body is not UTF-8: byte 2 is the first that is not");
        for utf16 in [&b"\xff\xfe1\0"[..], b"\xfe\xff\x001"] {
            let invalid = validate(&Bytes::copy_from_slice(utf16)).unwrap_err();
            assert!(invalid.detail.contains("byte order mark of UTF-16, expected UTF-8"));
        }
    }

    #[test]
    fn a_byte_order_mark_is_dropped_and_where_json_is_wrong_behind_it_the_text_names_it() {
        for text in ["{\"a\":1}", "1", "\"\u{feff}\""] {
            assert_eq!(check(&format!("\u{feff} {text}\n")).unwrap(), text);
        }
        let problem = check("\u{feff}[secret]").unwrap_err();
        assert!(
            problem.ends_with("line 1 column 2, counted behind its byte order mark"),
            "{problem}"
        );
    }

    #[test]
    fn only_what_is_broken_may_be_whole_the_next_time() {
        for (text, is_broken) in
            [("{\"a\":\"x", true), ("", true), ("no", true), (&*"[".repeat(1_000), false)]
        {
            let body = Bytes::copy_from_slice(text.as_bytes());
            assert_eq!(validate(&body).unwrap_err().is_broken, is_broken, "{text:.9}");
        }
    }

    #[test]
    fn a_hundred_and_twenty_eight_levels_are_taken_and_one_more_is_not() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(check(&nested(MAX_DEPTH)).is_ok());
        assert!(check(&nested(MAX_DEPTH + 1)).unwrap_err().contains("from byte 128 on"));
        assert!(check(&nested(1_000_000)).unwrap_err().contains("nested deeper"));
        assert!(check(&"{\"a\":".repeat(10_000)).unwrap_err().contains("nested deeper"));
    }

    #[test]
    fn brackets_in_strings_are_no_levels() {
        let text = format!("\"\\\"{}\"", "[".repeat(1_000));
        assert_eq!(check(&text).unwrap(), text);
        assert!(check(&format!("[{}]", vec!["[]"; 1_000].join(","))).is_ok());
    }
}
