//! Explains the syntax errors of the YAML parser.

use super::super::text_lines::line_start;

/// The expectation where the parser stopped, and a hint. `info` is the parser's message, in lower
/// case.
pub(crate) fn yaml_remedy(text: &str, at: usize, info: &str) -> (&'static str, String) {
    (expected(info), hint(text, at, info))
}

/// The tokens that the parser would have accepted; its message names only the one it found, so this
/// goes by its words.
fn expected(info: &str) -> &'static str {
    let says = |words: &str| info.contains(words);
    match () {
        () if says("mapping values") => "the end of the value",
        () if says("':' indicator") => "a key before `:`, or a value",
        () if says("block mapping") => "a `key: value`, indented as those before it",
        () if says("block sequence") || says("sequence entries") || says("'-'") => {
            "a list's `- item`, indented as those before it"
        }
        () if says("flow") || says("bracket") || says("eof") => {
            "`,` between two items, and `]` or `}` after the last"
        }
        () if says("escape") || says("hexadecimal") => {
            "one of YAML's escapes, such as `\\n`, `\\\"` or `\\u00e4`"
        }
        () if says("quoted scalar") => "a closing quote, and every line of the text indented",
        () if says("block scalar") => "every line of the text indented as its first",
        () if says("indentation") => "the indentation of the lines before it",
        () if says("directive") || says("tag") || says("anchor") || says("document") => {
            "keys and values only"
        }
        () if says("unprintable") || says("byte order mark") => "printable text",
        () => "a key, a value, or the end of the file",
    }
}

/// The mistake that is usual there.
fn hint(text: &str, at: usize, info: &str) -> String {
    let line = &text[line_start(text, at)..];
    let line = line.split(['\n', '\r']).next().unwrap_or(line);
    let value = line.split_once(": ").map(|(_, value)| value.trim_start());
    let says = |words: &str| info.contains(words);
    match value.and_then(|value| value.chars().next()) {
        _ if says("escape") || says("hexadecimal") => {
            "write `\\\\` for a backslash itself, or put the text in single quotes, \
             which know no escapes"
                .into()
        }
        _ if says("quoted scalar") => {
            "close the quote that was opened; in single quotes, `''` is the quote itself".into()
        }
        Some(first) if "[{@`%*&!".contains(first) => {
            format!(
                "put a text that begins with `{first}` in quotes, \
                     or a program in a block that begins with `|`"
            )
        }
        _ if says("mapping values are not allowed") => {
            "check the indentation, or put a text that holds `: ` in quotes".into()
        }
        Some(first @ (']' | '}' | ',')) => {
            format!("remove the `{first}`, or open a list or mapping before it")
        }
        _ if says("':' indicator") => {
            "write `key: value` with a key before the `:`, or put the text in quotes".into()
        }
        _ if says("flow") || says("bracket") || says("eof") => {
            "close every `[` and `{` that is opened".into()
        }
        _ if says("directive") || says("document") => {
            "remove lines that begin with `%`, `---` or `...`".into()
        }
        _ if says("unprintable") || says("byte order mark") => {
            "remove the character, or write it as an escape in double quotes".into()
        }
        _ => {
            "check the indentation, the quotes and the brackets here and on the lines before".into()
        }
    }
}
