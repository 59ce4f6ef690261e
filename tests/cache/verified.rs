//! `--verify`: a share of the hits is compared with the sources, and wrong answers are told apart
//! from those whose invalidation is still on its way.

use serde_json::{Value, json};

use super::{PATH, file, invalidate, with_memory};
use crate::support::client::TEST_TIMEOUT;
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Reply, Upstream};

async fn verifying(replies: &[Reply]) -> (Sidecar, Upstream) {
    let upstream = Upstream::plain().await;
    upstream.answers("/42", replies.to_vec());
    let domain = file(&upstream, "{ttl: 60s}");
    (with_memory(&domain).args(&["--verify", "100%"]).start().await, upstream)
}

/// The counters, once so many samples were compared.
async fn shown(sidecar: &Sidecar, looked: u64) -> Value {
    let reached = async {
        loop {
            let verify = sidecar.admin("/status").await.json()["verify"].clone();
            if verify["checked"].as_u64().unwrap() + verify["unknown"].as_u64().unwrap() >= looked {
                return verify;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, reached).await.unwrap()
}

#[tokio::test]
async fn hits_that_the_source_confirms_are_right() {
    let (sidecar, upstream) = verifying(&[Reply::json("1").etag("\"a\"")]).await;
    for _ in 0..10 {
        sidecar.get(PATH).await.dataset();
    }
    let verify = shown(&sidecar, 9).await;
    assert_eq!((&verify["checked"], &verify["wrong"]), (&json!(9), &json!(0)));
    assert!((verify["nines"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{verify}");
    assert!(
        upstream.received()[1..].iter().all(|request| request.header("if-none-match") == "\"a\"")
    );
}

#[tokio::test]
async fn a_change_that_nobody_told_of_is_a_wrong_answer() {
    let (sidecar, _upstream) = verifying(&[Reply::json("1"), Reply::json("2")]).await;
    for _ in 0..2 {
        sidecar.get(PATH).await.dataset();
    }
    let verify = shown(&sidecar, 1).await;
    assert_eq!((&verify["checked"], &verify["wrong"]), (&json!(1), &json!(1)), "{verify}");
    assert!(verify["oldest_wrong_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(sidecar.metric("bfb_verify_wrong_total", &[]).await, Some(1.0));
    sidecar.logged("a wrong answer was served").await;
}

#[tokio::test]
async fn a_change_whose_invalidation_comes_is_none() {
    let (sidecar, upstream) = verifying(&[Reply::json("1"), Reply::json("2")]).await;
    for _ in 0..2 {
        sidecar.get(PATH).await.dataset();
    }
    upstream.requests(2).await;
    invalidate(&sidecar, "keys", &json!(["42"])).await;
    let verify = shown(&sidecar, 1).await;
    assert_eq!((&verify["checked"], &verify["wrong"]), (&json!(1), &json!(0)), "{verify}");
}

#[tokio::test]
async fn sources_that_fail_prove_nothing() {
    let (sidecar, _upstream) = verifying(&[Reply::json("1"), Reply::status(500)]).await;
    for _ in 0..2 {
        sidecar.get(PATH).await.dataset();
    }
    let verify = shown(&sidecar, 1).await;
    assert_eq!((&verify["unknown"], &verify["checked"]), (&json!(1), &json!(0)), "{verify}");
}
