//! The scenarios in which every promise holds, in every order of events.

use std::time::Instant;

use super::check::explore;
use super::scenario::{NO_STEPS, Scenario, StepBudget, TICK};
use super::source::{key_name, tags_of};
use bfb::coherence::*;

/// How many states of a scenario are explored: `usual`, or the number in `BFB_CHECK_STATES`.
fn states_max(usual: usize) -> usize {
    std::env::var("BFB_CHECK_STATES").ok().and_then(|states| states.parse().ok()).unwrap_or(usual)
}

fn holds(name: &str, scenario: Scenario) {
    holds_within(name, scenario, 50_000);
}

/// The same within a `usual` number of states.
pub(super) fn holds_within(name: &str, scenario: Scenario, usual: usize) {
    let started = Instant::now();
    let found = explore(scenario, states_max(usual));
    let all = if found.complete { "all" } else { "the first" };
    println!(
        "{name}: {all} {} states to depth {}, {:?}",
        found.states,
        found.depth,
        started.elapsed()
    );
    assert_eq!(found.counterexample, None, "{name}");
}

pub(super) const WRITE: StepBudget = StepBudget { ticks: 2, writes: 1, flights: 1, ..NO_STEPS };

#[test]
fn one_sidecar_and_one_write() {
    holds("one sidecar, one write", Scenario::new(1, WRITE));
}

#[test]
fn one_sidecar_over_a_server_that_loses_its_data() {
    holds("one sidecar, wiped", Scenario::new(1, StepBudget { wipes: 1, ..WRITE }));
}

#[test]
fn two_sidecars_over_a_server_that_restarts() {
    let left = StepBudget { ticks: 1, writes: 1, wipes: 1, restarts: 1, ..NO_STEPS };
    holds("two sidecars, restarts", Scenario::new(2, left));
}

#[test]
fn two_invalidators_at_once() {
    let left = StepBudget { ticks: 1, writes: 2, duplicates: 1, ..NO_STEPS };
    holds("two invalidators", Scenario { writers: 2, ..Scenario::new(1, left) });
}

#[test]
fn tags_and_all() {
    let scopes = vec![
        InvalidationScope::Tag(tags_of(0)[0].clone()),
        InvalidationScope::All,
        InvalidationScope::Key(key_name(9)),
    ];
    holds(
        "tags",
        Scenario { scopes, stamps_max: 1, ..Scenario::new(1, StepBudget { ticks: 1, ..WRITE }) },
    );
}

#[test]
fn a_fleet_wide_flight_through_redis() {
    let scenario = Scenario {
        redis: true,
        claims: true,
        starts_empty: true,
        ..Scenario::new(2, StepBudget { ticks: 0, flights: 2, ..WRITE })
    };
    holds("fleet-wide flight", scenario);
}

#[test]
fn unequal_leases() {
    holds(
        "unequal leases",
        Scenario { leases: vec![2, 1], ..Scenario::new(2, StepBudget { flights: 0, ..WRITE }) },
    );
}

#[test]
fn a_deposed_primary_that_goes_on_answering() {
    let left = StepBudget { failovers: 1, flights: 0, ..WRITE };
    holds("deposed primary", Scenario { grace: 1, ..Scenario::new(1, left) });
}

#[test]
fn a_hint_that_is_heard_invalidates() {
    let left = StepBudget { ticks: 1, writes: 1, hints: 1, ..NO_STEPS };
    holds("hints", Scenario { ordered: true, ..Scenario::new(1, left) });
}

#[test]
fn a_hint_that_is_heard_while_an_epoch_changes_invalidates() {
    let left = StepBudget { writes: 1, hints: 1, flushes: 1, ..NO_STEPS };
    holds("hints over epochs", Scenario { ordered: true, ..Scenario::new(1, left) });
}

#[test]
fn the_margin_for_drift_covers_a_clock_that_falls_behind() {
    let stalls = StepBudget { ticks: 2, writes: 1, stalls: 1, ..NO_STEPS };
    let scenario =
        Scenario { leases: vec![2], writer_lease: 2, drift: TICK, ..Scenario::new(1, stalls) };
    assert_eq!(explore(scenario.clone(), 300_000).counterexample, None);
    let found = explore(Scenario { drift: std::time::Duration::ZERO, ..scenario }, 300_000);
    assert!(found.counterexample.is_some(), "without the margin");
}
