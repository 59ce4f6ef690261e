//! A rolling change: pods get a new domain file, or another lease, at different times, on one
//! Redis.

use serde_json::json;

use super::redis_tier::until_kept;
use super::{PATH, until_lease};
use crate::cache::{cache_status, counting, file, write};
use crate::support::domain::DomainFile;
use crate::support::redis::Redis;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

async fn member(redis: &Redis, domain: &DomainFile, args: &[&str]) -> Sidecar {
    let usual = ["--memory", "64MiB", "--redis", &redis.url()];
    let sidecar = Setup::of(&[domain]).insecure().args(&usual).args(args).start().await;
    until_lease(&sidecar, true).await;
    sidecar
}

async fn invalidate(sidecar: &Sidecar, what: &str, names: &[&str]) -> serde_json::Value {
    let request = json!({"domain": "customer", what: names, "wait": "fleet", "timeout": "30s"});
    let got = sidecar.send_admin(write("/invalidate", &request)).await;
    assert_eq!(got.status, 200, "{}", got.text());
    got.json()
}

#[tokio::test]
async fn no_answer_is_without_the_new_source_from_a_pod_that_has_the_new_file() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    upstream.answers("/new/42", [Reply::json("\"new\"")]);
    let old = file(&upstream, "{ttl: 60s}");
    let new = old.clone().source("added", &upstream, "/new/{key}", &[]);
    let (first, second) = (member(&redis, &old, &[]).await, member(&redis, &old, &[]).await);
    first.get(PATH).await.dataset();
    until_kept(&first, 1).await;
    second.replace("customer", &new.text());
    second.logged("the domain files have changed").await;
    for _ in 0..3 {
        let got = second.get(PATH).await;
        assert_eq!(got.json()["added"], "new", "{}", cache_status(&got));
        assert!(first.get(PATH).await.json().get("added").is_none());
    }
    // An invalidation names keys, and applies to all plans.
    let before = second.get(PATH).await.json()["part"]["n"].as_u64().unwrap();
    invalidate(&first, "keys", &["42"]).await;
    for sidecar in [&first, &second] {
        assert!(sidecar.get(PATH).await.json()["part"]["n"].as_u64().unwrap() > before);
    }
}

#[tokio::test]
async fn another_tags_program_is_another_plan() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    let old = file(&upstream, "{ttl: 60s, tags: '[\"old\"]'}");
    let new = file(&upstream, "{ttl: 60s, tags: '[\"new\"]'}");
    let first = member(&redis, &old, &[]).await;
    let second = member(&redis, &new, &[]).await;
    let mut ones = vec![];
    let mut twos = vec![];
    for tag in ["old", "new"] {
        ones.push(first.get(PATH).await.json()["part"]["n"].as_u64().unwrap());
        twos.push(second.get(PATH).await.json()["part"]["n"].as_u64().unwrap());
        invalidate(&first, "tags", &[tag]).await;
    }
    ones.push(first.get(PATH).await.json()["part"]["n"].as_u64().unwrap());
    twos.push(second.get(PATH).await.json()["part"]["n"].as_u64().unwrap());
    assert!(ones[0] < ones[1] && ones[1] == ones[2], "{ones:?}");
    assert!(twos[0] == twos[1] && twos[1] < twos[2], "{twos:?}");
}

#[tokio::test]
async fn a_rolling_change_of_the_lease_waits_for_the_longest() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    let domain = file(&upstream, "{ttl: 60s}");
    let short = member(&redis, &domain, &["--lease", "500ms"]).await;
    let long = member(&redis, &domain, &["--lease", "2s"]).await;
    let before = long.get(PATH).await.json()["part"]["n"].as_u64().unwrap();
    invalidate(&short, "keys", &["42"]).await;
    assert!(long.get(PATH).await.json()["part"]["n"].as_u64().unwrap() > before);
    // A member with the longer lease is paused: a member with a short one waits for that longer
    // lease.
    long.signal("STOP");
    let done = invalidate(&short, "keys", &["42"]).await;
    assert_eq!(done["silent"].as_array().map(Vec::len), Some(1), "{done}");
    assert!(done["took_ms"].as_u64().unwrap() >= 1_900, "{done}");
    long.signal("CONT");
    let newest = short.get(PATH).await.json()["part"]["n"].as_u64().unwrap();
    assert!(long.get(PATH).await.json()["part"]["n"].as_u64().unwrap() >= newest);
}
