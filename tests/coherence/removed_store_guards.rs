//! Each guard of the store is there for a reason: without it the exhaustive check finds a way to
//! break a promise.

use super::check::FRESH;
use super::removed_guards::needs;
use super::scenario::{NO_STEPS, Scenario, StepBudget};
use super::source::key_name;
use bfb::coherence::*;

const WRITE: StepBudget = StepBudget { writes: 1, flights: 1, ..NO_STEPS };
const ONE: StepBudget = StepBudget { ticks: 1, ..WRITE };
const TWO: StepBudget = StepBudget { writes: 2, ..WRITE };

fn alone(left: StepBudget) -> Scenario {
    Scenario { prompt: true, ..Scenario::new(1, left).with_store() }
}

/// Two invalidators, one of which names another key.
fn two_writers(left: StepBudget) -> Scenario {
    let scopes = vec![InvalidationScope::Key(key_name(0)), other_key()];
    Scenario { writers: 2, stamping: vec![true, true], scopes, ..alone(left) }
}

fn other_key() -> InvalidationScope {
    InvalidationScope::Key(key_name(9))
}

#[test]
fn a_number_taken_for_something_else_is_older_than_what_it_stamps() {
    let before = vec![InvalidationScope::Key(key_name(0))];
    needs(Guard::D2OwnNumber, Scenario { before, ..alone(WRITE) });
}

#[test]
fn a_mark_that_moves_before_the_stamps_are_there_vouches_for_nothing() {
    needs(Guard::D2StampsThenMark, Scenario { splits: true, ..alone(WRITE) });
}

#[test]
fn a_stamp_forgotten_below_no_floor_outdates_nothing() {
    needs(Guard::D2FloorFirst, alone(StepBudget { trims: 1, ..WRITE }));
}

#[test]
fn a_mark_moved_from_elsewhere_skips_what_nobody_stamped() {
    needs(Guard::D3Compare, two_writers(TWO));
}

#[test]
fn a_mark_that_opens_above_0_skips_what_nobody_stamped() {
    needs(Guard::D3OpensAtZero, Scenario { opens: false, ..two_writers(TWO) });
}

#[test]
fn a_log_that_no_longer_reaches_back_to_the_mark_may_have_named_anything() {
    let limits = LogLimits { entries_max: 0, stamps_max: 4 };
    let blind = Scenario { limits, stamping: vec![], ..alone(ONE) };
    needs(Guard::D3LogTooOld, Scenario { only: Some(FRESH), carries: true, ..blind });
}

#[test]
fn a_name_that_no_dataset_can_have_does_not_stop_the_mark() {
    let scopes = vec![InvalidationScope::Key("4\0".into())];
    let left = StepBudget { flights: 0, ..ONE };
    needs(Guard::D3PassesOver, Scenario { scopes, ..alone(left) });
}

#[test]
fn a_fence_from_after_the_reading_of_the_sources_is_newer_than_what_was_read() {
    let left = StepBudget { flights: 2, ..WRITE };
    needs(Guard::D4FenceBefore, Scenario { starts_empty: true, ..alone(left) });
}

#[test]
fn a_row_is_not_replaced_by_what_began_earlier() {
    let scopes = vec![other_key()];
    let late = Scenario { starts_empty: true, late_row: true, ..alone(WRITE) };
    needs(Guard::D5Later, Scenario { scopes, ..late });
}

#[test]
fn of_two_flights_with_one_number_the_later_one_stays() {
    let late = Scenario { starts_empty: true, late_row: true, ..alone(ONE) };
    needs(Guard::D5TieBreak, late);
}

#[test]
fn a_row_that_no_flight_can_have_written_is_replaced() {
    let left = StepBudget { poisons: 1, ticks: 1, flights: 1, ..NO_STEPS };
    needs(Guard::D5NoRow, alone(left));
}

#[test]
fn what_is_stamped_is_not_believed() {
    needs(Guard::D6Stamps, alone(WRITE));
}

#[test]
fn what_is_below_the_floor_is_not_believed() {
    needs(Guard::D6Floor, Scenario { scopes: vec![InvalidationScope::All], ..alone(WRITE) });
}

#[test]
fn a_mark_read_after_the_stamps_vouches_for_stamps_that_were_not_there() {
    needs(Guard::D6MarkFirst, Scenario { scans: true, ..alone(WRITE) });
}

#[test]
fn a_floor_read_before_the_stamps_is_not_the_one_that_they_were_forgotten_under() {
    let left = StepBudget { trims: 1, ..WRITE };
    needs(Guard::D6FloorLast, Scenario { scans: true, ..alone(left) });
}

#[test]
fn without_the_mark_memory_keeps_what_the_store_was_not_stamped_for() {
    needs(Guard::D7Mark, Scenario { only: Some(FRESH), ..alone(WRITE) });
}

#[test]
fn who_joined_under_the_lease_is_answered_as_under_the_lease() {
    let left = StepBudget { writes: 0, ..ONE };
    needs(Guard::D7Joined, Scenario { issued: true, restarted: true, ..alone(left) });
}

#[test]
fn without_the_lease_too_nothing_is_handed_out_that_an_applied_entry_names() {
    needs(Guard::D7OwnEntries, alone(ONE));
}

#[test]
fn an_invalidator_without_the_store_waits_for_those_who_have_it() {
    needs(Guard::D8Stores, Scenario { stamping: vec![], ..alone(ONE) });
}

#[test]
fn what_is_stamped_after_its_epoch_is_known_to_nobody_in_the_next() {
    let left = StepBudget { wipes: 1, writes: 0, ..ONE };
    let issued = Scenario { issued: true, deaf: true, carries: true, ..alone(left) };
    needs(Guard::D8OwnEpoch, Scenario { only: Some(FRESH), ..issued });
}

#[test]
fn a_deposed_primary_that_answers_in_the_epoch_proves_nothing() {
    let left = StepBudget { writes: 0, ..ONE };
    let issued = Scenario { issued: true, deaf: true, carries: true, ..alone(left) };
    let slow =
        Scenario { failed_over: true, grace: 2, slow_questions: true, wire_max: 3, ..issued };
    needs(Guard::D8Grace, Scenario { only: Some(FRESH), ..slow });
}

#[test]
fn a_store_that_nobody_is_registered_with_is_read_by_the_next_who_starts() {
    let left = StepBudget { stops: 1, reboots: 1, ..ONE };
    needs(Guard::D8StoresStay, Scenario { stamping: vec![], ..alone(left) });
}

#[test]
fn what_was_applied_is_owed_beyond_its_epoch() {
    needs(Guard::D9Owed, alone(StepBudget { wipes: 1, ..ONE }));
}

#[test]
fn what_was_read_before_a_debt_was_paid_was_read_without_the_stamps() {
    let left = StepBudget { wipes: 1, writes: 0, ..ONE };
    needs(Guard::D9AskedSince, Scenario { issued: true, idle: true, ..alone(left) });
}

#[test]
fn a_store_that_went_back_has_lost_stamps() {
    let left = StepBudget { store_returns: 1, reboots: 1, flights: 1, ..NO_STEPS };
    let before = vec![InvalidationScope::Key(key_name(0))];
    needs(Guard::D10Life, Scenario { before, ..alone(left) });
}

#[test]
fn a_row_that_was_read_in_another_era_is_not_believed() {
    let left = StepBudget { store_returns: 1, reboots: 1, writes: 0, ..WRITE };
    let before = vec![InvalidationScope::Key(key_name(0))];
    let scopes = vec![other_key()];
    let issued = Scenario { issued: true, idle: true, deaf: true, before, ..alone(left) };
    needs(Guard::D10Era, Scenario { scopes, ..issued });
}
