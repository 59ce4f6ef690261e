//! The scenarios with a store in which every promise holds, in every order of events.

use super::scenario::{NO_STEPS, Scenario, StepBudget};
use super::scenarios::{WRITE, holds_within};
use super::source::{key_name, tags_of};
use bfb::coherence::*;

const ONE: StepBudget = StepBudget { ticks: 1, ..WRITE };

fn holds(name: &str, scenario: Scenario) {
    holds_within(name, scenario, 25_000);
}

fn alone(left: StepBudget) -> Scenario {
    Scenario { prompt: true, ..Scenario::new(1, left).with_store() }
}

#[test]
fn one_sidecar_with_a_store() {
    holds("store", alone(StepBudget { give_ups: 1, flights: 2, ..WRITE }));
}

#[test]
fn a_store_whose_upkeep_is_slow() {
    holds("slow upkeep", Scenario { carries: true, ..Scenario::new(1, ONE).with_store() });
}

#[test]
fn a_store_that_outlives_redis() {
    let left = StepBudget { wipes: 1, ..WRITE };
    holds("store, Redis wiped", Scenario { carries: true, ..alone(left) });
}

#[test]
fn a_store_that_outlives_redis_and_the_sidecar() {
    let left = StepBudget { flushes: 1, reboots: 1, ..ONE };
    holds("store, Redis flushed, reboot", Scenario { carries: true, ..alone(left) });
}

#[test]
fn a_store_that_goes_back() {
    let left = StepBudget { store_returns: 1, reboots: 1, flights: 2, ..ONE };
    holds("store goes back", alone(left));
}

#[test]
fn a_store_that_goes_back_while_redis_loses_its_data() {
    let left = StepBudget { store_returns: 1, wipes: 1, ..ONE };
    holds("store goes back, Redis wiped", Scenario { carries: true, ..alone(left) });
}

#[test]
fn two_invalidators_whose_stampings_take_several_calls() {
    let scopes = vec![InvalidationScope::Key(key_name(0)), InvalidationScope::Key(key_name(9))];
    let left = StepBudget { ticks: 0, writes: 2, ..WRITE };
    let two = Scenario { writers: 2, scopes, splits: true, ..Scenario::new(1, left) };
    holds("two invalidators, parts", two.with_store());
}

#[test]
fn a_reading_that_is_no_snapshot() {
    let left = StepBudget { trims: 1, ..ONE };
    holds("stages", Scenario { scans: true, ..alone(left) });
}

#[test]
fn an_invalidator_without_the_store() {
    let left = StepBudget { stops: 1, reboots: 1, ..ONE };
    holds("no store", Scenario { stamping: vec![], carries: true, ..alone(left) });
}

#[test]
fn two_sidecars_one_of_which_has_no_store() {
    let left = StepBudget { ticks: 1, flights: 2, ..WRITE };
    let two = Scenario { redis: true, starts_empty: true, ..Scenario::new(2, left) };
    holds("store and Redis", Scenario { stores: vec![true, false], ..two.with_store() });
}

#[test]
fn a_deposed_primary_of_redis_beside_a_store() {
    let left = StepBudget { failovers: 1, flights: 1, ticks: 2, ..WRITE };
    let slow = Scenario { grace: 2, slow_questions: true, carries: true, ..alone(left) };
    holds("store, deposed primary", slow);
}

#[test]
fn tags_and_all_in_a_store() {
    let scopes = vec![
        InvalidationScope::Tag(tags_of(0)[0].clone()),
        InvalidationScope::All,
        InvalidationScope::Key(key_name(9)),
    ];
    let left = StepBudget { writes: 2, flights: 1, ..NO_STEPS };
    holds("store, tags", Scenario { scopes, stamps_max: 1, ..alone(left) });
}
