//! Each guard is there for a reason: without it the exhaustive check finds a way to break a
//! promise.

use std::time::Instant;

use super::super::*;
use super::check::{Left, NOTHING, Scenario, TICK, explore};
use super::source::{key_name, tags_of};

const ONE: Left = Left { ticks: 1, writes: 1, ..NOTHING };
const TWO: Left = Left { ticks: 1, writes: 2, ..NOTHING };
const FLIGHT: Left = Left { flights: 1, ..ONE };
const LATER: Left = Left { ticks: 2, ..ONE };
const WIPE: Left = Left { wipes: 1, ..ONE };

/// Holds as it is; breaks without the guard.
fn needs(guard: Guard, scenario: Scenario) {
    let started = Instant::now();
    let sound = explore(scenario.clone(), 20_000);
    assert_eq!(sound.counterexample, None, "with every guard");
    let broken = explore(scenario.without(guard), 300_000);
    let (property, steps) = broken.counterexample.expect("a counterexample");
    println!(
        "{guard:?}: `{property}` after {} of {} states: {steps:?}",
        steps.len(),
        broken.states
    );
    println!(
        "  with it {} states (complete: {}), {:?}",
        sound.states,
        sound.complete,
        started.elapsed()
    );
}

fn alone(left: Left) -> Scenario {
    Scenario::new(1, left)
}

fn other_key_too() -> Vec<Scope> {
    vec![Scope::Key(key_name(0)), Scope::Key(key_name(9))]
}

#[test]
fn without_the_fence_memory_keeps_what_was_invalidated_during_the_flight() {
    needs(Guard::Fence, alone(FLIGHT));
}

#[test]
fn without_the_fence_in_the_script_redis_keeps_what_was_invalidated_during_the_flight() {
    needs(Guard::WriteFence, Scenario { redis: true, cold: true, ..alone(FLIGHT) });
}

#[test]
fn without_looking_at_stamps_redis_hands_out_what_was_invalidated() {
    needs(Guard::ReadStamp, Scenario { redis: true, ..alone(FLIGHT) });
}

#[test]
fn without_the_lease_a_sidecar_that_hears_nothing_goes_on_serving() {
    needs(Guard::Lease, alone(ONE));
}

#[test]
fn a_lease_that_runs_from_the_reply_outlives_the_invalidator_s_patience() {
    needs(Guard::LeaseFromSent, alone(LATER));
}

#[test]
fn a_lease_taken_before_everything_told_is_applied_serves_what_it_was_told_of() {
    needs(Guard::LeaseAfterApplied, alone(LATER));
}

#[test]
fn a_sidecar_that_skips_a_gap_reports_what_it_never_applied() {
    needs(Guard::Gap, Scenario { writers: 2, scopes: other_key_too(), ..alone(TWO) });
}

#[test]
fn memory_kept_although_the_stream_no_longer_reaches_back_is_stale() {
    let limits = Limits { entries_max: 1, stamps_max: 4 };
    needs(Guard::StreamEnd, Scenario { limits, writers: 2, scopes: other_key_too(), ..alone(TWO) });
}

#[test]
fn memory_kept_over_a_change_of_epoch_is_stale() {
    needs(Guard::Epoch, alone(WIPE));
}

#[test]
fn a_log_that_goes_on_in_another_life_has_lost_entries() {
    needs(Guard::Life, alone(Left { failovers: 1, ..ONE }));
}

#[test]
fn a_young_epoch_s_registry_does_not_know_who_holds_a_lease() {
    needs(Guard::Young, alone(WIPE));
}

#[test]
fn the_registry_of_a_later_epoch_proves_nothing() {
    needs(Guard::Over, Scenario { writers: 2, ..alone(Left { wipes: 1, ..TWO }) });
}

#[test]
fn the_lease_to_wait_is_the_longest_registered() {
    needs(Guard::Longest, Scenario { leases: vec![2], ..alone(ONE) });
}

#[test]
fn without_the_lease_nobody_may_join_a_flight_that_began_before() {
    needs(Guard::Join, Scenario { cold: true, ..alone(FLIGHT) });
}

#[test]
fn nobody_may_join_a_flight_that_is_outdated() {
    needs(Guard::JoinOutdated, Scenario { cold: true, ..alone(FLIGHT) });
}

#[test]
fn a_tag_outdates_a_flight_whose_tags_nobody_knows_yet() {
    let scopes = vec![Scope::Tag(tags_of(0)[0].clone())];
    needs(Guard::JoinTags, Scenario { cold: true, scopes, ..alone(FLIGHT) });
}

#[test]
fn emptying_memory_outdates_the_flights_in_the_air() {
    needs(Guard::Emptied, alone(Left { wipes: 1, ..FLIGHT }));
}

#[test]
fn one_that_was_told_may_be_about_to_serve_and_is_not_removed() {
    needs(Guard::Silent, alone(Left { flights: 1, ..TWO }));
}

#[test]
fn one_that_is_silent_may_still_serve_until_the_lease_has_passed() {
    needs(Guard::SilentLapsed, alone(ONE));
}

#[test]
fn one_that_stops_gives_up_its_lease_before_it_deregisters() {
    needs(Guard::StopFirst, alone(Left { stops: 1, ..ONE }));
}

#[test]
fn one_that_has_stopped_hears_no_late_reply() {
    needs(Guard::StopDeaf, alone(Left { stops: 1, ..ONE }));
}

#[test]
fn what_stamps_were_forgotten_raises_the_floor() {
    needs(
        Guard::Floor,
        Scenario { stamps_max: 1, scopes: other_key_too(), ..alone(Left { flights: 1, ..TWO }) },
    );
}

#[test]
fn a_hint_is_not_suppressed_by_a_stamp_that_may_be_older() {
    needs(Guard::HintBound, Scenario { ordered: true, ..alone(Left { hints: 1, ..ONE }) });
}

#[test]
fn pods_with_different_plans_share_nothing() {
    needs(Guard::Plan, Scenario { redis: true, plans: vec![0, 1], ..Scenario::new(2, FLIGHT) });
}

#[test]
fn the_margin_for_drift_covers_a_clock_that_falls_behind() {
    let stalls = Left { ticks: 2, writes: 1, stalls: 1, ..NOTHING };
    let scenario = Scenario { leases: vec![2], writer_lease: 2, drift: TICK, ..alone(stalls) };
    assert_eq!(explore(scenario.clone(), 300_000).counterexample, None);
    let found = explore(Scenario { drift: std::time::Duration::ZERO, ..scenario }, 300_000);
    assert!(found.counterexample.is_some(), "without the margin");
}
