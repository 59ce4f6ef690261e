//! The `key` of a path as an `OpenAPI` parameter. A domain file says what a key is in Rust's
//! regular expressions, JSON Schema in those of ECMAScript, and many tools in those of their own
//! language: what all of them read alike is written as a pattern, the rest in words.

use serde_json::{Value, json};

use crate::domain::{Domain, MAX_KEY_BYTES};

/// The control characters as a class of characters, for languages without `\p`.
const CONTROLS: (&str, &str) = (r"\p{Cc}", r"\x00-\x1f\x7f-\x9f");
/// Syntax that other languages do not know, or read differently.
const FOREIGN: [&str; 13] =
    [r"\p", r"\P", "[[", "&&", "--", "~~", r"\x{", r"\u", r"\U", r"\A", r"\z", r"\b{", r"\Q"];

/// The parameter.
pub(super) fn key_parameter(domain: &Domain) -> Value {
    let text = &domain.key.text;
    let mut schema = json!({
        "type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES, "not": {"enum": [".", ".."]},
    });
    if let Some(pattern) = portable_pattern(text) {
        schema["pattern"] = format!("^(?:{pattern})$").into();
    }
    json!({
        "name": "key", "in": "path", "required": true,
        "description": format!(
            "Matches the Rust regular expression `{text}` as a whole, \
             in at most {MAX_KEY_BYTES} bytes"
        ),
        "schema": schema,
    })
}

/// The pattern as all read it; `None` where they do not.
fn portable_pattern(pattern: &str) -> Option<String> {
    let mut is_class = false;
    let mut rest = pattern;
    let mut written = String::new();
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix(CONTROLS.0).filter(|_| is_class) {
            written += CONTROLS.1;
            rest = after;
            continue;
        }
        if FOREIGN.iter().any(|foreign| rest.starts_with(foreign)) {
            return None;
        }
        match c {
            '\\' => {
                let escaped = rest.chars().nth(1)?;
                written.extend([c, escaped]);
                rest = &rest[1 + escaped.len_utf8()..];
                continue;
            }
            '[' if is_class => return None,
            '[' => is_class = true,
            ']' => is_class = false,
            '(' if !is_class && rest.starts_with("(?") && !rest.starts_with("(?:") => return None,
            _ => {}
        }
        written.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_all_read_alike_is_written_and_no_other() {
        for same in
            ["[0-9]{1,18}", ".+", "[a-z]+(?:-[a-z]+)*", r"\d+\.\d+", r"[\[\]]", "a|b", "(a)(b)?"]
        {
            assert_eq!(portable_pattern(same).as_deref(), Some(same));
        }
        let default = portable_pattern(r"[^/\\\p{Cc}]+");
        assert_eq!(default.as_deref(), Some(r"[^/\\\x00-\x1f\x7f-\x9f]+"));
        for foreign in [
            r"\p{L}+",
            r"\p{Cc}",
            "(?i)a",
            "(?P<a>b)",
            "[a[bc]]",
            "[[:alpha:]]",
            "[a-z&&[^b]]",
            r"\x{1F600}",
            "a\\",
        ] {
            assert_eq!(portable_pattern(foreign), None, "{foreign}");
        }
    }
}
