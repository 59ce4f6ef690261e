//! Bounded, in the process that serves: endless tags of an upstream, and an endless dataset in
//! Redis.

use serde_json::json;
use tokio::sync::watch;

use super::{PATH, member, until_lease};
use crate::cache::{cache_status, file};
use crate::support::client::TEST_TIMEOUT;
use crate::support::redis::Redis;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// How much a process may grow while it refuses 300 MB.
const GROWTH_KIB_MAX: u64 = 40 * 1024;

async fn readyz(sidecar: &Sidecar) -> String {
    sidecar.admin("/readyz").await.text().to_owned()
}

#[tokio::test]
async fn datasets_with_too_many_or_too_long_tags_are_served_and_not_kept_and_that_is_said() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    let domain = file(&upstream, "{ttl: 60s, tags: '.part'}");
    let setup =
        Setup::of(&[&domain]).insecure().args(&["--memory", "64MiB", "--redis", &redis.url()]);
    let sidecar = setup.start().await;
    until_lease(&sidecar, true).await;
    let tags = |many: usize| (0..many).map(|nth| format!("secret{nth}")).collect::<Vec<_>>();
    let cases = [
        ("/1", tags(64), None),
        ("/2", tags(65), Some("too-many")),
        ("/3", vec!["secret".repeat(100)], Some("too-long")),
        ("/4", tags(200_000), Some("too-many")),
    ];
    for (path, tags, reason) in cases {
        upstream.answers(path, [Reply::json(serde_json::to_vec(&tags).unwrap())]);
        let path = format!("/v2/customers{path}");
        let got = sidecar.get(&path).await;
        assert_eq!(got.json()["part"].as_array().unwrap().len(), tags.len(), "it is served whole");
        assert_eq!(
            cache_status(&got),
            if reason.is_none() { "bfb; fwd=miss; stored" } else { "bfb; fwd=miss" },
            "{path}"
        );
    }
    for (reason, datasets) in [("too-many", 2.0), ("too-long", 1.0), ("program-failed", 0.0)] {
        let labels = [("domain", "customer"), ("reason", reason)];
        assert_eq!(
            sidecar.metric("bfb_tags_failed_total", &labels).await,
            Some(datasets),
            "{reason}"
        );
    }
    let status = sidecar.admin("/status").await.json();
    let not_kept = status["domains"][0]["not_kept"].as_array().unwrap().clone();
    let reasons: Vec<_> = not_kept
        .iter()
        .map(|one| (one["reason"].as_str().unwrap(), one["datasets"].as_u64()))
        .collect();
    assert_eq!(reasons, [("too-many", Some(2)), ("too-long", Some(1))]);
    let ready = readyz(&sidecar).await;
    for text in ["domain `customer`", "more than 64 tags", "a tag of more than 512 bytes"] {
        assert!(ready.contains(text), "{ready}");
    }
    sidecar.logged("a dataset is served and not kept").await;
    assert!(
        !ready.contains("secret")
            && !status.to_string().contains("secret")
            && !sidecar.log().contains("secret")
    );
}

/// Stores a dataset of so many bytes under the name of a key's dataset.
async fn plant(redis: &Redis, sidecar: &Sidecar, key: &str, bytes: usize) -> String {
    let status = sidecar.admin("/status").await.json();
    let plan = &status["domains"][0]["plan"];
    let log = &status["fleet"]["domains"][0];
    let epoch = log["epoch"].as_str().unwrap();
    let seq = log["seq"].to_string();
    let at = format!("bfb:{{default/customer}}:dataset:{}:{key}", plan.as_str().unwrap());
    let script = "redis.call('HSET', KEYS[1], 'format', '1', 'epoch', ARGV[1], 'seq', ARGV[2], \
        'tags', '[]', 'body', string.rep('x', tonumber(ARGV[3]))) \
        redis.call('PEXPIRE', KEYS[1], 60000)";
    redis.command::<()>(&["EVAL", script, "1", &at, epoch, &seq, &bytes.to_string()]);
    // Such a large write may have delayed Redis for longer than a lease.
    until_lease(sidecar, true).await;
    at
}

#[tokio::test]
async fn a_dataset_of_300_mb_in_redis_takes_no_memory_of_a_sidecar_and_stands_in_nobodys_way() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    let sidecar = member(&redis, &upstream, &["--lease", "10s"]).await;
    until_lease(&sidecar, true).await;
    upstream.handles("/warm", |_| Reply::json("1"));
    sidecar.get("/v2/customers/warm").await.dataset();
    let before = sidecar.resident_kib();
    // On a busy machine Redis may miss its time limit, and the sidecar does not see the dataset;
    // then the test tries another key.
    let mut refused = None;
    for key in 0..20 {
        upstream.answers(&format!("/{key}"), [Reply::json("1")]);
        let at = plant(&redis, &sidecar, &key.to_string(), 300_000_000).await;
        let path = format!("/v2/customers/{key}");
        assert_eq!(sidecar.get(&path).await.json(), json!({"part": 1}));
        if sidecar.metric("bfb_redis_oversized_total", &[]).await > Some(0.0) {
            refused = Some(path);
            break;
        }
        redis.command::<()>(&["DEL", &at]);
    }
    let path = refused.expect("Redis was never looked at");
    let grown = sidecar.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "it grew by {grown} KiB");
    assert!(
        cache_status(&sidecar.get(&path).await).ends_with("detail=memory"),
        "what was collected is kept"
    );
}

#[tokio::test]
async fn who_waits_for_one_that_replaces_a_dataset_that_is_too_large_gets_what_it_leaves() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    let one = member(&redis, &upstream, &["--lease", "30s"]).await;
    let two = member(&redis, &upstream, &["--lease", "30s"]).await;
    until_lease(&one, true).await;
    until_lease(&two, true).await;
    // On a busy machine Redis may miss its time limit, and each sidecar collects for itself; then
    // the test tries another key.
    for key in 0..20 {
        let gate = watch::Sender::new(false);
        let at = format!("/{key}");
        let path = format!("/v2/customers/{key}");
        upstream.answers(&at, [Reply::json("1").held_until(gate.subscribe())]);
        plant(&redis, &one, &key.to_string(), 16 * 1024 * 1024 + 65).await;
        let waits = async |sidecar: &Sidecar| {
            sidecar.metric("bfb_fleet_waits_total", &[]).await.unwrap_or_default()
        };
        let requests = upstream.received().len();
        let waited = waits(&two).await;
        let (first, second, waited) = tokio::join!(
            one.get(&path),
            async {
                upstream.requests(requests + 1).await;
                two.get(&path).await
            },
            async {
                upstream.requests(requests + 1).await;
                while waits(&two).await <= waited && upstream.received().len() == requests + 1 {
                    tokio::task::yield_now().await;
                }
                let waited = upstream.received().len() == requests + 1;
                gate.send_replace(true);
                waited
            }
        );
        assert_eq!((first.json(), second.json()), (json!({"part": 1}), json!({"part": 1})));
        if waited && upstream.received().len() == requests + 1 {
            assert!(cache_status(&second).ends_with("detail=redis"), "{}", cache_status(&second));
            return;
        }
    }
    panic!("it was always collected twice");
}

/// The number of datasets that the sidecar has kept in Redis, or tried to.
async fn stored(sidecar: &Sidecar) -> f64 {
    let mut attempts = 0.0;
    for name in ["stored", "refused", "stores_dropped", "too_large"] {
        attempts +=
            sidecar.metric(&format!("bfb_redis_{name}_total"), &[]).await.unwrap_or_default();
    }
    attempts
        + sidecar.metric("bfb_redis_faults_total", &[("kind", "slow")]).await.unwrap_or_default()
}

/// Waits until it has kept one more, or failed to.
async fn until_settled(sidecar: &Sidecar, before: f64) {
    while stored(sidecar).await <= before {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_large_dataset_goes_through_redis_in_a_second_question() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    // Random letters do not compress well.
    let text: String = std::iter::repeat_with(fastrand::alphanumeric).take(3_000_000).collect();
    upstream.answers("/42", [Reply::json(json!(text).to_string())]);
    // Longer than a busy machine pauses a sidecar: without the lease nothing is kept.
    let one = member(&redis, &upstream, &["--lease", "30s"]).await;
    until_lease(&one, true).await;
    one.get(PATH).await.dataset();
    super::redis_tier::until_kept(&one, 1).await;
    let two = member(&redis, &upstream, &["--lease", "30s"]).await;
    until_lease(&two, true).await;
    let attempts = tokio::time::timeout(TEST_TIMEOUT, async {
        // On a busy machine Redis may miss its time limit; then the sidecar collects, which is fine
        // too.
        loop {
            let got = two.get(PATH).await;
            assert_eq!(got.json()["part"], json!(text));
            if cache_status(&got).ends_with("detail=redis") {
                return;
            }
            assert!(upstream.received().len() < 100);
            crate::fleet::invalidate(&two, "fleet").await;
            let before = stored(&one).await;
            one.get(PATH).await.dataset();
            until_settled(&one, before).await;
        }
    });
    attempts.await.expect("it never came from Redis");
}
