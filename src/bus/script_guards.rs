//! The guards of the protocol that stand in the text of scripts, and the text of a script without
//! them. It is compiled only for tests and for builds with the feature `removable-guards`.

use crate::coherence::Guard;

/// Each guard with its text in a script, and the text that replaces it where the guard is removed.
pub(super) const IN_SCRIPTS: [(Guard, &str, &str); 3] = [
    (Guard::R3WriteFence, " or not believes(number(ARGV[4]), ARGV[6], tags)", ""),
    (Guard::R3ReadStamp, "not believes(seq, key, tags)", "false"),
    (Guard::R1Life, "meta[2] ~= life or ", ""),
];

/// The text of a script without the guards that were removed.
#[cfg(feature = "removable-guards")]
pub(super) fn without_removed(script: &str) -> String {
    use crate::coherence::removable::is_removed;
    let removed = IN_SCRIPTS.iter().filter(|(guard, _, _)| is_removed(*guard));
    removed.fold(script.to_owned(), |text, (_, with, without)| text.replace(with, without))
}
