//! The honest load: consumers that read a few hundred keys over and over, and an owner that
//! invalidates some.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Counted;
use super::world::{Tally, World, goes_on};
use crate::cache::write;
use crate::support::client::{ClientResponse, HttpVersion};
use crate::support::sidecar::Sidecar;

const CONSUMERS: [&str; 4] = ["honest 1", "honest 2", "honest 3", "honest 4"];
const KEYS: u32 = 300;
/// A consumer's pause after an answer.
const PAUSE: Duration = Duration::from_millis(5);
/// The owner's pause.
const BETWEEN_INVALIDATIONS: Duration = Duration::from_millis(100);

pub(super) fn begin(load: &mut JoinSet<Counted>, world: &World, stop: &watch::Sender<bool>) {
    for (name, http) in
        CONSUMERS.into_iter().zip([HttpVersion::Http1, HttpVersion::Http2].into_iter().cycle())
    {
        load.spawn(reads(name, http, Arc::clone(&world.sidecar), stop.subscribe()));
    }
    load.spawn(invalidates(Arc::clone(&world.sidecar), stop.subscribe()));
}

/// Requests one key after the other.
async fn reads(
    name: &'static str,
    http: HttpVersion,
    sidecar: Arc<Sidecar>,
    mut stop: watch::Receiver<bool>,
) -> Counted {
    let mut consumer = sidecar.consumer(http);
    let mut tally = Tally::default();
    while goes_on(&mut stop, PAUSE).await {
        let path = format!("/v2/customers/{}", fastrand::u32(..KEYS));
        tally.count(match consumer.get(&path).await {
            Ok(got) => outcome(&got),
            Err(why) => format!("cut off: {why}"),
        });
    }
    (name, tally)
}

/// The outcome of an honest consumer's request, in a few words.
fn outcome(got: &ClientResponse) -> String {
    if got.status == 200 {
        return "200".to_owned();
    }
    let kind =
        got.json()["type"].as_str().unwrap_or_default().trim_start_matches("urn:bfb:").to_owned();
    let retry = if got.header("retry-after").is_empty() { "" } else { " with retry-after" };
    format!("{kind}{retry}")
}

async fn invalidates(sidecar: Arc<Sidecar>, mut stop: watch::Receiver<bool>) -> Counted {
    let mut tally = Tally::default();
    while goes_on(&mut stop, BETWEEN_INVALIDATIONS).await {
        let keys: Vec<String> = (0..3).map(|_| fastrand::u32(..KEYS).to_string()).collect();
        let request =
            write("/invalidate", &json!({"domain": "customer", "keys": keys, "wait": "none"}));
        tally.count(sidecar.send_admin(request).await.status.to_string());
    }
    ("invalidations", tally)
}

/// The outcomes that an honest consumer may have: an answer, or `overloaded` with a `Retry-After`.
/// Each consumer has the first at least once.
pub(super) fn judge(counted: &[Counted]) {
    for (name, tally) in counted.iter().filter(|(name, _)| CONSUMERS.contains(name)) {
        for (what, times) in tally.all() {
            assert!(
                ["200", "overloaded with retry-after"].contains(&what),
                "{name} met `{what}` {times} times"
            );
        }
        assert!(
            tally.all().any(|(what, times)| what == "200" && times > 0),
            "{name} was never answered"
        );
    }
}
