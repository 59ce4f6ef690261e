//! Readers: at all sidecars, all the time, and most often of the subject that was acknowledged
//! last.
//!
//! A reader keeps its connection for a while, then changes to another sidecar. It has little
//! patience: it leaves its request at a paused sidecar, whose answer is judged whenever it comes,
//! and the reader goes on elsewhere and comes back. So many requests queue at a paused sidecar that
//! were sent long after its lease was over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::oracle::{PendingRead, Subject, Version};
use super::tally::Tally;
use super::world::{Place, World};
use crate::support::wire::{self, Wire};

/// How long a reader waits for one answer before it goes elsewhere.
const PATIENCE: Duration = Duration::from_millis(150);
/// The `Cache-Control` of one read in so many; a cached answer is no older than the number.
const CACHE_CONTROLS: [(&str, Option<u64>); 5] = [
    ("no-store", None),
    ("no-cache", None),
    ("max-age=0", Some(0)),
    ("max-age=1", Some(1)),
    ("only-if-cached, max-age=2", Some(2)),
];
const CACHE_CONTROL_ONE_IN: u32 = 8;
/// The most reads before a reader changes to another sidecar.
const STAY_MAX: usize = 200;

/// Reads until the run is over, at most once in `gap`.
pub(super) async fn reader(world: Arc<World>, mut rng: fastrand::Rng, gap: Duration) {
    let mut tally = Tally::default();
    // This is not a wait for an event: a reader's pace is the load of the run.
    let mut pace = interval(gap);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !world.over.is_cancelled() {
        pace.tick().await;
        let Some(place) = world.random_place(&mut rng) else { continue };
        match Wire::open(place.listen).await {
            Ok(wire) => read_from(&world, place, wire, &mut rng, &mut pace, &mut tally).await,
            Err(_) => tally.count("broken", "connect"),
        }
    }
    world.add(&tally);
}

/// Reads from one sidecar for a while.
async fn read_from(
    world: &Arc<World>,
    place: Place,
    mut wire: Wire,
    rng: &mut fastrand::Rng,
    pace: &mut tokio::time::Interval,
    tally: &mut Tally,
) {
    let mut before = None;
    for _ in 0..rng.usize(1..=STAY_MAX) {
        if world.over.is_cancelled() {
            return;
        }
        pace.tick().await;
        let (subject, version) = next_subject(world, before.take(), rng);
        if version == Version::V1 {
            before = Some(subject);
        }
        let (cache_control, max_age) = if rng.u32(..CACHE_CONTROL_ONE_IN) == 0 {
            *rng.choice(&CACHE_CONTROLS).unwrap()
        } else {
            ("", None)
        };
        if !cache_control.is_empty() {
            tally.count("wish", cache_control);
        }
        let lines = if cache_control.is_empty() {
            String::new()
        } else {
            format!("cache-control: {cache_control}\r\n")
        };
        let read = PendingRead { max_age, ..world.oracle.begin_read(subject, version) };
        let request = wire::get(&read.path(), &lines);
        match timeout(PATIENCE, exchange(&mut wire, &request)).await {
            Ok(Ok(answer)) => {
                world.judge(place, read, &answer, tally).await;
                if answer.closes() {
                    return;
                }
            }
            Ok(Err(_)) => return tally.count("broken", "exchange"),
            Err(_) => return world.judge_later(wire, place, read),
        }
    }
}

async fn exchange(wire: &mut Wire, request: &str) -> std::io::Result<wire::Answer> {
    wire.ask(request).await?;
    wire.answer().await
}

/// The other version of the last read, the subject that was acknowledged last, or any subject.
fn next_subject(
    world: &World,
    before: Option<Subject>,
    rng: &mut fastrand::Rng,
) -> (Subject, Version) {
    if let Some(subject) = before {
        return (subject, Version::V2);
    }
    let subject = if rng.bool() { world.oracle.last_acknowledged() } else { Subject::random(rng) };
    (subject, if rng.bool() { Version::V1 } else { Version::V2 })
}

/// One read on a connection of its own, with more lines of a head; it is judged whenever its answer
/// comes.
pub(super) async fn read_once(
    world: &Arc<World>,
    place: Place,
    read: PendingRead,
    lines: &str,
    tally: &mut Tally,
) {
    let Ok(mut wire) = Wire::open(place.listen).await else {
        return tally.count("broken", "connect");
    };
    match timeout(PATIENCE, exchange(&mut wire, &wire::get(&read.path(), lines))).await {
        Ok(Ok(answer)) => world.judge(place, read, &answer, tally).await,
        Ok(Err(_)) => tally.count("broken", "exchange"),
        Err(_) => world.judge_later(wire, place, read),
    }
}
