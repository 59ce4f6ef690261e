//! Which values may stand in a URL: the rule for keys and for references alike.
//!
//! Values go out percent-encoded, but a proxy on the way may decode before it routes (nginx does),
//! and then takes `..%2Fadmin` for the way to another folder, with our certificate's rights.

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
