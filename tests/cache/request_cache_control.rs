//! The `Cache-Control` of requests, and datasets that are served beyond their ttl.

use super::{PATH, cache_status, counting, get_with_cache_control, over_one};
use crate::support::upstream::Reply;

#[tokio::test]
async fn no_cache_asks_the_source_again_by_its_validator() {
    let (sidecar, upstream) = over_one("{ttl: 60s}").await;
    upstream.answers(
        "/42",
        [Reply::json("1").etag("\"a\""), Reply::status(304), Reply::json("2").etag("\"b\"")],
    );
    let first = sidecar.get(PATH).await;
    let same = get_with_cache_control(&sidecar, "no-cache").await;
    assert_eq!((same.text(), cache_status(&same)), (r#"{"part":1}"#, "bfb; fwd=request; stored"));
    assert_eq!(upstream.received()[1].header("if-none-match"), "\"a\"");
    assert_eq!(upstream.received()[1].header("cache-control"), "no-cache");
    assert_ne!(first.header("bfb-dataset"), same.header("bfb-dataset"), "it was collected anew");
    assert_eq!(get_with_cache_control(&sidecar, "no-cache").await.text(), r#"{"part":2}"#);
    assert_eq!(sidecar.get(PATH).await.text(), r#"{"part":2}"#);
}

#[tokio::test]
async fn only_if_cached_never_asks_a_source() {
    let (sidecar, upstream) = over_one("{ttl: 60s}").await;
    counting(&upstream, "/42");
    get_with_cache_control(&sidecar, "only-if-cached").await.problem("not-cached", 504);
    assert_eq!(upstream.received().len(), 0);
    sidecar.get(PATH).await;
    assert!(
        cache_status(&get_with_cache_control(&sidecar, "only-if-cached").await)
            .starts_with("bfb; hit;")
    );
    get_with_cache_control(&sidecar, "only-if-cached, no-cache").await.problem("not-cached", 504);
}

#[tokio::test]
async fn no_store_keeps_nothing_but_may_hit() {
    let (sidecar, upstream) = over_one("{ttl: 60s}").await;
    counting(&upstream, "/42");
    assert_eq!(cache_status(&get_with_cache_control(&sidecar, "no-store").await), "bfb; fwd=miss");
    assert_eq!(cache_status(&sidecar.get(PATH).await), "bfb; fwd=miss; stored");
    assert!(
        cache_status(&get_with_cache_control(&sidecar, "no-store").await).starts_with("bfb; hit;")
    );
}

#[tokio::test]
async fn max_age_asks_for_nothing_older() {
    let (sidecar, upstream) = over_one("{ttl: 60s}").await;
    counting(&upstream, "/42");
    sidecar.get(PATH).await;
    assert!(
        cache_status(&get_with_cache_control(&sidecar, "max-age=60").await)
            .starts_with("bfb; hit;")
    );
    assert_eq!(
        cache_status(&get_with_cache_control(&sidecar, "max-age=0").await),
        "bfb; fwd=request; stored"
    );
}

#[tokio::test]
async fn a_missing_dataset_is_remembered_until_it_is_invalidated() {
    let upstream = crate::support::upstream::Upstream::plain().await;
    upstream.answers("/42", [Reply::status(404), Reply::json("1")]);
    let domain = crate::support::domain::DomainFile::of("customer")
        .head("cache: {missing_ttl: 60s}")
        .source("part", &upstream, "/{key}", &["missing: not-found"]);
    let sidecar = super::with_memory(&domain).start().await;
    for _ in 0..3 {
        sidecar.get(PATH).await.problem("not-found", 404);
    }
    assert_eq!(upstream.received().len(), 1);
    super::invalidate(&sidecar, "keys", &serde_json::json!(["42"])).await;
    assert_eq!(sidecar.get(PATH).await.text(), r#"{"part":1}"#);
}

#[tokio::test]
async fn an_expired_dataset_stands_in_for_failing_sources_but_an_invalidated_one_never() {
    let (sidecar, upstream) = over_one("{ttl: 1ms, stale_if_error: 60s}").await;
    upstream.answers("/42", [Reply::json("1"), Reply::status(500)]);
    assert_eq!(sidecar.get(PATH).await.status, 200);
    let stale = sidecar.get(PATH).await;
    assert_eq!(stale.text(), r#"{"part":1}"#);
    // The ttl is negative: the whole seconds since it expired.
    let ttl = cache_status(&stale)
        .strip_prefix("bfb; hit; ttl=-")
        .and_then(|rest| rest.strip_suffix("; detail=source-failed"));
    assert!(
        ttl.is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|seconds| seconds > 0)),
        "{}",
        cache_status(&stale)
    );
    get_with_cache_control(&sidecar, "no-cache").await.problem("source-failed", 502);
    super::invalidate(&sidecar, "keys", &serde_json::json!(["42"])).await;
    sidecar.get(PATH).await.problem("source-failed", 502);
}
