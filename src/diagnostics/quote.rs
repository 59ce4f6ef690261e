//! Words of a file, quoted for a message.

/// `text` in backticks: control characters escaped, cut where it is long.
pub(crate) fn quote(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    let mut out = String::from("`");
    for (nth, c) in text.chars().enumerate() {
        if nth == MAX_CHARS {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.push('`');
    out
}

/// Names in backticks with commas between; not all where they are many.
pub(crate) fn quote_few<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MAX_NAMES: usize = 8;
    let mut names = names.into_iter();
    let mut shown: Vec<_> = names.by_ref().take(MAX_NAMES).map(quote).collect();
    if names.next().is_some() {
        shown.push("…".into());
    }
    shown.join(", ")
}
