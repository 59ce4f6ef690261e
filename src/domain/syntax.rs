//! What the YAML parser does not understand, in words that help.

use super::context::Context;

/// Reports the parser's error `info` at `at`, in bytes of the file.
pub(super) fn report(context: &mut Context<'_>, at: usize, info: &str) {
    let text = context.text;
    let info = info.trim_end_matches('.').to_lowercase();
    if let Some(tab) = indenting_tab(text, at, info.contains("tab")) {
        return tab_problem(context, tab);
    }
    let next = text[at..].chars().next();
    if text[..at].ends_with('\t') {
        context.problem(
            at - 1..at,
            "a tab stands where a space is needed",
            "a space",
            "replace the tab",
        );
        return;
    }
    if info.contains("simple key expect") {
        let end = text[..at].trim_end().len();
        let start = line_start(text, end);
        let start = start + (text[start..end].len() - text[start..end].trim_start().len());
        let hint = "write `key: value`; a value that goes on from the line before is indented \
                    deeper than its key";
        context.problem(start..end, "this line is no `key: value`", "`:` after a key", hint);
        return;
    }
    let hint = hint(text, at, &info);
    let place = at..at + next.map_or(0, char::len_utf8);
    context.problem(place, format!("this is not valid YAML: {info}"), expected(&info), hint);
}

/// What was expected where the parser's error `info` stands, and what to do: for those who read
/// YAML that is no domain file.
pub(crate) fn yaml_remedy(text: &str, at: usize, info: &str) -> (&'static str, String) {
    let info = info.to_lowercase();
    (expected(&info), hint(text, at, &info))
}

/// Reports a tab in the white space before `at`, if nothing else stands there on its line.
///
/// Looks back no further than that white space goes: this is asked of every key, and all of them
/// may stand on one line.
pub(super) fn tab_before(context: &mut Context<'_>, at: usize) {
    let before = &context.text[..at];
    let bare = before.trim_end_matches([' ', '\t']);
    let bare = bare.strip_suffix('\u{feff}').unwrap_or(bare);
    let begins_the_line = bare.is_empty() || bare.ends_with(['\n', '\r']);
    if let Some(tab) = before[bare.len()..].find('\t').filter(|_| begins_the_line) {
        tab_problem(context, bare.len() + tab);
    }
}

fn tab_problem(context: &mut Context<'_>, tab: usize) {
    let hint = "YAML indents with spaces only: replace the tab";
    context.problem(tab..tab + 1, "a tab is used for indentation", "spaces", hint);
}

/// What the parser would have taken there; it names only what it met, so this goes by its words.
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

/// What the mistake usually is.
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

/// The first tab in the white space that begins a line: that of `at`, the one before it, or
/// (`onwards`) any after it.
fn indenting_tab(text: &str, at: usize, onwards: bool) -> Option<usize> {
    let start = line_start(text, at);
    let before = line_start(text, start.saturating_sub(1));
    let of_line = |start: usize| {
        let line = &text[start..];
        let white = line.len() - line.trim_start_matches([' ', '\t']).len();
        line[..white].find('\t').map(|tab| start + tab)
    };
    let after =
        text[at..].match_indices('\n').map(|(newline, _)| at + newline + 1).take_while(|_| onwards);
    [start, before].into_iter().chain(after).find_map(of_line)
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind(['\n', '\r']).map_or(0, |at| at + 1)
}
