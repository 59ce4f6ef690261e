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
        context.problem(at - 1..at, "a tab stands where a space is needed").expected("a space").hint("replace the tab");
        return;
    }
    if info.contains("simple key expect") {
        let end = text[..at].trim_end().len();
        let start = line_start(text, end);
        let start = start + (text[start..end].len() - text[start..end].trim_start().len());
        context.problem(start..end, "this line is no `key: value`").expected("`:` after a key");
        return;
    }
    let hint = hint(text, at, &info);
    let problem = context.problem(at..at + next.map_or(0, char::len_utf8), format!("this is not valid YAML: {info}"));
    problem.hint = hint;
}

/// Reports a tab in the white space before `at`, if nothing else stands there on its line.
pub(super) fn tab_before(context: &mut Context<'_>, at: usize) {
    let start = line_start(context.text, at);
    let before = &context.text[start..at];
    if let Some(tab) = before.find('\t').filter(|_| before.trim_start_matches([' ', '\t', '\u{feff}']).is_empty()) {
        tab_problem(context, start + tab);
    }
}

fn tab_problem(context: &mut Context<'_>, tab: usize) {
    let problem = context.problem(tab..tab + 1, "a tab is used for indentation");
    problem.expected("spaces").hint("YAML indents with spaces only: replace the tab");
}

/// What the mistake usually is.
fn hint(text: &str, at: usize, info: &str) -> Option<String> {
    let line = &text[line_start(text, at)..];
    let line = line.split(['\n', '\r']).next().unwrap_or(line);
    let value = line.split_once(": ").map(|(_, value)| value.trim_start());
    match value.and_then(|value| value.chars().next()) {
        Some(first) if "[{@`%*&!".contains(first) => Some(format!(
            "put a text that begins with `{first}` in quotes, or a program in a block that begins with `|`"
        )),
        _ if info.contains("mapping values are not allowed") => {
            Some("check the indentation, or put a text that holds `: ` in quotes".into())
        }
        _ => None,
    }
}

/// The first tab in the white space that begins a line: that of `at`, the one before it, or (`onwards`) any after it.
fn indenting_tab(text: &str, at: usize, onwards: bool) -> Option<usize> {
    let start = line_start(text, at);
    let before = line_start(text, start.saturating_sub(1));
    let of_line = |start: usize| {
        let line = &text[start..];
        let white = line.len() - line.trim_start_matches([' ', '\t']).len();
        line[..white].find('\t').map(|tab| start + tab)
    };
    let after = text[at..].match_indices('\n').map(|(newline, _)| at + newline + 1).take_while(|_| onwards);
    [start, before].into_iter().chain(after).find_map(of_line)
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind(['\n', '\r']).map_or(0, |at| at + 1)
}
