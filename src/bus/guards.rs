//! Which guards of the protocol hold in this process: all of them.
//!
//! Only in a build with the feature `removable-guards` can a variable take some away, so that the
//! checks of whole processes can show what each prevents. Such a build says so as it starts to use
//! them, and refuses a name that it does not know. The binary `bfb` cannot be built that way.

use crate::coherence::Guards;

/// The guards of this process.
#[cfg(not(feature = "removable-guards"))]
#[allow(clippy::default_constructed_unit_structs, reason = "guards have content in a test build")]
pub(super) fn guards() -> Guards {
    Guards::default()
}

#[cfg(feature = "removable-guards")]
pub(super) use removable::{guards, weaken};

/// Guards that stand in scripts: what the text says with each of them, and without.
#[cfg(any(test, feature = "removable-guards"))]
const IN_SCRIPTS: [(crate::coherence::Guard, &str, &str); 3] = {
    use crate::coherence::Guard;
    [
        (Guard::R3WriteFence, " or not believes(number(ARGV[4]), ARGV[6], tags)", ""),
        (Guard::R3ReadStamp, "not believes(seq, key, tags)", "false"),
        (Guard::R1Life, "meta[2] ~= life or ", ""),
    ]
};

#[cfg(feature = "removable-guards")]
mod removable {
    use std::sync::OnceLock;

    use super::{Guards, IN_SCRIPTS};
    use crate::coherence::Guard;

    /// The names of the guards to take away, as [`Guard`] spells them, with commas between.
    const VARIABLE: &str = "BFB_TEST_WITHOUT_GUARD";

    /// All guards but those that [`VARIABLE`] names.
    pub(in super::super) fn guards() -> Guards {
        static GUARDS: OnceLock<Guards> = OnceLock::new();
        *GUARDS.get_or_init(|| {
            let names = std::env::var(VARIABLE).unwrap_or_default();
            let taken = names.split(',').filter(|name| !name.is_empty()).map(|name| {
                let known = Guard::ALL.into_iter().find(|guard| format!("{guard:?}") == name);
                known.unwrap_or_else(|| panic!("`{VARIABLE}` names no guard: `{name}`"))
            });
            taken.fold(Guards::default(), |guards, guard| {
                tracing::warn!(?guard, "running WITHOUT a guard of the coherence protocol");
                guards.and_without(guard)
            })
        })
    }

    /// The text of a script without the guards that were taken away and stand in it.
    pub(in super::super) fn weaken(script: &str) -> String {
        let taken = IN_SCRIPTS.iter().filter(|(guard, _, _)| !guards().hold(*guard));
        taken.fold(script.to_owned(), |text, (_, with, without)| text.replace(with, without))
    }
}

#[test]
fn each_guard_of_the_scripts_stands_in_one_of_them() {
    let scripts = format!("{:?}", super::scripts::Scripts::new(super::scripts::LIMITS));
    for (guard, with, _) in IN_SCRIPTS {
        assert!(scripts.contains(with), "{guard:?}");
    }
}
