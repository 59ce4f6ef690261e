//! One read: a key that nobody has is collected once in the whole fleet, and a holder that dies is taken over.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{PATH, fleet, invalidate, n};
use crate::cache::how;
use crate::support::client::Http;
use crate::support::upstream::Reply;

#[tokio::test]
async fn a_cold_key_is_collected_once_for_the_fleet() {
    let (_redis, upstream, members) = fleet(4, &[]).await;
    upstream.answers("/42", [Reply::json("1").after(Duration::from_millis(700))]);
    let answers = join_all(members.iter().flat_map(|member| (0..10).map(|_| member.get(PATH)))).await;
    let datasets: std::collections::BTreeSet<_> = answers.iter().map(|got| got.header("bfb-dataset")).collect();
    assert!(answers.iter().all(|got| got.status == 200));
    assert_eq!((datasets.len(), upstream.seen().len()), (1, 1));
}

#[tokio::test]
async fn a_holder_that_dies_is_taken_over() {
    let (_redis, upstream, mut members) = fleet(3, &[]).await;
    upstream.answers("/42", [Reply::never(), Reply::json("1")]);
    let leader = members.remove(0);
    let (mut consumer, path) = (leader.consumer(Http::One), PATH);
    let asked = tokio::spawn(async move { consumer.get(path).await });
    upstream.requests(1).await;
    let killed = Instant::now();
    let (answers, ()) = tokio::join!(join_all(members.iter().map(|member| member.get(PATH))), async {
        leader.signal("KILL");
        assert!(asked.await.unwrap().is_err(), "its consumer lost its sidecar");
    });
    assert!(answers.iter().all(|got| got.text() == r#"{"part":1}"#), "{answers:?}");
    assert_eq!(upstream.seen().len(), 2, "the one that died, and once more");
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
}

#[tokio::test]
async fn sources_that_fail_do_not_make_the_fleet_wait_in_line() {
    let (_redis, upstream, members) = fleet(4, &[]).await;
    upstream.answers("/42", [Reply::status(500).after(Duration::from_millis(300))]);
    let began = Instant::now();
    for got in join_all(members.iter().map(|member| member.get(PATH))).await {
        got.problem("source-failed", 502);
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(upstream.seen().len() <= members.len());
}

#[tokio::test]
async fn what_is_invalidated_while_another_collects_it_is_collected_anew() {
    let (_redis, upstream, members) = fleet(2, &[]).await;
    upstream.answers("/42", [Reply::json("{\"n\":1}").after(Duration::from_secs(3)), Reply::json("{\"n\":2}")]);
    let (old, ()) = tokio::join!(members[0].get(PATH), async {
        upstream.requests(1).await;
        invalidate(&members[1], "fleet").await;
        for member in &members {
            let got = member.get(PATH).await;
            assert_eq!(n(got.text()), 2, "{}", how(&got));
        }
    });
    assert_eq!((n(old.text()), how(&old)), (1, "bfb; fwd=miss"));
    assert_eq!(upstream.seen().len(), 2);
}
