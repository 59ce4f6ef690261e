//! Writers: each changes a number at the sources, then invalidates it through some sidecar and
//! waits for the fleet.
//!
//! Mostly a key or two, at times a tag, at times all of a domain. The numbers that were written
//! before an invalidation was sent are acknowledged with it. A writer, too, leaves a paused
//! sidecar; a late acknowledgement counts from its arrival. Now and then a writer does not wait,
//! and reads with the token that it got (`Bfb-After`) instead.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::oracle::{DOMAINS, PendingRead, Subject, TAGS, Version};
use super::readers::read_once;
use super::tally::Tally;
use super::world::{Place, World};
use crate::support::wire;

/// How long a sidecar may take to have the fleet's acknowledgement.
const ACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// The most time between two writes of a writer.
const REST_MAX_MS: u64 = 60;

/// The scopes of an invalidation, and the numbers that it guarantees.
struct Invalidation {
    place: Place,
    /// `keys`, `tags` or `all`.
    kind: &'static str,
    body: Value,
    numbers: HashMap<Subject, u64>,
}

/// Writes until the run is over; waits for each acknowledgement for `patience`.
pub(super) async fn writer(world: Arc<World>, mut rng: fastrand::Rng, patience: Duration) {
    while !world.over.is_cancelled() {
        // This is not a wait for an event: a writer's pace is the load of the run.
        sleep(Duration::from_millis(rng.u64(..REST_MAX_MS))).await;
        let Some(place) = world.random_place(&mut rng) else { continue };
        let invalidation = write(&world, place, &mut rng);
        if rng.u32(..10) == 0 {
            let other = world.random_place(&mut rng).unwrap_or(place);
            read_after_token(&world, invalidation, other).await;
        } else {
            let acknowledging = world.tasks.spawn(acknowledge(Arc::clone(&world), invalidation));
            // A sidecar that does not answer in time may do so later.
            let _ = timeout(patience, acknowledging).await;
        }
    }
}

/// Writes at the sources, and returns the necessary invalidation.
fn write(world: &World, place: Place, rng: &mut fastrand::Rng) -> Invalidation {
    // The subject that readers prefer is written more often than the rest.
    let Subject { domain, key } =
        if rng.u32(..10) < 3 { world.oracle.last_acknowledged() } else { Subject::random(rng) };
    let subjects: Vec<_> = Subject::of(domain).collect();
    let (kind, names, covered): (_, Value, Vec<Subject>) = match rng.u32(..100) {
        0 => ("all", json!(true), subjects),
        1..=7 => {
            let tag = rng.usize(..TAGS);
            (
                "tags",
                json!([tag.to_string()]),
                subjects.into_iter().filter(|subject| subject.tag() == tag).collect(),
            )
        }
        8..=20 => {
            let two =
                [Subject { domain, key }, Subject { domain, key: (key + 1) % subjects.len() }];
            ("keys", two.iter().map(|subject| subject.key.to_string()).collect(), two.to_vec())
        }
        _ => ("keys", json!([key.to_string()]), vec![Subject { domain, key }]),
    };
    for subject in covered.iter().take(3) {
        world.oracle.write(*subject);
    }
    let body = json!({"domain": DOMAINS[domain], kind: names});
    Invalidation { place, kind, body, numbers: world.oracle.current_numbers(covered) }
}

/// Invalidates, waits for the fleet, and records the acknowledged numbers in the oracle.
async fn acknowledge(world: Arc<World>, invalidation: Invalidation) {
    let Invalidation { place, kind, mut body, numbers } = invalidation;
    body["wait"] = "fleet".into();
    body["timeout"] = format!("{}s", ACKNOWLEDGED_MAX.as_secs()).into();
    let sent = world.oracle.now();
    let request = wire::post("/invalidate", &body);
    let Ok(answer) = wire::once(place.admin, &request, ACKNOWLEDGED_MAX * 2).await else {
        return world.count("refused", "broken off");
    };
    if answer.status != 200 {
        return world.count("refused", &answer.status.to_string());
    }
    let acknowledgement: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let by = format!(
        "through sidecar {} (its life {}), sent {sent:.3?}: {acknowledgement}",
        place.member, place.life
    );
    world.oracle.acknowledge(&numbers, &by);
    world.count("acknowledged", kind);
    let silent = acknowledgement["silent"].as_array().is_some_and(|silent| !silent.is_empty());
    world.count("fleet", if silent { "silent ones waited for" } else { "all had reported" });
}

/// Invalidates without waiting; a read with the token may not get anything older, acknowledged or
/// not.
async fn read_after_token(world: &Arc<World>, invalidation: Invalidation, other: Place) {
    let Invalidation { place, body, numbers, .. } = invalidation;
    let mut tally = Tally::default();
    let response =
        wire::once(place.admin, &wire::post("/invalidate", &body), ACKNOWLEDGED_MAX).await;
    let acknowledgement = response.ok().filter(|answer| answer.status == 202);
    let acknowledgement: Option<Value> =
        acknowledgement.and_then(|answer| serde_json::from_slice(&answer.body).ok());
    let token =
        acknowledgement.as_ref().and_then(|acknowledgement| acknowledgement["token"].as_str());
    if let (Some(token), Some((&subject, &number))) = (token, numbers.iter().next()) {
        let read = world.oracle.begin_read(subject, Version::V2);
        let read = PendingRead { floor: read.floor.max(number), ..read };
        tally.count("token", "read with");
        read_once(world, other, read, &format!("bfb-after: {token}\r\n"), &mut tally).await;
    }
    world.add(&tally);
}
