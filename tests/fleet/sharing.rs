//! Sharing never costs an answer, in a fleet: neither without the lease, nor beside another
//! member's claim.

use std::time::Duration;

use futures_util::future::join_all;

use super::{PATH, until_lease};
use crate::cache::{cache_status, counting, file, get_with_cache_control};
use crate::support::client::ClientResponse;
use crate::support::domain::DomainFile;
use crate::support::redis::Redis;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// Before any collection has ended, half of the deadline is kept beside another's claim, and three
/// quarters for a flight that waits: in this time a busy machine has to answer.
const DEADLINE: &str = "deadline: 8s";

async fn member(redis: &Redis, domain: &DomainFile, args: &[&str]) -> Sidecar {
    let setup = Setup::of(&[domain])
        .insecure()
        .args(&["--memory", "64MiB", "--redis", &redis.url()])
        .args(args);
    let sidecar = setup.start().await;
    until_lease(&sidecar, true).await;
    sidecar
}

/// The final answer to the caller of a flight that hangs, and the answers to `others` before that:
/// they send their requests as soon as the source has the flight's request.
async fn beside_a_flight_that_hangs<T>(
    holder: &Sidecar,
    upstream: &Upstream,
    others: impl Future<Output = T>,
) -> (ClientResponse, T) {
    let mut hung = std::pin::pin!(holder.get(PATH));
    let others = async {
        upstream.requests(1).await;
        others.await
    };
    let others = tokio::select! {
        biased;
        hung = &mut hung => panic!("they waited for the flight that hangs: {hung:?}"),
        others = others => others,
    };
    (hung.await, others)
}

#[tokio::test]
async fn without_the_lease_callers_of_one_key_do_not_wait_for_a_flight_that_hangs() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    upstream.answers("/42", [Reply::never(), Reply::json("1")]);
    let sidecar =
        member(&redis, &file(&upstream, "{ttl: 60s}").head(DEADLINE), &["--lease", "300ms"]).await;
    drop(redis);
    until_lease(&sidecar, false).await;
    let three = join_all((0..3).map(|_| sidecar.get(PATH)));
    let (hung, others) = beside_a_flight_that_hangs(&sidecar, &upstream, three).await;
    assert_eq!(hung.failed_sources("deadline", 504), [("part".to_owned(), "timeout".to_owned())]);
    assert!(others.iter().all(|got| got.text() == r#"{"part":1}"#), "{others:?}");
    assert_eq!(upstream.received().len(), 2, "one waited for its turn, with all three");
}

#[tokio::test]
async fn who_waits_in_vain_names_who_has_not_answered() {
    let (redis, upstream) = (Redis::start(), Upstream::plain().await);
    upstream.answers("/a/42", [Reply::json("1")]);
    upstream.answers("/b/42", [Reply::never()]);
    let domain = DomainFile::of("customer").head(DEADLINE).source("a", &upstream, "/a/{key}", &[]);
    let domain = domain.source("b", &upstream, "/b/{key}", &[]);
    let sidecar = member(&redis, &domain, &["--lease", "300ms"]).await;
    drop(redis);
    until_lease(&sidecar, false).await;
    for got in join_all((0..4).map(|_| sidecar.get(PATH))).await {
        assert_eq!(got.failed_sources("deadline", 504), [("b".to_owned(), "timeout".to_owned())]);
    }
}

#[tokio::test]
async fn a_member_does_not_wait_for_the_claim_of_one_whose_source_hangs() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    upstream.answers("/42", [Reply::never(), Reply::json("1")]);
    let domain = file(&upstream, "{ttl: 60s}").head(DEADLINE);
    // Longer than a busy machine pauses a sidecar.
    let (holder, other) = (
        member(&redis, &domain, &["--lease", "30s"]).await,
        member(&redis, &domain, &["--lease", "30s"]).await,
    );
    let (hung, got) = beside_a_flight_that_hangs(&holder, &upstream, other.get(PATH)).await;
    assert_eq!(got.text(), r#"{"part":1}"#);
    assert_eq!(hung.failed_sources("deadline", 504), [("part".to_owned(), "timeout".to_owned())]);
    assert_eq!(
        other.metric("bfb_fleet_waits_total", &[]).await,
        Some(1.0),
        "it did wait for the claim"
    );
}

#[tokio::test]
async fn a_claim_without_an_end_is_none() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    let sidecar = member(&redis, &file(&upstream, "{ttl: 60s}"), &["--lease", "30s"]).await;
    let plan =
        sidecar.admin("/status").await.json()["domains"][0]["plan"].as_str().unwrap().to_owned();
    let epoch = sidecar.admin("/status").await.json()["fleet"]["domains"][0]["epoch"]
        .as_str()
        .unwrap()
        .to_owned();
    let claim = format!("bfb:{{default/customer}}:claim:{plan}:42");
    redis.command::<()>(&["SET", &claim, &format!("somebody {epoch} 0")]);
    let got = sidecar.get(PATH).await;
    assert_eq!((got.text(), cache_status(&got)), (r#"{"part":{"n":1}}"#, "bfb; fwd=miss; stored"));
    assert_eq!(sidecar.metric("bfb_fleet_waits_total", &[]).await, Some(0.0));
    let left = tokio::time::timeout(Duration::from_secs(30), async {
        while redis.command::<Option<String>>(&["GET", &claim]).is_some() {
            tokio::task::yield_now().await;
        }
    });
    assert!(left.await.is_ok(), "the claim was taken, and has been released");
}

#[tokio::test]
async fn who_joins_a_flight_that_hangs_waits_for_no_claim_of_it() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    upstream.answers("/42", [Reply::never(), Reply::json("1")]);
    let sidecar =
        member(&redis, &file(&upstream, "{ttl: 60s}").head(DEADLINE), &["--lease", "30s"]).await;
    let three = join_all((0..3).map(|_| sidecar.get(PATH)));
    let (hung, others) = beside_a_flight_that_hangs(&sidecar, &upstream, three).await;
    assert_eq!(hung.failed_sources("deadline", 504), [("part".to_owned(), "timeout".to_owned())]);
    assert!(others.iter().all(|got| got.text() == r#"{"part":1}"#), "{others:?}");
}

#[tokio::test]
async fn where_collections_take_most_of_the_deadline_redis_is_read_all_the_same() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    let slow = |n: u32| Reply::json(format!("{{\"n\":{n}}}")).after(Duration::from_secs(10));
    upstream.answers("/7", [slow(1)]);
    upstream.answers("/42", [slow(1), slow(2)]);
    let domain = file(&upstream, "{ttl: 60s}").head("deadline: 12s");
    let one = member(&redis, &domain, &["--lease", "30s"]).await;
    let two = member(&redis, &domain, &["--lease", "30s"]).await;
    // After this, collections are known to be so slow that nothing of the deadline can be spared.
    let (slow_collection, stored) = tokio::join!(two.get("/v2/customers/7"), one.get(PATH));
    assert_eq!((slow_collection.status, stored.status), (200, 200));
    super::redis_tier::until_kept(&one, 1).await;
    let got = two.get(PATH).await;
    // A read from Redis may take 50 ms; if it took longer, the sidecar collected.
    let is_from_redis = cache_status(&got).ends_with("detail=redis");
    let faults =
        two.metric("bfb_redis_faults_total", &[("kind", "slow")]).await.unwrap_or_default();
    assert!(is_from_redis || faults > 0.0, "{}", cache_status(&got));
    // The cached dataset is too old: the sidecar claims the key before it collects, though no time
    // can be spared.
    let got = get_with_cache_control(&two, "max-age=1").await;
    assert_eq!(got.text(), r#"{"part":{"n":2}}"#);
    let missed = two.metric("bfb_claims_missed_total", &[]).await.unwrap();
    let faults =
        two.metric("bfb_redis_faults_total", &[("kind", "slow")]).await.unwrap_or_default();
    assert!(missed == 0.0 || faults > 0.0, "collected without a claim");
}
