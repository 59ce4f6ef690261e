//! The simulated runs of `cargo test`.

use std::time::Instant;

use super::super::*;
use super::simulation::{RunSize, Simulation};

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn a_hostile_world_breaks_no_promise() {
    let (first, steps) =
        (number("BFB_SIMULATION_SEED", 1), number("BFB_SIMULATION_STEPS", 2_000_000));
    let started = Instant::now();
    let (mut done, mut seed) = (0, first);
    while done < steps {
        let sidecars = 3 + usize::try_from(seed % 18).unwrap();
        let size = RunSize {
            seed,
            sidecars,
            steps: 100_000.min(steps),
            favourite: None,
            guards: Guards::default(),
        };
        let tally = Simulation::new(size).run().unwrap_or_else(|broken| panic!("{broken:?}"));
        println!("seed {seed}, {sidecars} sidecars: {tally:?}, {:?}", started.elapsed());
        (done, seed) = (done + size.steps, seed + 1);
    }
}

#[test]
fn each_guard_that_is_taken_away_is_caught() {
    let mut missed = Vec::new();
    for guard in Guard::ALL {
        let (first, favourite) = shown_by(guard);
        let started = Instant::now();
        let found = (first..first + 400).find_map(|seed| {
            let size = RunSize {
                seed,
                sidecars: 3,
                steps: 100_000,
                favourite,
                guards: Guards::without(guard),
            };
            Simulation::new(size).run().err().filter(|broken| broken.wrong.is_some())
        });
        println!("{guard:?}: {found:?}, {:?}", started.elapsed());
        if found.is_none() {
            missed.push(guard);
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

/// For each guard a seed from which on a run that needs it is soon met, and the kind of fault that
/// leads there.
fn shown_by(guard: Guard) -> (u64, Option<u8>) {
    match guard {
        Guard::A2SilentToldLess => (1, Some(1)),
        Guard::S7LeaseBeforeDeregister | Guard::S7NoMoreReplies => (1, Some(7)),
        _ => (1, None),
    }
}
