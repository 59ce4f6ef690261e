//! The name that a misspelled word was probably meant to be.

/// The longest word that is compared with others, in characters: no name is longer.
const WORD_MAX_CHARS: usize = 64;

/// The candidate that `word` was probably meant to be, if one is near.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let length = word.chars().take(WORD_MAX_CHARS + 1).count();
    if length > WORD_MAX_CHARS {
        return None;
    }
    let allowed = (length / 3).max(1);
    let alike = candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= allowed);
    let by_distance = alike.map(|candidate| (edit_distance(word, candidate), candidate));
    by_distance
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words: insertions, deletions, replacements and swaps of neighbours. Case does
/// not count, and `-` and `_` are the same.
pub(crate) fn edit_distance(left: &str, right: &str) -> usize {
    let fold = |text: &str| -> String {
        text.chars()
            .take(WORD_MAX_CHARS)
            .map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() })
            .collect()
    };
    strsim::osa_distance(&fold(left), &fold(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_found_and_a_far_one_is_not() {
        let keys = ["timeout", "retries", "max_body"];
        assert_eq!(nearest("tiemout", keys), Some("timeout"));
        assert_eq!(nearest("max-body", keys), Some("max_body"));
        assert_eq!(nearest("colour", keys), None);
    }
}
