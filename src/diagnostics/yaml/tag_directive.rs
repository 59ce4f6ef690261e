//! Lines that define a prefix of tags.

use std::ops::Range;

/// The longest line that defines a prefix of tags, in bytes.
const DIRECTIVE_MAX_BYTES: usize = 256;

/// The first line that defines an absurdly long prefix of tags: the parser copies it for every tag,
/// so that a million tags with a prefix of megabytes would take days.
pub(super) fn find_long_tag_directive(text: &str) -> Option<Range<usize>> {
    let text_without_mark = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = (text.len() - text_without_mark.len(), text_without_mark);
    let others = text.match_indices(['\n', '\r']).map(|(at, _)| (at + 1, &text[at + 1..]));
    let mut directives =
        std::iter::once(first).chain(others).filter(|(_, rest)| rest.starts_with("%TAG"));
    directives.find_map(|(start, rest)| {
        let length = rest
            .bytes()
            .take(DIRECTIVE_MAX_BYTES + 1)
            .take_while(|byte| !matches!(byte, b'\n' | b'\r'))
            .count();
        (length > DIRECTIVE_MAX_BYTES).then_some(start..start + "%TAG".len())
    })
}
