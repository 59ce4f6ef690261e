//! The lifetime of cache entries: the domain file in force decides, at each read.

use super::{PATH, cache_status, counting, file, over_one, with_memory};
use crate::support::domain::DomainFile;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Reply, Upstream};

/// Puts another `cache:` section in force.
async fn reload(sidecar: &Sidecar, domain: &DomainFile, times: usize) {
    sidecar.replace("customer", &domain.text());
    sidecar.logged_times("have changed and are in force", times).await;
}

#[tokio::test]
async fn a_ttl_that_was_lowered_holds_for_what_is_kept_already() {
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    let sidecar = with_memory(&file(&upstream, "{ttl: 60s}")).start().await;
    sidecar.get(PATH).await.dataset();
    assert!(cache_status(&sidecar.get(PATH).await).starts_with("bfb; hit;"));
    reload(&sidecar, &file(&upstream, "{ttl: 1ms}"), 1).await;
    assert_eq!(sidecar.get(PATH).await.text(), r#"{"part":{"n":2}}"#);
    reload(&sidecar, &file(&upstream, "{ttl: 60s}"), 2).await;
    assert_eq!(sidecar.get(PATH).await.text(), r#"{"part":{"n":3}}"#, "it was kept for 1 ms");
    reload(&sidecar, &file(&upstream, "{ttl: 0s, stale_if_error: 1h}"), 3).await;
    let got = sidecar.get(PATH).await;
    assert_eq!((got.text(), cache_status(&got)), (r#"{"part":{"n":4}}"#, "bfb; fwd=bypass"));
    upstream.answers("/42", [Reply::status(500)]);
    sidecar.get(PATH).await.problem("source-failed", 502);
}

#[tokio::test]
async fn a_missing_ttl_that_was_lowered_holds_for_what_is_kept_already() {
    let upstream = Upstream::plain().await;
    upstream.answers("/42", [Reply::status(404), Reply::json("1")]);
    let domain = |cache: &str| {
        let head = format!("cache: {cache}");
        DomainFile::of("customer").head(&head).source(
            "part",
            &upstream,
            "/{key}",
            &["missing: not-found"],
        )
    };
    let sidecar = with_memory(&domain("{ttl: 60s, missing_ttl: 60s}")).start().await;
    for _ in 0..2 {
        sidecar.get(PATH).await.problem("not-found", 404);
    }
    assert_eq!(upstream.received().len(), 1);
    reload(&sidecar, &domain("{ttl: 60s, missing_ttl: 1ms}"), 1).await;
    assert_eq!(sidecar.get(PATH).await.text(), r#"{"part":1}"#);
}

#[tokio::test]
async fn that_there_is_no_such_dataset_does_not_stand_in_for_failing_sources() {
    let upstream = Upstream::plain().await;
    upstream.answers("/42", [Reply::status(404), Reply::status(500)]);
    let domain = DomainFile::of("customer")
        .head("cache: {ttl: 60s, missing_ttl: 1ms, stale_if_error: 1h}")
        .source("part", &upstream, "/{key}", &["missing: not-found", "retries: 0"]);
    let sidecar = with_memory(&domain).start().await;
    sidecar.get(PATH).await.problem("not-found", 404);
    sidecar.get(PATH).await.problem("source-failed", 502);
}

#[tokio::test]
async fn what_is_older_never_replaces_what_is_newer() {
    let (sidecar, upstream) = over_one("{ttl: 60s}").await;
    let gate = tokio::sync::watch::Sender::new(false);
    upstream.answers("/42", [Reply::json("1").held_until(gate.subscribe()), Reply::json("2")]);
    let (slow, newer) = tokio::join!(sidecar.get(PATH), async {
        upstream.requests(1).await;
        let wish = crate::support::client::with_header(
            crate::support::client::get(PATH),
            "cache-control",
            "no-cache",
        );
        let newer = sidecar.send(wish).await;
        gate.send_replace(true);
        newer
    });
    assert_eq!((slow.text(), newer.text()), (r#"{"part":1}"#, r#"{"part":2}"#));
    let got = sidecar.get(PATH).await;
    assert_eq!(got.text(), r#"{"part":2}"#, "{}", cache_status(&got));
}
