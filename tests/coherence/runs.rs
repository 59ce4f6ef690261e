//! Simulated runs in which every promise holds under every fault.

use std::time::Instant;

use super::guard_removal::GuardRemoval;
use super::simulation::{RunSize, Simulation};

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn a_hostile_world_breaks_no_promise() {
    let first_seed = number("BFB_SIMULATION_SEED", 1);
    let steps = number("BFB_SIMULATION_STEPS", 2_000_000);
    let started = Instant::now();
    let mut done = 0;
    let mut seed = first_seed;
    while done < steps {
        let sidecars = 3 + usize::try_from(seed % 18).unwrap();
        let size = RunSize {
            seed,
            sidecars,
            steps: 100_000.min(steps),
            favourite: None,
            store: None,
            removal: GuardRemoval::default(),
        };
        let tally = Simulation::new(size).run().unwrap_or_else(|broken| panic!("{broken:?}"));
        println!("seed {seed}, {sidecars} sidecars: {tally:?}, {:?}", started.elapsed());
        done += size.steps;
        seed += 1;
    }
}
