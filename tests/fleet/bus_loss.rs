//! `--bus-loss`: the directives of a request apply without the lease too, and a start is over only
//! once the lease is held.

use super::{PATH, member, until_lease};
use crate::cache::{cache_status, counting, get_with_cache_control};
use crate::support::redis::Redis;
use crate::support::upstream::Upstream;

#[tokio::test]
async fn what_stands_in_for_a_lost_bus_is_no_older_than_the_request_allows() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    let sidecar = member(&redis, &upstream, &["--bus-loss", "stale", "--lease", "300ms"]).await;
    until_lease(&sidecar, true).await;
    while cache_status(&sidecar.get(PATH).await) != "bfb; fwd=miss; stored" {
        // The machine may have been busy for a whole lease.
        until_lease(&sidecar, true).await;
    }
    drop(redis);
    until_lease(&sidecar, false).await;
    let stale = sidecar.get(PATH).await;
    assert!(cache_status(&stale).ends_with("; detail=bus-lost"), "{}", cache_status(&stale));
    assert!(
        cache_status(&get_with_cache_control(&sidecar, "max-age=3600").await)
            .ends_with("; detail=bus-lost")
    );
    let requests = upstream.received().len();
    get_with_cache_control(&sidecar, "only-if-cached, max-age=0").await.problem("not-cached", 504);
    assert_eq!(upstream.received().len(), requests);
    assert_eq!(
        cache_status(&get_with_cache_control(&sidecar, "max-age=0").await),
        "bfb; fwd=bypass"
    );
    assert_eq!(upstream.received().len(), requests + 1);
}

#[tokio::test]
async fn a_sidecar_that_fails_without_the_lease_is_not_ready_before_it_holds_it() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    for nth in 0..10 {
        // Returns as soon as `/readyz` answers 200.
        let sidecar = member(&redis, &upstream, &["--bus-loss", "fail", "--lease", "30s"]).await;
        let got = sidecar.get(PATH).await;
        assert_eq!(got.status, 200, "start {nth}: {}", got.text());
    }
}

#[tokio::test]
async fn a_domain_that_comes_with_a_reload_is_answered_once_its_lease_is_held() {
    let (redis, upstream) = (Redis::start(), Upstream::plain().await);
    counting(&upstream, "/42");
    let sidecar = member(&redis, &upstream, &["--bus-loss", "fail", "--lease", "30s"]).await;
    let text = crate::cache::file(&upstream, "{ttl: 60s}").text();
    for nth in 0..5 {
        let name = format!("other{nth}");
        sidecar.replace(&name, &text.replace("customer", &name));
        sidecar.signal("HUP");
        sidecar.logged_times("have changed and are in force", nth + 1).await;
        let got = sidecar.get(&format!("/v2/{name}s/42")).await;
        assert_eq!(got.status, 200, "domain {nth}: {}", got.text());
    }
}

#[tokio::test]
async fn a_redis_that_is_away_keeps_no_pod_from_becoming_ready() {
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    redis.pause();
    let sidecar = member(&redis, &upstream, &["--bus-loss", "fail"]).await;
    sidecar.get(PATH).await.problem("bus-lost", 503);
}
