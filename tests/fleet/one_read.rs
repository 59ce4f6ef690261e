//! One read: a key that no tier holds is collected once in the whole fleet, and the claim of a dead
//! holder is taken over.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use super::{PATH, fleet, invalidate, n};
use crate::cache::cache_status;
use crate::support::claims::OneRead;
use crate::support::client::HttpVersion;
use crate::support::upstream::Reply;

/// Longer than a busy machine pauses a sidecar: without the lease each collects for itself.
const LONG: [&str; 2] = ["--lease", "30s"];

#[tokio::test]
async fn a_cold_key_is_collected_once_for_the_fleet() {
    let (redis, upstream, members) = fleet(4, &LONG).await;
    let gate = watch::Sender::new(false);
    upstream.answers("/42", [Reply::json("1").held_until(gate.subscribe())]);
    let reads = OneRead::of(&redis, &members).await;
    let all = join_all(members.iter().flat_map(|member| (0..10).map(|_| member.get(PATH))));
    let (answers, ()) = tokio::join!(all, async {
        join_all(members.iter().map(|member| member.until_joined(9.0))).await;
        gate.send_replace(true);
    });
    let datasets: std::collections::BTreeSet<_> =
        answers.iter().map(|got| got.header("bfb-dataset")).collect();
    assert!(answers.iter().all(|got| got.status == 200));
    let requests = upstream.received().len();
    assert!(datasets.len() <= requests, "{datasets:?} of {requests} reads");
    reads.assert(requests, &redis, &members, None).await;
}

#[tokio::test]
async fn a_holder_that_dies_is_taken_over() {
    let (redis, upstream, members) = fleet(3, &LONG).await;
    upstream.answers("/42", [Reply::never(), Reply::json("1")]);
    let reads = OneRead::of(&redis, &members).await;
    let (leader, others) = members.split_first().unwrap();
    let (mut consumer, path) = (leader.consumer(HttpVersion::Http1), PATH);
    let response = tokio::spawn(async move { consumer.get(path).await });
    upstream.requests(1).await;
    let (answers, ()) =
        tokio::join!(join_all(others.iter().map(|member| member.get(PATH))), async {
            leader.signal("KILL");
            assert!(response.await.unwrap().is_err(), "its consumer lost its sidecar");
        });
    assert!(answers.iter().all(|got| got.text() == r#"{"part":1}"#), "{answers:?}");
    let response = upstream.received().len();
    assert!(response >= 2, "the one that died, and once more");
    reads.assert(response, &redis, &members, Some(0)).await;
}

#[tokio::test]
async fn sources_that_fail_do_not_make_the_fleet_wait_in_line() {
    let (_redis, upstream, members) = fleet(4, &[]).await;
    upstream.answers("/42", [Reply::status(500).after(Duration::from_millis(300))]);
    for got in join_all(members.iter().map(|member| member.get(PATH))).await {
        got.problem("source-failed", 502);
    }
    assert!(upstream.received().len() <= members.len());
}

#[tokio::test]
async fn what_is_invalidated_while_another_collects_it_is_collected_anew() {
    let (_redis, upstream, members) = fleet(2, &[]).await;
    let gate = watch::Sender::new(false);
    upstream.answers(
        "/42",
        [Reply::json("{\"n\":1}").held_until(gate.subscribe()), Reply::json("{\"n\":2}")],
    );
    let (old, ()) = tokio::join!(members[0].get(PATH), async {
        upstream.requests(1).await;
        invalidate(&members[1], "fleet").await;
        for member in &members {
            let got = member.get(PATH).await;
            assert_eq!(n(got.text()), 2, "{}", cache_status(&got));
        }
        gate.send_replace(true);
    });
    assert_eq!((n(old.text()), cache_status(&old)), (1, "bfb; fwd=miss"));
    assert_eq!(upstream.received().len(), 2);
}
