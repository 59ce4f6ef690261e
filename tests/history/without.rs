//! The same run over a build whose guards can be removed: the checker must find the faults that
//! they prevent.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::run::{Plan, run};

/// The guards that the suite removes.
const GUARDS: &str = "S4Lease S5Fence R3ReadStamp";
/// The checker must have found a fault by then, unless `BFB_HISTORY_SECONDS` gives it longer.
const FOUND_MAX: Duration = Duration::from_mins(2);

/// Builds the program with removable guards, beside the one under test, and without optional
/// features; `make test` has done so already.
pub(crate) fn removable() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let target = deps.ancestors().nth(3).unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--no-default-features", "--features", "removable-guards"]);
    build.args(["--bin", "bfb-removable-guards", "--target-dir"]);
    build.arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "the program with removable guards does not build");
    deps.parent().and_then(Path::parent).unwrap().join("bfb-removable-guards")
}

/// One guard after the other; `BFB_HISTORY_WITHOUT` names others, several at a time with commas,
/// one run each with blanks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_guard_the_checker_finds_what_it_prevents() {
    let guards = std::env::var("BFB_HISTORY_WITHOUT").unwrap_or_else(|_| GUARDS.to_owned());
    let program = tokio::task::block_in_place(removable);
    let mut missed = Vec::new();
    for guard in guards.split(' ') {
        let report = run(Plan::new(FOUND_MAX).without(program.clone(), guard)).await;
        eprintln!("without {guard}: {:?}\n{report}", report.first());
        if report.first().is_none() {
            missed.push(guard);
        }
    }
    assert!(
        missed.is_empty(),
        "a checker that finds nothing without {missed:?} finds nothing at all"
    );
}
