//! *Fresh* and *Coherent versions*, over real processes: a fleet of the real program on a real
//! Redis, each sidecar behind a link of its own, under faults of every kind.
//!
//! Writers change numbers at the sources and invalidate them; readers send requests to all
//! sidecars, all the time. **No read that began after an acknowledgement is older than it; answers
//! with the same `Bfb-Dataset` never disagree; a snapshot is one; no answer is partial; with
//! `Bfb-After`, none is older than its token.** Every answer is judged at once ([`oracle`]); the
//! faults and their times follow from a seed ([`schedule`]), which every report names.
//!
//! A short run is part of the suite. The long one, with figures:
//!
//! ```text
//! BFB_HISTORY_SECONDS=600 cargo test --release --test promises \
//!     history::nothing_older -- --nocapture
//! BFB_HISTORY_SEED=7 …                          the same faults at the same times
//! BFB_HISTORY_WITHOUT="S1InOrder S2Epoch" cargo test --test promises \
//!     history::without -- --nocapture
//! ```
//!
//! The checker can fail: over a build without the lease, or without the fence, it finds the faults
//! that they prevent ([`without`]). Other guards of [`bfb::coherence::Guard`] can be named: with a
//! blank between, each is removed in a run of its own.

#![allow(clippy::print_stderr, reason = "the figures are part of the result")]

mod faults;
mod oracle;
mod readers;
mod run;
mod schedule;
mod tally;
pub(crate) mod without;
mod world;
mod writers;

use std::time::Duration;

use run::{Plan, run};

/// The length of the run in the suite.
const SHORT: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_older_than_an_acknowledgement_is_read_whatever_breaks() {
    let report = run(Plan::new(SHORT)).await;
    eprintln!("{report}");
    assert!(report.findings.is_empty(), "a promise was broken:\n{report}");
    report.has_seen_enough();
}
