//! One read: however many callers ask for a key at once, each source gets one request.

use tokio::sync::watch;

use super::{PATH, cache_status, counting, file, over_one, with_memory};
use crate::support::client::{Connection, Endpoint, HttpVersion, get};
use crate::support::sidecar::Setup;
use crate::support::upstream::{Reply, Upstream};

#[tokio::test]
async fn a_second_read_is_a_hit_from_memory() {
    let (sidecar, upstream) = over_one("{ttl: 60s}").await;
    counting(&upstream, "/42");
    let first = sidecar.get(PATH).await;
    assert_eq!(cache_status(&first), "bfb; fwd=miss; stored");
    let second = sidecar.get(PATH).await;
    let ttl: u64 = cache_status(&second)
        .strip_prefix("bfb; hit; ttl=")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        cache_status(&second).ends_with("; detail=memory") && (30..=60).contains(&ttl),
        "{}",
        cache_status(&second)
    );
    assert_eq!((first.dataset(), first.header("etag")), (second.dataset(), second.header("etag")));
    assert_eq!(first.header("bfb-dataset"), second.header("bfb-dataset"));
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn versions_of_a_key_are_rendered_from_one_dataset() {
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    let domain = file(&upstream, "{ttl: 60s}")
        .version("v1", &["path: '/v1/customers/{key}'", "shape: '{m: .part.n}'"])
        .version("v2", &["path: '/v2/customers/{key}'"]);
    let sidecar = with_memory(&domain).start().await;
    let (old, new) = (sidecar.get("/v1/customers/42").await, sidecar.get(PATH).await);
    assert_eq!(old.header("bfb-dataset"), new.header("bfb-dataset"));
    assert_eq!((old.text(), new.text()), (r#"{"m":1}"#, r#"{"part":{"n":1}}"#));
    // The rendered version is kept as well.
    assert_eq!(sidecar.get("/v1/customers/42").await.text(), r#"{"m":1}"#);
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn a_stampede_reads_the_source_once() {
    let (sidecar, upstream) = over_one("{ttl: 60s}").await;
    let gate = watch::Sender::new(false);
    upstream.answers("/42", [Reply::json("1").held_until(gate.subscribe())]);
    let asks = (0..50).map(|_| sidecar.get(PATH));
    let (answers, ()) = tokio::join!(futures_util::future::join_all(asks), async {
        sidecar.until_joined(49.0).await;
        gate.send_replace(true);
    });
    let datasets: std::collections::BTreeSet<_> =
        answers.iter().map(|got| got.header("bfb-dataset")).collect();
    assert_eq!((datasets.len(), upstream.received().len()), (1, 1));
    assert!(answers.iter().all(|got| got.status == 200));
    assert!(answers.iter().any(|got| cache_status(got) == "bfb; fwd=miss; collapsed"));
}

#[tokio::test]
async fn a_leader_that_goes_away_strands_nobody() {
    let (sidecar, upstream) = over_one("{ttl: 60s}").await;
    let gate = watch::Sender::new(false);
    upstream.answers("/42", [Reply::json("1").held_until(gate.subscribe())]);
    let to = Endpoint::Tcp(sidecar.listen());
    let leader = tokio::spawn(async move {
        let mut connection = Connection::open(&to, HttpVersion::Http1).await.unwrap();
        let _ = connection.send(get(PATH)).await;
    });
    upstream.requests(1).await;
    leader.abort();
    let _ = leader.await;
    let (joined, ()) = tokio::join!(sidecar.get(PATH), async {
        sidecar.until_joined(1.0).await;
        gate.send_replace(true);
    });
    assert_eq!(
        (joined.text(), cache_status(&joined)),
        (r#"{"part":1}"#, "bfb; fwd=miss; collapsed")
    );
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn a_failure_is_told_to_all_who_waited_and_kept_for_nobody() {
    let (sidecar, upstream) = over_one("{ttl: 60s}").await;
    let gate = watch::Sender::new(false);
    upstream.answers("/42", [Reply::status(500).held_until(gate.subscribe()), Reply::json("1")]);
    let (answers, ()) =
        tokio::join!(futures_util::future::join_all((0..5).map(|_| sidecar.get(PATH))), async {
            sidecar.until_joined(4.0).await;
            gate.send_replace(true);
        });
    for got in &answers {
        assert_eq!(
            got.failed_sources("source-failed", 502),
            [("part".to_owned(), "status".to_owned())]
        );
    }
    assert_eq!(sidecar.get(PATH).await.text(), r#"{"part":1}"#);
}

#[tokio::test]
async fn memory_is_bounded_and_says_so() {
    let upstream = Upstream::plain().await;
    let body = format!("\"{}\"", "x".repeat(4096));
    for key in 0..100 {
        upstream.answers(&format!("/{key}"), [Reply::json(body.clone())]);
    }
    let domain = file(&upstream, "{ttl: 60s}");
    let sidecar = Setup::of(&[&domain]).insecure().args(&["--memory", "64KiB"]).start().await;
    for key in 0..100 {
        assert_eq!(sidecar.get(&format!("/v2/customers/{key}")).await.status, 200);
    }
    let evicted = || async {
        sidecar.metric("bfb_cache_evictions_total", &[]).await.unwrap_or_default() > 0.0
    };
    let bounded = || async {
        sidecar.admin("/status").await.json()["memory"]["bytes"].as_u64().unwrap() <= 64 * 1024
    };
    let mut settled = false;
    for key in (0..100).cycle().take(1000) {
        sidecar.get(&format!("/v2/customers/{key}")).await;
        settled = evicted().await && bounded().await;
        if settled {
            break;
        }
    }
    assert!(settled, "memory did not come down to its bound");
}

#[tokio::test]
async fn with_no_cache_every_read_collects() {
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    let domain = file(&upstream, "{ttl: 60s}");
    let sidecar = with_memory(&domain).arg("--no-cache").start().await;
    for n in 1..=3 {
        let got = sidecar.get(PATH).await;
        assert_eq!(
            (got.text(), cache_status(&got)),
            (format!("{{\"part\":{{\"n\":{n}}}}}").as_str(), "bfb; fwd=bypass")
        );
    }
}

#[tokio::test]
async fn a_new_plan_keeps_datasets_of_its_own_and_a_new_shape_does_not_collect() {
    let upstream = Upstream::plain().await;
    counting(&upstream, "/42");
    let shaped = |shape: &str| {
        file(&upstream, "{ttl: 60s}")
            .version("v2", &["path: '/v2/customers/{key}'", &format!("shape: '{shape}'")])
    };
    let sidecar = with_memory(&shaped(".part.n")).start().await;
    assert_eq!(sidecar.get(PATH).await.text(), "1");
    sidecar.replace("customer", &shaped("[.part.n]").text());
    sidecar.logged_times("have changed and are in force", 1).await;
    assert_eq!(sidecar.get(PATH).await.text(), "[1]");
    let tagged = file(&upstream, "{ttl: 60s, tags: '[\"t\"]'}");
    sidecar.replace("customer", &tagged.text());
    sidecar.logged_times("have changed and are in force", 2).await;
    assert_eq!(sidecar.get(PATH).await.text(), r#"{"part":{"n":2}}"#);
}
