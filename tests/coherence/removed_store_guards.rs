//! Each guard of the store is there for a reason: without it the exhaustive check finds a way to
//! break a promise.

use super::check::{FRESH, NO_STEPS, Scenario, StepBudget};
use super::removed_guards::needs;
use super::source::{key_name, tags_of};
use bfb::coherence::*;

const ONE: StepBudget = StepBudget { ticks: 1, writes: 1, ..NO_STEPS };
const FLIGHT: StepBudget = StepBudget { flights: 1, ..ONE };

fn alone(left: StepBudget) -> Scenario {
    Scenario::new(1, left).with_store()
}

fn other_key_too() -> Vec<InvalidationScope> {
    vec![InvalidationScope::Key(key_name(0)), InvalidationScope::Key(key_name(9))]
}

#[test]
fn without_the_mark_memory_keeps_what_the_store_was_not_stamped_for() {
    needs(Guard::D7Mark, Scenario { only: Some(FRESH), ..alone(FLIGHT) });
}
