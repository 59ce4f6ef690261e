//! Escapes text for a terminal. Keys, data and names come from others: a control sequence among
//! them would steer the terminal, and a mark of writing direction (U+202E) would show another text
//! than there is (CVE-2021-42574). They are shown as escapes.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether `c` does something to a terminal, or nothing that can be seen, instead of being shown.
///
/// The joiners U+200C and U+200D are left alone: Persian and emoji are written with them, and they
/// move nothing.
fn is_unprintable(c: char) -> bool {
    match c {
        ' '..='~' | '\u{200c}' | '\u{200d}' => false,
        _ if c.is_alphanumeric() => false,
        // The standard library knows what is printable. It escapes marks that combine with another
        // character only where they come first.
        _ => c.is_control() || format!("x{c}").escape_debug().nth(1) == Some('\\'),
    }
}

/// Text of others, in one line: everything that is not shown is escaped, as `\u{202e}`.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    replace(text, |_| false, |written, c| written.extend(c.escape_default()))
}

/// JSON of others: escapes of JSON's own, so that it stays the same JSON. Blanks between tokens
/// stay.
pub(super) fn escape_json(json: &str) -> Cow<'_, str> {
    let is_blank = |c: char| matches!(c, '\n' | '\t' | '\r');
    replace(json, is_blank, |written, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(written, "\\u{unit:04x}");
        }
    })
}

/// A text that `bfb` composed, with foreign text in it: lines and colours pass, nothing else that
/// is not shown.
pub(super) fn pass_colours(text: &str) -> Cow<'_, str> {
    let is_blank = |c: char| matches!(c, '\n' | '\t');
    replace_between_colours(text, is_blank, |written, c| written.extend(c.escape_default()))
}

/// Problems as they are drawn, with signs under the very columns that they are about: what is not
/// shown is one character there, as the drawing itself has it for some. The path of a file is drawn
/// as it is, and may hold any sequence.
pub(super) fn replace_unprintable(drawn: &str) -> Cow<'_, str> {
    replace_between_colours(drawn, |c| c == '\n', |written, _| written.push('\u{fffd}'))
}

/// Sequences that set a colour pass; `write` writes every other character that is not shown.
fn replace_between_colours(
    text: &str,
    passes: impl Fn(char) -> bool,
    write: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    let replaced = |text| replace(text, &passes, &write);
    let Some(first) = text.find('\x1b') else { return replaced(text) };
    let mut passed = replaced(&text[..first]).into_owned();
    let mut rest = &text[first..];
    while !rest.is_empty() {
        let colour = colour_length(rest);
        passed += &rest[..colour];
        // An escape that begins no colour is one character of text.
        let begun = if colour == 0 { 1 } else { colour };
        let end = rest[begun..].find('\x1b').map_or(rest.len(), |at| begun + at);
        passed += &replaced(&rest[colour..end]);
        rest = &rest[end..];
    }
    passed.into()
}

/// The bytes of the sequence that sets a colour (ECMA-48, SGR) at the beginning of `text`; 0: there
/// is none.
fn colour_length(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\x1b[") else { return 0 };
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';');
    end.filter(|end| parameters[*end..].starts_with('m')).map_or(0, |end| "\x1b[".len() + end + 1)
}

fn replace(
    text: &str,
    passes: impl Fn(char) -> bool,
    mut write: impl FnMut(&mut String, char),
) -> Cow<'_, str> {
    let is_replaced = |c: char| is_unprintable(c) && !passes(c);
    let Some(first) = text.find(is_replaced) else { return text.into() };
    let mut written = text[..first].to_owned();
    for c in text[first..].chars() {
        if is_replaced(c) { write(&mut written, c) } else { written.push(c) }
    }
    written.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All marks of writing direction, controls, and a few characters that are not seen.
    const UNPRINTABLE: &str = "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\
        \u{2066}\u{2067}\u{2068}\u{2069}\u{200e}\u{200f}\u{61c}\
        \u{0}\u{7}\u{8}\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{9f}\u{ad}\
        \u{200b}\u{2028}\u{2029}\u{feff}\u{e0001}\u{e000}";
    const SHOWN: &str = "abc 42 \u{e4}\u{df} e\u{301} \u{65e5}\u{672c} \
        \u{645}\u{6cc}\u{200c}\u{62e} \u{5d0} \
        \u{1f469}\u{200d}\u{1f467} \u{2764}\u{fe0f} <>&'\"\\";

    #[test]
    fn what_steers_a_terminal_or_is_not_seen_is_escaped_and_writing_is_not() {
        for c in UNPRINTABLE.chars() {
            assert!(is_unprintable(c), "{c:?}");
            let text = c.to_string();
            assert!(escape(&text).is_ascii(), "{c:?}");
            assert!(pass_colours(&text).is_ascii(), "{c:?}");
        }
        for escaped in
            [escape(SHOWN), escape_json(SHOWN), pass_colours(SHOWN), replace_unprintable(SHOWN)]
        {
            assert_eq!(escaped, SHOWN);
        }
        assert_eq!(escape("a\u{202e}b\nc"), r"a\u{202e}b\nc");
    }

    #[test]
    fn json_stays_the_same_json() {
        let json =
            format!("{{\n\t\"k{0}\": [\"{0}\", 1.10]\r\n}}", UNPRINTABLE.replace(|c| c < ' ', ""));
        let escaped = escape_json(&json);
        assert!(
            escaped.is_ascii() && escaped.contains(r"\u202e") && escaped.contains(r"\udb40\udc01"),
            "{escaped}"
        );
        let read = |json: &str| serde_json::from_str::<serde_json::Value>(json).ok();
        assert!(read(&json).is_some());
        assert_eq!(read(&escaped), read(&json));
    }

    #[test]
    fn lines_and_colours_of_ours_pass_and_no_other_sequence_does() {
        let styled = "\x1b[1mbold\x1b[0m\n\x1b[38;5;9mred\x1b[m\tplain";
        assert_eq!(pass_colours(styled), styled);
        assert_eq!(
            pass_colours("\x1b[31ma\x1b[2Jb\x1b]0;t\x07\x1b"),
            "\x1b[31ma\\u{1b}[2Jb\\u{1b}]0;t\\u{7}\\u{1b}"
        );
        assert_eq!(pass_colours("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(replace_unprintable("\x1b[1ma\u{9b}\u{200e}\n"), "\x1b[1ma\u{fffd}\u{fffd}\n");
        let drawn = replace_unprintable("\x1b[31ma\x1b[2J\x1b[m\t");
        assert_eq!(drawn, "\x1b[31ma\u{fffd}[2J\x1b[m\u{fffd}");
    }
}
