//! The Redis tier: a dataset that one sidecar has collected is served by another, as long as it is
//! valid; and a Redis that fails or does not answer fails no request.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{PATH, fleet, invalidate, member, n, until_lease};
use crate::cache::cache_status;
use crate::support::client::{TEST_TIMEOUT, get, with_header};
use crate::support::domain::DomainFile;
use crate::support::redis::Redis;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// Waits until Redis keeps the collected datasets: answers do not wait for that.
pub(super) async fn until_kept(sidecar: &Sidecar, answers: u32) {
    let stored = async {
        while sidecar.metric("bfb_redis_stored_total", &[]).await != Some(f64::from(answers)) {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(TEST_TIMEOUT, stored).await.is_ok(), "Redis never kept it");
}

fn is_from(how: &str, tier: &str) -> bool {
    how.starts_with("bfb; hit; ttl=") && how.ends_with(&format!("; detail={tier}"))
}

#[tokio::test]
async fn what_one_member_has_collected_another_serves_as_the_same_dataset() {
    let (_redis, upstream, members) = fleet(2, &[]).await;
    let first = members[0].get(PATH).await;
    assert_eq!(cache_status(&first), "bfb; fwd=miss; stored");
    until_kept(&members[0], 1).await;
    let second = members[1].get(PATH).await;
    assert!(is_from(cache_status(&second), "redis"), "{}", cache_status(&second));
    for header in ["bfb-dataset", "etag"] {
        assert_eq!(first.header(header), second.header(header), "{header}");
    }
    assert_eq!(first.body, second.body);
    assert!(is_from(cache_status(&members[1].get(PATH).await), "memory"));
    assert_eq!(upstream.received().len(), 1);
    assert_eq!(members[1].metric("bfb_cache_hits_total", &[("tier", "redis")]).await, Some(1.0));
    // The validators are stored with the dataset: the request is conditional.
    members[1].send(with_header(get(PATH), "cache-control", "no-cache")).await.dataset();
    assert_eq!(upstream.received()[1].header("if-none-match"), "\"1\"");
}

#[tokio::test]
async fn where_a_dataset_lives_can_be_looked_at_without_its_data() {
    let (_redis, upstream, members) = fleet(2, &[]).await;
    upstream.answers("/42", [Reply::json("\"secret\"").etag("\"e1\"")]);
    members[0].get(PATH).await.dataset();
    until_kept(&members[0], 1).await;
    let shown = members[1].admin("/datasets/customer/42").await;
    assert!(!shown.text().contains("secret"), "{}", shown.text());
    let shown = shown.json();
    assert_eq!(shown["memory"], json!(null));
    let redis = &shown["redis"];
    assert_eq!((&redis["readable"], &redis["parts"][0]["etag"]), (&json!(true), &json!("\"e1\"")));
    assert!(
        redis["ttl_seconds"].as_u64().unwrap() > 30 && redis["bytes"].as_u64().unwrap() > 0,
        "{redis}"
    );
    assert_eq!(
        members[1].admin("/datasets/customer/42?data=1").await.json()["redis"]["data"]["part"],
        "secret"
    );
    invalidate(&members[1], "fleet").await;
    let shown = members[1].admin("/datasets/customer/42").await.json();
    assert_eq!(shown["redis"], json!(null));
}

#[tokio::test]
async fn what_was_invalidated_redis_hands_out_to_nobody() {
    let (_redis, _upstream, members) = fleet(2, &[]).await;
    members[0].get(PATH).await.dataset();
    until_kept(&members[0], 1).await;
    invalidate(&members[0], "fleet").await;
    let got = members[1].get(PATH).await;
    assert_eq!((n(got.text()), cache_status(&got)), (2, "bfb; fwd=miss; stored"));
}

#[tokio::test]
async fn a_member_that_comes_later_is_warm_and_knows_its_age() {
    let (redis, upstream, members) = fleet(1, &[]).await;
    members[0].get(PATH).await.dataset();
    until_kept(&members[0], 1).await;
    // There is no event to wait for: the dataset gets older.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let late = member(&redis, &upstream, &[]).await;
    until_lease(&late, true).await;
    let only = late.send(with_header(get(PATH), "cache-control", "only-if-cached")).await;
    assert!(is_from(cache_status(&only), "redis"), "{}", cache_status(&only));
    assert!(only.header("age").parse::<u64>().unwrap() >= 2, "{only:?}");
    let other = member(&redis, &upstream, &[]).await;
    until_lease(&other, true).await;
    let young = other.send(with_header(get(PATH), "cache-control", "max-age=1")).await;
    assert_eq!(
        (n(young.text()), cache_status(&young)),
        (2, "bfb; fwd=miss; stored"),
        "Redis's was too old for it"
    );
    other
        .send(with_header(get("/v2/customers/43"), "cache-control", "only-if-cached"))
        .await
        .problem("not-cached", 504);
}

#[tokio::test]
async fn that_there_is_no_such_dataset_is_shared_too() {
    let (redis, upstream) = (Redis::start(), Upstream::plain().await);
    upstream.answers("/42", [Reply::status(404), Reply::json("1")]);
    let domain = DomainFile::of("customer").head("cache: {missing_ttl: 60s}").source(
        "part",
        &upstream,
        "/{key}",
        &["missing: not-found"],
    );
    let args = ["--memory", "64MiB", "--redis", &redis.url()];
    let mut members = Vec::new();
    for _ in 0..2 {
        let sidecar = Setup::of(&[&domain]).insecure().args(&args).start().await;
        until_lease(&sidecar, true).await;
        members.push(sidecar);
    }
    members[0].get(PATH).await.problem("not-found", 404);
    until_kept(&members[0], 1).await;
    members[1].get(PATH).await.problem("not-found", 404);
    assert_eq!(upstream.received().len(), 1);
    invalidate(&members[1], "fleet").await;
    assert_eq!(members[0].get(PATH).await.text(), r#"{"part":1}"#);
}

#[tokio::test]
async fn a_dataset_of_another_format_is_a_miss() {
    let (redis, upstream, members) = fleet(2, &[]).await;
    let changes: [&dyn Fn(&str); 3] = [
        &|place| redis.command::<()>(&["HSET", place, "format", "2"]),
        &|place| redis.command::<()>(&["HSET", place, "body", "\u{7}unknown"]),
        &|place| redis.command::<()>(&["HSET", place, "body", ""]),
    ];
    for (round, change) in (1..).zip(changes) {
        members[0].send(with_header(get(PATH), "cache-control", "no-cache")).await.dataset();
        until_kept(&members[0], round).await;
        let places: Vec<String> = redis.command(&["KEYS", "bfb:{default/customer}:dataset:*"]);
        change(&places[0]);
        let before = upstream.received().len();
        let got = members[1].send(with_header(get(PATH), "cache-control", "max-age=0")).await;
        got.dataset();
        assert_eq!(upstream.received().len(), before + 1, "round {round}: {}", cache_status(&got));
    }
}

#[tokio::test]
async fn a_redis_that_does_not_answer_holds_nobody_up_for_long() {
    let (redis, upstream, members) = fleet(1, &["--lease", "60s"]).await;
    let sidecar = &members[0];
    redis.pause();
    let began = Instant::now();
    for key in 0..20 {
        upstream.answers(&format!("/{key}"), [Reply::json("1")]);
        sidecar.get(&format!("/v2/customers/{key}")).await.dataset();
    }
    // Each may wait for one bounded read; once Redis is found slow, most do not even send one.
    assert!(began.elapsed() < TEST_TIMEOUT / 2, "{:?}", began.elapsed());
    redis.resume();
    assert_eq!(sidecar.get("/v2/customers/7").await.status, 200);
}

#[tokio::test]
async fn a_large_dataset_is_compressed() {
    let (redis, upstream, members) = fleet(2, &[]).await;
    upstream.answers("/7", [Reply::json(json!(vec!["again and again"; 10_000]).to_string())]);
    let got = members[0].get("/v2/customers/7").await;
    until_kept(&members[0], 1).await;
    let place: Vec<String> = redis.command(&["KEYS", "bfb:{default/customer}:dataset:*"]);
    let length: usize = redis.command(&["HSTRLEN", &place[0], "body"]);
    assert!(length * 10 < got.body.len(), "{length} bytes of {}", got.body.len());
    assert_eq!(members[1].get("/v2/customers/7").await.body, got.body);
    assert_eq!(upstream.received().len(), 1);
}
