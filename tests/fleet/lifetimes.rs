//! A dataset that one member keeps in Redis is served by another under its own domain file, and
//! never replaces a newer one.

use super::redis_tier::until_kept;
use super::{PATH, fleet, n, until_lease};
use crate::cache::{cache_status, counting, file, get_with_cache_control};
use crate::support::client::TEST_TIMEOUT;
use crate::support::domain::DomainFile;
use crate::support::redis::Redis;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// Longer than a busy machine pauses a sidecar.
const LONG: [&str; 2] = ["--lease", "30s"];

async fn member(redis: &Redis, domain: &DomainFile) -> Sidecar {
    let setup = Setup::of(&[domain])
        .insecure()
        .args(&["--memory", "64MiB", "--redis", &redis.url()])
        .args(&LONG);
    let sidecar = setup.start().await;
    until_lease(&sidecar, true).await;
    sidecar
}

#[tokio::test]
async fn the_reader_s_own_ttl_caps_what_a_member_with_a_longer_one_has_left_in_redis() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    let long = member(&redis, &file(&upstream, "{ttl: 60s}")).await;
    let short = member(&redis, &file(&upstream, "{ttl: 1ms}")).await;
    long.get(PATH).await.dataset();
    until_kept(&long, 1).await;
    get_with_cache_control(&short, "only-if-cached").await.problem("not-cached", 504);
    assert_eq!(n(short.get(PATH).await.text()), 2);
    let facts = short.admin("/datasets/customer/42").await.json();
    assert!(facts["redis"]["ttl_seconds"].as_i64().is_none_or(|ttl| ttl < 0), "{facts}");
}

#[tokio::test]
async fn who_finds_what_is_in_redis_too_old_collects_for_the_others_of_the_same_mind() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    let long = member(&redis, &file(&upstream, "{ttl: 60s}")).await;
    long.get(PATH).await.dataset();
    until_kept(&long, 1).await;
    let short = member(&redis, &file(&upstream, "{ttl: 1ms}")).await;
    short.get(PATH).await.dataset();
    assert_eq!(
        short.metric("bfb_claims_missed_total", &[]).await,
        Some(0.0),
        "it collected under a claim"
    );
}

#[tokio::test]
async fn a_404_in_redis_ends_with_the_reader_s_own_missing_ttl() {
    let (redis, upstream) = (Redis::start(), Upstream::plain().await);
    upstream.answers("/42", [Reply::status(404), Reply::json("1")]);
    let domain = |missing_ttl: &str| {
        let head = format!("cache: {{ttl: 60s, missing_ttl: {missing_ttl}}}");
        DomainFile::of("customer").head(&head).source(
            "part",
            &upstream,
            "/{key}",
            &["missing: not-found"],
        )
    };
    let (long, short) =
        (member(&redis, &domain("60s")).await, member(&redis, &domain("1ms")).await);
    long.get(PATH).await.problem("not-found", 404);
    until_kept(&long, 1).await;
    assert_eq!(short.get(PATH).await.text(), r#"{"part":1}"#);
}

#[tokio::test]
async fn no_store_keeps_nothing_of_what_it_finds_in_redis() {
    let (_redis, upstream, members) = fleet(2, &LONG).await;
    members[0].get(PATH).await.dataset();
    until_kept(&members[0], 1).await;
    // A read from Redis may take 50 ms, so on a busy machine the first ones may fail.
    let found = async {
        while !cache_status(&get_with_cache_control(&members[1], "no-store, only-if-cached").await)
            .ends_with("detail=redis")
        {}
    };
    assert!(tokio::time::timeout(TEST_TIMEOUT, found).await.is_ok(), "it was never read");
    assert_eq!(members[1].admin("/status").await.json()["memory"]["entries"], 0);
    let got = get_with_cache_control(&members[1], "no-store").await;
    assert!(
        !cache_status(&got).contains("detail=memory") && !cache_status(&got).contains("stored"),
        "{}",
        cache_status(&got)
    );
    assert_eq!(members[1].admin("/status").await.json()["memory"]["entries"], 0);
    assert!(upstream.received().len() <= 2);
}

#[tokio::test]
async fn what_is_older_never_replaces_what_is_newer_in_redis() {
    let (redis, upstream, members) = fleet(1, &LONG).await;
    let gate = tokio::sync::watch::Sender::new(false);
    upstream.answers(
        "/42",
        [Reply::json("{\"n\":1}").held_until(gate.subscribe()), Reply::json("{\"n\":2}")],
    );
    let (slow, newer) = tokio::join!(members[0].get(PATH), async {
        upstream.requests(1).await;
        let newer = get_with_cache_control(&members[0], "no-cache").await;
        until_kept(&members[0], 1).await;
        gate.send_replace(true);
        newer
    });
    assert_eq!((n(slow.text()), n(newer.text())), (1, 2));
    members[0].until_metric("bfb_redis_refused_total", 1.0).await;
    assert_eq!(n(members[0].get(PATH).await.text()), 2, "from memory");
    let other = super::member(&redis, &upstream, &LONG).await;
    until_lease(&other, true).await;
    assert_eq!(n(other.get(PATH).await.text()), 2, "from redis");
}
