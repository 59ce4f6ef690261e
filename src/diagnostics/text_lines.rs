//! The lines of a text, which end in `\n`, `\r` or both.

/// Where the line of the byte `at` begins.
pub(crate) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind(['\n', '\r']).map_or(0, |before| before + 1)
}

/// The number of the line that `before` ends on, from 1; `\r\n` is one line break.
pub(crate) fn line_number(before: &str) -> usize {
    let breaks = before.bytes().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    1 + breaks - before.matches("\r\n").count()
}
