//! *Bounded*, for as long as one likes: one real sidecar on a real Redis, honest and hostile load
//! at once.
//!
//! Each kind of hostile load has a pace of its own and runs all the time ([`hostile`]): consumers,
//! sources, planted values in Redis, and Redis itself, which is killed and comes back. Meanwhile
//! honest consumers send requests ([`honest`]). **An honest consumer is answered 200, or
//! `overloaded` with `Retry-After`, and never cut off; and resident memory is flat**: the maximum
//! of the last quarter is not above that of the second ([`memory`]), and never above 256 MiB.
//!
//! A minute of it is part of the suite. Longer, with figures (`make soak TIME=1800`):
//!
//! ```text
//! BFB_SOAK_SECONDS=1800 cargo test --release --test promises soak -- --nocapture
//! ```
#![allow(clippy::print_stderr, reason = "the figures are part of the result")]

mod honest;
mod hostile;
mod memory;
mod world;

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::memory::Samples;
use self::world::World;

/// The length of the run in the suite.
const SHORT: Duration = Duration::from_mins(1);

/// The name of a kind of load, and the counts of its outcomes.
type Counted = (&'static str, world::Tally);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_honest_and_hostile_load_memory_is_flat_and_honest_consumers_are_answered() {
    let length = match std::env::var("BFB_SOAK_SECONDS") {
        Ok(seconds) => {
            Duration::from_secs(seconds.parse().expect("`BFB_SOAK_SECONDS` is a number"))
        }
        Err(_) => SHORT,
    };
    let world = World::start().await;
    let stop = watch::Sender::new(false);
    let mut load = JoinSet::<Counted>::new();
    honest::begin(&mut load, &world, &stop);
    hostile::begin(&mut load, &world, &stop);
    let samples = Samples::take(&world.sidecar, Instant::now(), length).await;
    stop.send_replace(true);
    let mut counted = load.join_all().await;
    counted.sort_by_key(|(name, _)| *name);
    for (name, tally) in &counted {
        eprintln!("{name:<32} {tally}");
    }
    eprintln!("{samples}");
    world.comes_to_rest().await;
    honest::judge(&counted);
    samples.are_flat();
}
