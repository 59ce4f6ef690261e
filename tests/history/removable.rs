//! `bfb` in a build whose guards can be removed: `BFB_TEST_WITHOUT_GUARD` names them, as
//! [`bfb::coherence::Guard`] spells them, with commas between. `tests/history.rs` must notice their
//! absence.
//!
//! As a test it is the part of `tests/coherence` that removes guards.

#![allow(clippy::print_stderr, reason = "whoever runs it shall know what is missing")]

use bfb::coherence::{Guard, removable};

#[cfg(test)]
#[path = "../coherence/main.rs"]
mod coherence;

const VARIABLE: &str = "BFB_TEST_WITHOUT_GUARD";

fn main() -> std::process::ExitCode {
    let names = std::env::var(VARIABLE).unwrap_or_default();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        let guard = Guard::ALL.into_iter().find(|guard| format!("{guard:?}") == name);
        let guard = guard.unwrap_or_else(|| panic!("`{VARIABLE}` names no guard: `{name}`"));
        // In the form of the log, because the program that started this process reads its log here.
        eprintln!(r#"{{"level":"WARN","message":"running WITHOUT a guard","guard":"{guard:?}"}}"#);
        removable::remove_from_process(guard);
    }
    bfb::cli::main()
}
