//! Hostile reviews, of any size and number: the webhook stays within its memory limit, and ordinary
//! pods get their sidecars meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::support::apiserver::Apiserver;
use crate::support::client::{ClientRequest, HttpVersion, TEST_TIMEOUT};
use crate::support::webhook::{
    Webhook, connect, connect_raw, creation, patch, post, trust_any_certificate,
};

/// The memory limit of `k8s/base/deployment.yaml`, less an eighth.
const LIMIT_KIB: u64 = 256 * 1024 / 8 * 7;

/// A review with this timeout of the API server.
fn within(time: &str, request: &Value) -> ClientRequest {
    let review =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    let uri = format!("/mutate?timeout={time}");
    let request = Request::builder().method(Method::POST).uri(uri).header(HOST, "localhost");
    request
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(review.to_string().into()))
        .unwrap()
}

/// A pod of about three megabytes.
fn megabytes() -> Value {
    let mut pod =
        creation("shop", &json!({"bfb.dev/inject": "customer", "bfb.dev/unix-socket": "true"}));
    let variables =
        vec![json!({"name": "A_VARIABLE_OF_SOME_LENGTH", "value": "x".repeat(450)}); 6_000];
    pod["object"]["spec"]["containers"][0]["env"] = json!(variables);
    assert!((2_900_000..3_100_000).contains(&pod.to_string().len()), "{}", pod.to_string().len());
    pod
}

/// A pod of some hundred kilobytes, like the largest ordinary ones.
fn honest() -> Value {
    let mut pod =
        creation("shop", &json!({"bfb.dev/inject": "customer", "note": "{".repeat(1000)}));
    let variables = vec![json!({"name": "A_VARIABLE", "value": "x".repeat(100)}); 2_000];
    pod["object"]["spec"]["containers"][0]["env"] = json!(variables);
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_pods_of_megabytes_at_once_hold_up_no_other_and_fit_into_the_manifests_limit() {
    let server = Apiserver::start().await;
    let webhook = Arc::new(Webhook::ready(&server, &[]).await);
    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicBool::new(false));
    let large: Vec<_> = (0..10)
        .map(|_| {
            let webhook = webhook.clone();
            let over = over.clone();
            let answered = answered.clone();
            tokio::spawn(async move {
                let pod = megabytes();
                while !over.load(Ordering::SeqCst) {
                    let got = webhook.send(HttpVersion::Http2, within("30s", &pod)).await;
                    assert!(matches!(got.status, 200 | 429), "{} {}", got.status, got.text());
                    answered.fetch_or(got.status == 200, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let honest = honest();
    let mut peak = 0;
    for _ in 0..12 {
        let admitted = webhook.admit(&server, &honest).await.unwrap();
        assert!(patch(&admitted).to_string().contains("bfb-domain-customer"));
        peak = peak.max(webhook.resident_kib());
    }
    over.store(true, Ordering::SeqCst);
    for task in large {
        task.await.unwrap();
    }
    assert!(answered.load(Ordering::SeqCst), "a large pod is decided on as well");
    assert!(peak.max(webhook.resident_kib()) < LIMIT_KIB, "{peak} KiB resident");
    assert_eq!(
        webhook.metric("bfb_webhook_admissions_total", &[("outcome", "refused")]).await,
        Some(0.0)
    );
}

#[tokio::test]
async fn a_socket_for_twenty_thousand_containers_is_written_within_the_limit() {
    let server = Apiserver::start().await;
    let webhook = Webhook::ready(&server, &[]).await;
    let mut pod =
        creation("shop", &json!({"bfb.dev/inject": "customer", "bfb.dev/unix-socket": "true"}));
    let containers: Vec<_> =
        (0..20_000).map(|nth| json!({"name": format!("c{nth}"), "image": "x"})).collect();
    pod["object"]["spec"]["containers"] = json!(containers);
    let got = webhook.send(HttpVersion::Http2, within("30s", &pod)).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert!(patch(&got.json()["response"]).as_array().unwrap().len() > 20_000);
    assert!(webhook.resident_kib() < LIMIT_KIB, "{} KiB resident", webhook.resident_kib());
}

#[tokio::test]
async fn a_review_that_grows_a_hundred_times_as_it_is_read_is_refused_before_it_is() {
    let server = Apiserver::start().await;
    let webhook = Webhook::ready(&server, &[]).await;
    let before = webhook.resident_kib();
    let mut pod =
        creation("shop", &json!({"bfb.dev/inject": "customer", "bfb.dev/unix-socket": "true"}));
    for grows in [json!(vec![json!({}); 1_000_000]), json!(vec![json!({"a": 1}); 350_000])] {
        pod["object"]["spec"]["containers"] = grows;
        let got = webhook.send(HttpVersion::Http2, post(&pod)).await;
        assert_eq!(got.status, 413, "{}", got.text());
        assert!(got.text().contains("MiB once it is read; expected at most"), "{}", got.text());
    }
    let grown = webhook.resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB more");
}

#[tokio::test]
async fn filters_that_would_be_slow_patterns_hold_up_nobody() {
    let server = Apiserver::start().await;
    let webhook = Webhook::ready(&server, &[]).await;
    let pattern = format!("[{{a=(0|1)*1{}}}]=info", "(0|1)".repeat(26));
    let hostile = creation("shop", &json!({"bfb.dev/inject": "customer", "bfb.dev/log": pattern}));
    let blank =
        creation("shop", &json!({"bfb.dev/inject": "customer", "bfb.dev/log": "\u{3000}bfb=info"}));
    let honest = creation("shop", &json!({"bfb.dev/inject": "customer"}));
    let asked = [&hostile, &blank, &honest].repeat(10);
    for admitted in join_all(asked.iter().map(|pod| webhook.admit(&server, pod))).await {
        assert!(patch(&admitted.unwrap()).to_string().contains("bfb-domain-customer"));
    }
    assert!(webhook.resident_kib() < LIMIT_KIB / 2, "{} KiB resident", webhook.resident_kib());
}

#[tokio::test]
async fn large_bodies_that_never_arrive_turn_away_large_ones_only() {
    let server = Apiserver::start().await;
    let webhook = Webhook::ready(&server, &[]).await;
    let head = "POST /mutate?timeout=30s HTTP/1.1\r\nhost: localhost\r\n\
                content-type: application/json\r\ncontent-length: 3145728\r\n\r\n{";
    let mut open =
        join_all((0..32).map(|_| connect_raw(webhook.address, trust_any_certificate()))).await;
    for stream in &mut open {
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
    let large = megabytes();
    let small = creation("shop", &json!({"bfb.dev/inject": "customer"}));
    let turned_away = async {
        loop {
            let got = webhook.send(HttpVersion::Http2, within("600ms", &large)).await;
            if got.status == 429 {
                return got;
            }
            assert_eq!(got.status, 200, "{}", got.text());
        }
    };
    let got = tokio::time::timeout(TEST_TIMEOUT, turned_away).await.unwrap();
    assert!(
        got.text().contains("all the memory that they may") && got.headers["retry-after"] == "1",
        "{}",
        got.text()
    );
    webhook.admit(&server, &small).await.unwrap();
    assert!(webhook.metric("bfb_webhook_overloaded_total", &[]).await.unwrap() >= 1.0);
    drop(open);
    let taken = async {
        while webhook.send(HttpVersion::Http2, within("30s", &large)).await.status != 200 {}
    };
    assert!(tokio::time::timeout(TEST_TIMEOUT, taken).await.is_ok(), "{}", webhook.log());
}

#[tokio::test]
async fn bodies_that_only_say_that_they_are_long_hold_no_memory() {
    let server = Apiserver::start().await;
    let webhook = Webhook::ready(&server, &[]).await;
    let head = "POST /mutate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 500000\r\n\r\n{";
    let mut open =
        join_all((0..256).map(|_| connect_raw(webhook.address, trust_any_certificate()))).await;
    for stream in &mut open {
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
    let small = creation("shop", &json!({"bfb.dev/inject": "customer"}));
    let mut connection =
        connect(webhook.address, trust_any_certificate(), HttpVersion::Http2).await.unwrap();
    for _ in 0..20 {
        let got = connection.send(within("1s", &small)).await.unwrap();
        assert_eq!(got.status, 200, "{}", got.text());
    }
    assert_eq!(webhook.metric("bfb_webhook_overloaded_total", &[]).await, Some(0.0));
    drop(open);
}
