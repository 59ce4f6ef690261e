//! What the YAML parser does not understand in a domain file, in words that help.

use super::context::Context;
use crate::diagnostics::line_start;
use crate::diagnostics::yaml::yaml_remedy;

/// Reports the parser's error `info` at `at`, in bytes of the file.
pub(super) fn report(context: &mut Context<'_>, at: usize, info: &str) {
    let text = context.text;
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
    let (expected, hint) = yaml_remedy(text, at, info);
    let place = at..at + next.map_or(0, char::len_utf8);
    context.problem(place, format!("this is not valid YAML: {info}"), expected, hint);
}

/// Reports a tab in the white space before `at`, if nothing else stands there on its line.
///
/// Looks back no further than that white space goes: this is asked of every key, and all of them
/// may stand on one line.
pub(super) fn report_tab_before(context: &mut Context<'_>, at: usize) {
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
