//! Admission reviews and their responses.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::apiserver::Apiserver;
use crate::support::client::{HttpVersion, ask, get, with_header};
use crate::support::webhook::{
    Webhook, connect, creation, patch, post, posted, trust_any_certificate,
};

/// A response without its `uid`.
fn without_uid(mut response: Value) -> Value {
    assert_eq!(response["uid"].take(), "705ab4f5-6393-11e8-b7cc-42010a800002");
    response
}

#[tokio::test]
async fn pods_that_ask_are_patched_and_others_are_not() {
    let server = Apiserver::start().await;
    server.namespace("labelled", &json!({"bfb.dev/inject": "customer.orders"}));
    server.namespace("opted-out", &json!({"bfb.dev/inject": "false"}));
    let webhook =
        Webhook::ready(&server, &["--image", "shop/bfb:9", "--set", "memory=32MiB"]).await;
    let admit = |namespace: &'static str, annotations: Value| {
        let webhook = &webhook;
        let server = &server;
        async move { webhook.admit(server, &creation(namespace, &annotations)).await.unwrap() }
    };

    let patched = patch(&admit("shop", json!({"bfb.dev/inject": "customer"})).await);
    let added = patched.to_string();
    assert!(
        added.contains("shop/bfb:9")
            && added.contains("32MiB")
            && added.contains("bfb-domain-customer"),
        "{added}"
    );
    assert!(
        patched.as_array().unwrap().iter().all(|operation| operation["op"] == "add"),
        "{added}"
    );
    let labelled = patch(&admit("labelled", json!({})).await).to_string();
    assert!(
        labelled.contains("bfb-domain-customer") && labelled.contains("bfb-domain-orders"),
        "{labelled}"
    );
    let own = patch(&admit("labelled", json!({"bfb.dev/inject": "reviews"})).await).to_string();
    assert!(own.contains("bfb-domain-reviews") && !own.contains("bfb-domain-orders"), "{own}");

    for (namespace, annotations, outcome) in [
        ("shop", json!({}), "not asked"),
        ("opted-out", json!({}), "not asked"),
        ("nowhere", json!({}), "not asked"),
        ("labelled", json!({"bfb.dev/inject": "false"}), "opted out"),
    ] {
        let answer = without_uid(admit(namespace, annotations).await);
        assert_eq!(
            answer,
            json!({"uid": null, "allowed": true, "auditAnnotations": {"outcome": outcome}})
        );
    }
    let mut update = creation("labelled", &json!({"bfb.dev/inject": "nonsense!"}));
    update["operation"] = "UPDATE".into();
    assert_eq!(webhook.admit(&server, &update).await.unwrap()["allowed"], true);
}

#[tokio::test]
async fn a_pod_that_cannot_be_injected_is_refused_with_every_reason() {
    let server = Apiserver::start().await;
    server.namespace("mislabelled", &json!({"bfb.dev/inject": "Customer"}));
    let webhook = Webhook::ready(&server, &[]).await;
    let asked = json!({"bfb.dev/inject": "customer", "bfb.dev/memry": "1", "bfb.dev/log": "loud"});
    let answer = webhook.admit(&server, &creation("shop", &asked)).await.unwrap();
    assert_eq!(
        (&answer["allowed"], &answer["status"]["reason"]),
        (&json!(false), &json!("Invalid"))
    );
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("did you mean `bfb.dev/memory`?")
            && message.contains("`bfb.dev/log` cannot be"),
        "{message}"
    );
    let answer = webhook.admit(&server, &creation("mislabelled", &json!({}))).await.unwrap();
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("the label `bfb.dev/inject` of the namespace `mislabelled` cannot be"),
        "{message}"
    );
    let fine = webhook
        .admit(&server, &creation("mislabelled", &json!({"bfb.dev/inject": "customer"})))
        .await
        .unwrap();
    assert_eq!(fine["allowed"], true);
    assert_eq!(
        webhook.metric("bfb_webhook_admissions_total", &[("outcome", "refused")]).await,
        Some(2.0)
    );
    assert_eq!(
        webhook.metric("bfb_webhook_admissions_total", &[("outcome", "injected")]).await,
        Some(1.0)
    );
}

#[tokio::test]
async fn a_namespace_that_is_not_known_yet_is_asked_for_once() {
    let server = Apiserver::start().await;
    let webhook = Webhook::ready(&server, &[]).await;
    let labelled = json!({"metadata": {"name": "new", "labels": {"bfb.dev/inject": "customer"}}});
    server.put_unheard("/api/v1/namespaces/new", labelled);
    let asked = creation("new", &json!({}));
    let mut connection =
        connect(webhook.address, trust_any_certificate(), HttpVersion::Http2).await.unwrap();
    let together = join_all((0..20).map(|_| webhook.admit(&server, &asked))).await;
    for answer in together {
        assert!(patch(&answer.unwrap()).to_string().contains("bfb-domain-customer"));
    }
    let again = connection.send(post(&asked)).await.unwrap();
    assert!(again.json()["response"]["patch"].is_string());
    assert_eq!(server.asked("GET /api/v1/namespaces/new"), 1);
}

#[tokio::test]
async fn a_label_that_has_just_been_written_holds_for_the_next_pod() {
    let server = Apiserver::start().await;
    let webhook = Webhook::ready(&server, &[]).await;
    let asked = creation("shop", &json!({}));
    // The namespace is known without the label; the watch does not report that it has one now.
    let labelled = json!({"metadata": {"name": "shop", "labels": {"bfb.dev/inject": "customer"}}});
    server.put_unheard("/api/v1/namespaces/shop", labelled);
    let patched = async {
        while !webhook.admit(&server, &asked).await.unwrap()["patch"].is_string() {
            tokio::task::yield_now().await;
        }
    };
    assert!(
        tokio::time::timeout(crate::support::client::TEST_TIMEOUT, patched).await.is_ok(),
        "{}",
        webhook.log()
    );
}

#[tokio::test]
async fn without_the_namespaces_only_pods_that_say_it_all_are_answered() {
    let server = Apiserver::start().await;
    server.breaks(Some("/api/v1/namespaces/shop"));
    let webhook = Webhook::ready(&server, &[]).await;
    server.breaks(Some("/api/v1/namespaces"));
    webhook
        .admit(&server, &creation("shop", &json!({"bfb.dev/inject": "customer"})))
        .await
        .unwrap();
    let failed = webhook.admit(&server, &creation("unheard-of", &json!({}))).await.unwrap_err();
    assert!(failed.starts_with("503 the labels of the namespace are not known"), "{failed}");
    assert_eq!(
        webhook.metric("bfb_webhook_admissions_total", &[("outcome", "failed")]).await,
        Some(1.0)
    );
}

#[tokio::test]
async fn whatever_comes_is_answered_with_what_was_expected() {
    let server = Apiserver::start().await;
    let webhook = Webhook::ready(&server, &[]).await;
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(3 * 1024 * 1024));
    for (request, status, text) in [
        (posted("text/plain", "{}"), 415, "expected `content-type: application/json`"),
        (posted("application/json; charset=utf-8", "{}"), 400, "expected `AdmissionReview`"),
        (posted("application/json", ""), 400, "the body is no `AdmissionReview`"),
        (posted("application/json", "[".repeat(100_000)), 400, "the body is no `AdmissionReview`"),
        (posted("application/json", large), 413, "expected at most 3145728 bytes"),
        (get("/mutate"), 405, "expected POST"),
        (ask(http::Method::POST, "/metrics"), 405, "expected GET"),
        (get("/"), 404, "expected `/mutate`"),
    ] {
        // Over HTTP/2, as API servers connect: the response to an early refusal still arrives.
        let got = webhook.send(HttpVersion::Http2, request).await;
        assert_eq!(got.status, status, "{}", got.text());
        assert!(got.text().contains(text), "{}", got.text());
    }
    assert_eq!(webhook.probe("/healthz").await.text(), "ok\n");
    assert_eq!(
        webhook.metric("bfb_webhook_admissions_total", &[("outcome", "malformed")]).await,
        Some(5.0)
    );
}

#[tokio::test]
async fn metrics_come_in_the_format_that_was_asked_for() {
    let webhook = Webhook::ready(&Apiserver::start().await, &[]).await;
    let text = webhook.probe("/metrics").await;
    assert_eq!(text.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.text().contains("# TYPE bfb_build_info gauge\n"), "{}", text.text());
    let asked =
        with_header(get("/metrics"), "accept", "application/openmetrics-text;version=1.0.0");
    let open_metrics = webhook.send(HttpVersion::Http1, asked).await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open_metrics.header("content-type"), kind);
    assert!(open_metrics.text().ends_with("# EOF\n"), "{}", open_metrics.text());
}
