//! Each guard is there for a reason: without it the exhaustive check finds a way to break a
//! promise, and so does the simulation.

use std::time::Instant;

use super::check::explore;
use super::guard_removal::GuardRemoval;
use super::scenario::{NO_STEPS, Scenario, StepBudget};
use super::simulation::{RunSize, Simulation};
use super::source::{key_name, tags_of};
use bfb::coherence::*;

const ONE: StepBudget = StepBudget { ticks: 1, writes: 1, ..NO_STEPS };
const TWO: StepBudget = StepBudget { ticks: 1, writes: 2, ..NO_STEPS };
const FLIGHT: StepBudget = StepBudget { flights: 1, ..ONE };
const LATER: StepBudget = StepBudget { ticks: 2, ..ONE };
const WIPE: StepBudget = StepBudget { wipes: 1, ..ONE };

/// How many states are explored without a guard: `usual`, or the number in `BFB_CHECK_STATES`.
fn states_max(usual: usize) -> usize {
    std::env::var("BFB_CHECK_STATES").ok().and_then(|states| states.parse().ok()).unwrap_or(usual)
}

/// Shows that no promise is broken in `scenario`, and that one is without `guard`.
pub(super) fn needs(guard: Guard, scenario: Scenario) {
    let started = Instant::now();
    let sound = explore(scenario.clone(), 20_000);
    assert_eq!(sound.counterexample, None, "with every guard");
    let broken =
        explore(Scenario { removal: GuardRemoval::of(guard), ..scenario }, states_max(300_000));
    let (property, steps) = broken.counterexample.expect("a counterexample");
    println!(
        "{guard:?}: `{property}` after {} steps and {} states: {steps:?}",
        steps.len(),
        broken.states
    );
    println!(
        "  with it {} states to depth {} (complete: {}), {:?}",
        sound.states,
        sound.depth,
        sound.complete,
        started.elapsed()
    );
}

fn alone(left: StepBudget) -> Scenario {
    Scenario::new(1, left)
}

fn other_key_too() -> Vec<InvalidationScope> {
    vec![InvalidationScope::Key(key_name(0)), InvalidationScope::Key(key_name(9))]
}

#[test]
fn without_the_fence_memory_keeps_what_was_invalidated_during_the_flight() {
    needs(Guard::S5Fence, alone(FLIGHT));
}

#[test]
fn without_the_fence_in_the_script_redis_keeps_what_was_invalidated_during_the_flight() {
    needs(Guard::R3WriteFence, Scenario { redis: true, starts_empty: true, ..alone(FLIGHT) });
}

#[test]
fn without_looking_at_stamps_redis_hands_out_what_was_invalidated() {
    needs(Guard::R3ReadStamp, Scenario { redis: true, ..alone(FLIGHT) });
}

#[test]
fn without_the_lease_a_sidecar_that_hears_nothing_goes_on_serving() {
    needs(Guard::S4Lease, alone(ONE));
}

#[test]
fn a_lease_that_runs_from_the_reply_outlives_the_invalidator_s_patience() {
    needs(Guard::S3LeaseFromSent, alone(LATER));
}

#[test]
fn a_lease_taken_before_everything_told_is_applied_serves_what_it_was_told_of() {
    needs(Guard::S3LeaseAfterApplied, alone(LATER));
}

#[test]
fn a_sidecar_that_skips_a_gap_reports_what_it_never_applied() {
    needs(Guard::S1InOrder, Scenario { writers: 2, scopes: other_key_too(), ..alone(TWO) });
}

#[test]
fn memory_kept_although_the_stream_no_longer_reaches_back_is_stale() {
    let limits = LogLimits { entries_max: 1, stamps_max: 4 };
    needs(
        Guard::S1StreamEnd,
        Scenario { limits, writers: 2, scopes: other_key_too(), ..alone(TWO) },
    );
}

#[test]
fn memory_kept_over_a_change_of_epoch_is_stale() {
    needs(Guard::S2Epoch, alone(WIPE));
}

#[test]
fn a_log_that_goes_on_in_another_life_has_lost_entries() {
    needs(Guard::R1Life, alone(StepBudget { failovers: 1, ..ONE }));
}

#[test]
fn a_young_epoch_s_registry_does_not_know_who_holds_a_lease() {
    needs(Guard::A2YoungEpoch, alone(WIPE));
}

#[test]
fn the_registry_of_a_later_epoch_proves_nothing() {
    needs(Guard::A1OwnEpoch, Scenario { writers: 2, ..alone(StepBudget { wipes: 1, ..TWO }) });
}

#[test]
fn the_lease_to_wait_is_the_longest_registered() {
    needs(Guard::A2LongestLease, Scenario { leases: vec![2], ..alone(ONE) });
}

#[test]
fn without_the_lease_nobody_may_join_a_flight_that_began_before() {
    needs(Guard::S6JoinNeedsLease, Scenario { starts_empty: true, ..alone(FLIGHT) });
}

#[test]
fn nobody_may_join_a_flight_that_is_outdated() {
    needs(Guard::S6JoinOutdated, Scenario { starts_empty: true, ..alone(FLIGHT) });
}

#[test]
fn a_tag_outdates_a_flight_whose_tags_nobody_knows_yet() {
    let scopes = vec![InvalidationScope::Tag(tags_of(0)[0].clone())];
    needs(Guard::S6JoinTags, Scenario { starts_empty: true, scopes, ..alone(FLIGHT) });
}

#[test]
fn emptying_memory_outdates_the_flights_in_the_air() {
    needs(Guard::S5EmptiedMemory, alone(StepBudget { wipes: 1, ..FLIGHT }));
}

#[test]
fn one_that_was_told_may_be_about_to_serve_and_is_not_removed() {
    needs(Guard::A2SilentToldLess, alone(StepBudget { flights: 1, ..TWO }));
}

#[test]
fn one_that_is_silent_may_still_serve_until_the_lease_has_passed() {
    needs(Guard::A2SilentLapsed, alone(ONE));
}

#[test]
fn one_that_stops_gives_up_its_lease_before_it_deregisters() {
    needs(Guard::S7LeaseBeforeDeregister, alone(StepBudget { stops: 1, ..ONE }));
}

#[test]
fn one_that_has_stopped_hears_no_late_reply() {
    needs(Guard::S7NoMoreReplies, alone(StepBudget { stops: 1, ..ONE }));
}

#[test]
fn what_stamps_were_forgotten_raises_the_floor() {
    needs(
        Guard::R3Floor,
        Scenario {
            stamps_max: 1,
            scopes: other_key_too(),
            ..alone(StepBudget { flights: 1, ..TWO })
        },
    );
}

#[test]
fn a_hint_is_not_suppressed_by_a_stamp_that_may_be_older() {
    needs(Guard::H1HintBound, Scenario { ordered: true, ..alone(StepBudget { hints: 1, ..ONE }) });
}

#[test]
fn pods_with_different_plans_share_nothing() {
    needs(Guard::R3Plan, Scenario { redis: true, plans: vec![0, 1], ..Scenario::new(2, FLIGHT) });
}

#[test]
fn each_guard_that_is_taken_away_is_caught() {
    let missed: Vec<_> = Guard::ALL.into_iter().filter(|&guard| is_missed(guard)).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

/// Whether no run without `guard` breaks a promise.
fn is_missed(guard: Guard) -> bool {
    let Some(Shown { first, seeds, favourite, store }) = shown_by(guard) else { return false };
    let started = Instant::now();
    let found = (first..first + seeds).find_map(|seed| {
        let removal = GuardRemoval::of(guard);
        let size = RunSize { seed, sidecars: 3, steps: 100_000, favourite, store, removal };
        Simulation::new(size).run().err().filter(|broken| broken.wrong.is_some())
    });
    println!("{guard:?}: {found:?}, {:?}", started.elapsed());
    found.is_none()
}

/// The runs that show what a guard prevents.
struct Shown {
    /// The seed from which on a run soon needs the guard.
    first: u64,
    seeds: u64,
    /// The kind of fault that leads there.
    favourite: Option<u8>,
    store: Option<bool>,
}

/// The runs that show what a guard prevents; `None`: the explorations alone do.
fn shown_by(guard: Guard) -> Option<Shown> {
    let shown = Shown { first: 1, seeds: 400, favourite: None, store: Some(false) };
    Some(match guard {
        Guard::A2SilentToldLess => Shown { favourite: Some(1), ..shown },
        Guard::S7LeaseBeforeDeregister | Guard::S7NoMoreReplies => {
            Shown { favourite: Some(7), ..shown }
        }
        Guard::D2FloorFirst
        | Guard::D3OpensAtZero
        | Guard::D3PassesOver
        | Guard::D5TieBreak
        | Guard::D5NoRow
        | Guard::D6FloorLast
        | Guard::D7Joined
        | Guard::D8OwnEpoch
        | Guard::D8Grace
        | Guard::D8StoresStay
        | Guard::D9Owed
        | Guard::D10Told => return None,
        Guard::D3Compare => Shown { first: 61, store: Some(true), ..shown },
        Guard::D3LogTooOld => Shown { first: 183, store: Some(true), ..shown },
        Guard::D6MarkFirst => Shown { first: 66, store: Some(true), ..shown },
        Guard::D8Stores | Guard::D9AskedSince => Shown { first: 62, store: Some(true), ..shown },
        guard if guard as u8 > Guard::R3Plan as u8 => Shown { store: Some(true), ..shown },
        _ => shown,
    })
}
