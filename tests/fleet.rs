//! Fresh, across a fleet: real sidecars on one real Redis. No sidecar serves a dataset that an
//! acknowledged invalidation at any of them outdated.

mod bounds;
mod bus_loss;
mod lifetimes;
mod one_read;
mod read_after_token;
mod redis_tier;
mod rolling;
mod sealed;
mod sharing;
mod tampered;

use serde_json::{Value, json};

use crate::cache::{cache_status, counting, file, write};
use crate::support::client::TEST_TIMEOUT;
use crate::support::redis::Redis;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::Upstream;

const PATH: &str = "/v2/customers/42";

pub(crate) async fn member(redis: &Redis, upstream: &Upstream, args: &[&str]) -> Sidecar {
    let domain = file(upstream, "{ttl: 60s}");
    Setup::of(&[&domain])
        .insecure()
        .args(&["--memory", "64MiB", "--redis", &redis.url()])
        .args(args)
        .start()
        .await
}

pub(crate) async fn fleet(size: usize, args: &[&str]) -> (Redis, Upstream, Vec<Sidecar>) {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    let mut members = Vec::new();
    for _ in 0..size {
        members.push(member(&redis, &upstream, args).await);
    }
    for sidecar in &members {
        until_lease(sidecar, true).await;
    }
    (redis, upstream, members)
}

/// Waits until the sidecar's lease is held, or lost.
pub(crate) async fn until_lease(sidecar: &Sidecar, held: bool) {
    let reached = async {
        while sidecar.admin("/status").await.json()["fleet"]["domains"][0]["lease_held"] != held {
            tokio::task::yield_now().await;
        }
    };
    assert!(
        tokio::time::timeout(TEST_TIMEOUT, reached).await.is_ok(),
        "the lease never came to be {held}"
    );
}

/// An invalidation that does not wait for an acknowledgement.
fn customer_invalidation() -> Value {
    json!({"domain": "customer", "keys": ["42"]})
}

async fn invalidate(sidecar: &Sidecar, wait: &str) -> Value {
    let mut request = customer_invalidation();
    request["wait"] = wait.into();
    request["timeout"] = "30s".into();
    let got = sidecar.send_admin(write("/invalidate", &request)).await;
    assert_eq!(got.status, if wait == "fleet" { 200 } else { 202 }, "{}", got.text());
    got.json()
}

fn n(text: &str) -> u64 {
    serde_json::from_str::<Value>(text).unwrap()["part"]["n"].as_u64().unwrap()
}

#[tokio::test]
async fn after_an_acknowledged_invalidation_no_member_serves_what_was_read_before() {
    let (_redis, _upstream, members) = fleet(3, &[]).await;
    for round in 0..5 {
        let mut newest = 0;
        for sidecar in &members {
            newest = newest.max(n(sidecar.get(PATH).await.text()));
            assert!(
                cache_status(&sidecar.get(PATH).await).starts_with("bfb; hit;"),
                "round {round}"
            );
        }
        let done = invalidate(&members[round % 3], "fleet").await;
        assert_eq!(
            (&done["acknowledged"], &done["sidecars"], &done["silent"]),
            (&json!(true), &json!(3), &json!([]))
        );
        for sidecar in &members {
            assert!(
                n(sidecar.get(PATH).await.text()) > newest,
                "round {round}: an old answer after the acknowledgement"
            );
        }
    }
}

#[tokio::test]
async fn a_member_that_stops_is_waited_for_by_nobody() {
    let (_redis, _upstream, mut members) = fleet(2, &["--lease", "30s"]).await;
    invalidate(&members[0], "fleet").await;
    let leaves = members.pop().unwrap();
    leaves.signal("TERM");
    assert_eq!(leaves.exit_status().await.code(), Some(0));
    let done = invalidate(&members[0], "fleet").await;
    assert_eq!((&done["sidecars"], &done["silent"]), (&json!(1), &json!([])));
}

#[tokio::test]
async fn without_redis_memory_serves_for_a_lease_then_every_read_collects() {
    let (mut redis, _upstream, members) = fleet(1, &["--lease", "1s"]).await;
    let sidecar = &members[0];
    sidecar.get(PATH).await.dataset();
    redis.kill();
    until_lease(sidecar, false).await;
    let before = n(sidecar.get(PATH).await.text());
    let got = sidecar.get(PATH).await;
    assert_eq!((n(got.text()), cache_status(&got)), (before + 1, "bfb; fwd=bypass"));
    let request = json!({"domain": "customer", "keys": ["42"]});
    sidecar.send_admin(write("/invalidate", &request)).await.problem("bus-lost", 503);
    assert_eq!(sidecar.admin("/readyz").await.status, 200, "a sidecar's readiness is its pod's");
    redis.revive();
    until_lease(sidecar, true).await;
    sidecar.get(PATH).await.dataset();
    assert!(cache_status(&sidecar.get(PATH).await).starts_with("bfb; hit;"));
}

#[tokio::test]
async fn what_holds_without_redis_can_be_chosen() {
    for (choice, expected) in [("stale", 200), ("fail", 503)] {
        let (mut redis, _upstream, members) =
            fleet(1, &["--lease", "1s", "--bus-loss", choice]).await;
        let before = n(members[0].get(PATH).await.text());
        redis.kill();
        until_lease(&members[0], false).await;
        let got = members[0].get(PATH).await;
        assert_eq!(got.status, expected, "{choice}: {}", got.text());
        if expected == 200 {
            assert_eq!(n(got.text()), before);
            assert!(cache_status(&got).ends_with("; detail=bus-lost"), "{}", cache_status(&got));
        } else {
            got.problem("bus-lost", 503);
        }
    }
}

#[tokio::test]
async fn a_redis_that_was_never_there_fails_no_request() {
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    let domain = file(&upstream, "{ttl: 60s}");
    let nobody = ["--memory", "64MiB", "--redis", "redis://127.0.0.1:1"];
    let sidecar = Setup::of(&[&domain]).insecure().args(&nobody).start().await;
    for expected in 1..=2 {
        let got = sidecar.get(PATH).await;
        assert_eq!((n(got.text()), cache_status(&got)), (expected, "bfb; fwd=bypass"));
    }
}
