//! The guards of the protocol that stand in the text of scripts, and what is left of a script once
//! they were taken away. No part of the product: it is for tests, and for builds with the feature
//! `removable-guards`.

use crate::coherence::Guard;

/// What the text says with each guard, and without it.
pub(super) const IN_SCRIPTS: [(Guard, &str, &str); 3] = [
    (Guard::R3WriteFence, " or not believes(number(ARGV[4]), ARGV[6], tags)", ""),
    (Guard::R3ReadStamp, "not believes(seq, key, tags)", "false"),
    (Guard::R1Life, "meta[2] ~= life or ", ""),
];

/// The text of a script without the guards that were taken away and stand in it.
#[cfg(feature = "removable-guards")]
pub(super) fn without_removed(script: &str) -> String {
    use crate::coherence::removable::is_removed;
    let removed = IN_SCRIPTS.iter().filter(|(guard, _, _)| is_removed(*guard));
    removed.fold(script.to_owned(), |text, (_, with, without)| text.replace(with, without))
}
