//! The webhook's port beside a crowd: pods are created all the same.

use std::time::Duration;

use crate::support::apiserver::Apiserver;
use crate::support::crowd::{Crowd, Script};
use crate::support::webhook::{Webhook, creation};

const REVIEWS: usize = 20;
/// How long an API server may wait before it delays a pod.
const REVIEW_MAX: Duration = Duration::from_secs(3);

async fn reviews_beside(script: Script) {
    let server = Apiserver::start().await;
    server.namespace("shop", &serde_json::json!({}));
    let webhook = Webhook::ready(&server, &[]).await;
    let request = creation("shop", &serde_json::json!({}));
    let _crowd = Crowd::at(webhook.address, &[script]).await;
    let mut failed = Vec::new();
    for _ in 0..REVIEWS {
        match tokio::time::timeout(REVIEW_MAX, webhook.admit(&server, &request)).await {
            Ok(Ok(_)) => {}
            Ok(Err(why)) => failed.push(why),
            Err(_) => failed.push("too late".to_owned()),
        }
    }
    assert!(failed.is_empty(), "{} of {REVIEWS} reviews failed: {failed:?}", failed.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reviews_are_answered_beside_connections_without_a_handshake() {
    reviews_beside(Script::new("", "")).await;
}

/// A `ClientHello` (RFC 8446 section 5.1) that arrives a byte now and then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reviews_are_answered_beside_handshakes_that_never_end() {
    reviews_beside(Script::new(*b"\x16\x03\x01\x10\x00\x01\x00\x0f\xfc", "x")).await;
}
