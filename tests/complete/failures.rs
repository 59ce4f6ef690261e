//! Each reason for which a dataset fails, over real sockets.

use std::sync::Arc;

use tokio::net::TcpSocket;

use super::{SECRET, holds_no_data, names, part};
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::{Asks, Pki, profile};
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// Three sources: `profile` and `favorites` are well, `orders` answers `reply`.
async fn with_orders(reply: Reply, lines: &[&str]) -> (Sidecar, Upstream) {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/profile/42", [part()]);
    upstream.answers("/favorites/42", [part()]);
    upstream.answers("/orders/42", [reply]);
    let domain = around(&upstream).source("orders", &upstream, "/orders/{key}", lines);
    (Setup::of(&[&domain]).identity(&pki).start().await, upstream)
}

/// A domain with two sources that are well.
fn around(upstream: &Upstream) -> DomainFile {
    DomainFile::of("customer").source("profile", upstream, "/profile/{key}", &[]).source(
        "favorites",
        upstream,
        "/favorites/{key}",
        &[],
    )
}

/// Asserts that `orders` fails for `reason` when it answers so.
async fn fails(reply: Reply, reason: &str) {
    let (sidecar, upstream) = with_orders(reply, &["retries: 0", "max_body: 1KiB"]).await;
    names(&sidecar.get("/v2/customers/42").await, "orders", reason, "source-failed", 502);
    upstream.answers("/orders/42", [part()]);
    let whole = sidecar.get("/v2/customers/42").await.dataset();
    assert_eq!(whole.as_object().unwrap().len(), 3, "complete again once it is well: {whole}");
}

#[tokio::test]
async fn a_source_that_nobody_listens_for_is_connect() {
    // Bound and not listening: connections are refused, and no other process can take the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/profile/42", [part()]);
    upstream.answers("/favorites/42", [part()]);
    let orders = format!("https://{}/orders/{{key}}", socket.local_addr().unwrap());
    let domain = around(&upstream).source_at("orders", &orders, &[]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    names(&sidecar.get("/v2/customers/42").await, "orders", "connect", "source-failed", 502);
}

#[tokio::test]
async fn a_source_whose_certificate_a_stranger_issued_is_tls_and_is_asked_nothing() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/profile/42", [part()]);
    upstream.answers("/favorites/42", [part()]);
    let stranger = Upstream::tls(Arc::new(pki.stranger(&profile()))).await;
    let domain = around(&upstream).source("orders", &stranger, "/orders/{key}", &[]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    names(&sidecar.get("/v2/customers/42").await, "orders", "tls", "source-failed", 502);
    assert!(stranger.received().is_empty());
}

#[tokio::test]
async fn a_source_that_does_not_ask_for_our_certificate_is_not_mutual_and_is_asked_nothing() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/profile/42", [part()]);
    upstream.answers("/favorites/42", [part()]);
    let open = Upstream::tls(Arc::new(pki.server(&profile(), Asks::Never))).await;
    let domain = around(&upstream).source("orders", &open, "/orders/{key}", &[]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    names(&sidecar.get("/v2/customers/42").await, "orders", "not-mutual", "not-mutual", 502);
    assert!(open.received().is_empty());
    assert!(sidecar.metric("bfb_not_mutual_total", &[]).await.unwrap() >= 1.0);
}

#[tokio::test]
async fn a_source_slower_than_its_timeout_is_timeout() {
    let (sidecar, _upstream) = with_orders(Reply::never(), &["timeout: 200ms", "retries: 0"]).await;
    names(&sidecar.get("/v2/customers/42").await, "orders", "timeout", "source-failed", 502);
}

#[tokio::test]
async fn a_source_that_fails_is_status() {
    fails(Reply::status(500), "status").await;
}

#[tokio::test]
async fn a_404_without_a_meaning_is_status() {
    fails(Reply::status(404), "status").await;
}

#[tokio::test]
async fn a_body_past_its_bound_is_too_large() {
    fails(Reply::json(format!("\"{SECRET}{}\"", "x".repeat(1024))), "too-large").await;
}

#[tokio::test]
async fn a_body_that_is_no_json_is_not_json() {
    fails(Reply::json(format!("{{\"secret\": \"{SECRET}\"")), "not-json").await;
}

#[tokio::test]
async fn json_that_is_not_declared_as_such_is_not_json() {
    fails(part().typed("text/html"), "not-json").await;
}

#[tokio::test]
async fn no_content_is_incomplete() {
    fails(Reply::status(204), "incomplete").await;
}

#[tokio::test]
async fn a_range_is_incomplete() {
    let range = Reply::status(206)
        .header("content-type", "application/json")
        .header("content-range", "bytes 0-1/9");
    fails(range, "incomplete").await;
}

#[tokio::test]
async fn a_redirect_is_incomplete_and_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let (sidecar, upstream) =
            with_orders(Reply::status(status).header("location", "/elsewhere"), &[]).await;
        upstream.answers("/elsewhere", [part()]);
        names(&sidecar.get("/v2/customers/42").await, "orders", "incomplete", "source-failed", 502);
        assert!(
            upstream.received().iter().all(|request| request.target != "/elsewhere"),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_next_page_is_incomplete() {
    fails(part().header("link", "</orders/42?page=2>; rel=\"next\""), "incomplete").await;
}

#[tokio::test]
async fn a_body_that_ends_early_is_incomplete() {
    fails(Reply::json(format!("{{\"secret\":\"{SECRET}\"")).cut(), "incomplete").await;
}

#[tokio::test]
async fn a_whole_json_text_on_a_connection_that_breaks_is_incomplete() {
    fails(part().cut(), "incomplete").await;
}

#[tokio::test]
async fn a_value_that_a_url_needs_and_is_not_there_is_missing_reference() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    let profile = |account: &str| Reply::json(format!(r#"{{"secret":"{SECRET}"{account}}}"#));
    let parts = [
        ("none", ""),
        ("null", r#","account_id":null"#),
        ("list", r#","account_id":[1]"#),
        ("empty", r#","account_id":"""#),
        ("dots", r#","account_id":"..""#),
        ("path", r#","account_id":"../admin/users""#),
        ("backslash", r#","account_id":"a\\..\\b""#),
        ("control", r#","account_id":"a\u0085b""#),
    ];
    for (key, account) in parts {
        upstream.answers(&format!("/profile/{key}"), [profile(account)]);
    }
    let domain = DomainFile::of("customer")
        .source("profile", &upstream, "/profile/{key}", &[])
        .source("orders", &upstream, "/accounts/{profile.account_id}/orders", &[]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    for (key, _) in parts {
        let got = sidecar.get(&format!("/v2/customers/{key}")).await;
        names(&got, "orders", "missing-reference", "source-failed", 502);
        let detail = got.json()["failed"][0]["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("profile.account_id"), "{key}: {detail}");
    }
    assert!(upstream.received().iter().all(|request| request.target.starts_with("/profile/")));
}

#[tokio::test]
async fn a_source_that_keeps_failing_is_left_alone_as_breaker_open() {
    let (sidecar, upstream) = with_orders(Reply::status(500), &["retries: 0"]).await;
    let mut failures = 0;
    let opened = loop {
        let got = sidecar.get("/v2/customers/42").await;
        if got.status == 503 {
            break got;
        }
        names(&got, "orders", "status", "source-failed", 502);
        failures += 1;
        assert!(failures <= 50, "the breaker never opened");
    };
    names(&opened, "orders", "breaker-open", "unavailable", 503);
    assert!(failures >= 10, "a breaker that opens after {failures} failures is nervous");
    assert_eq!(sidecar.metric("bfb_source_breaker_open", &[("source", "orders")]).await, Some(1.0));
    let orders = |upstream: &Upstream| {
        upstream.received().iter().filter(|request| request.target == "/orders/42").count()
    };
    let before = orders(&upstream);
    names(&sidecar.get("/v2/customers/42").await, "orders", "breaker-open", "unavailable", 503);
    assert_eq!(orders(&upstream), before, "an open breaker lets nothing through");
}

#[tokio::test]
async fn a_deadline_that_passes_is_504_and_names_who_had_not_answered() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/profile/42", [part()]);
    upstream.answers("/slow/42", [Reply::never()]);
    upstream.answers("/stuck/42", [Reply::json(format!("[\"{SECRET}\"")).stuck()]);
    let domain = DomainFile::of("customer")
        .head("deadline: 6s")
        .source("profile", &upstream, "/profile/{key}", &[])
        .source("slow", &upstream, "/slow/{key}", &[])
        .source("stuck", &upstream, "/stuck/{key}", &[])
        .source("after", &upstream, "/after/{slow.id}", &[]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    // The handshakes happen here, so that they take nothing of the deadline's time later.
    for target in ["/profile/1", "/slow/1", "/stuck/1", "/after/1"] {
        upstream.answers(target, [Reply::json("{\"id\":1}")]);
    }
    sidecar.get("/v2/customers/1").await.dataset();
    let got = sidecar.get("/v2/customers/42").await;
    let mut failed = got.failed_sources("deadline", 504);
    failed.sort();
    let timeout = |source: &str| (source.to_owned(), "timeout".to_owned());
    assert_eq!(failed, [timeout("slow"), timeout("stuck")], "{got:?}");
    holds_no_data(&got);
}

#[tokio::test]
async fn one_failure_cancels_what_is_left() {
    let (sidecar, upstream) = with_orders(Reply::status(500), &["retries: 0"]).await;
    upstream.answers("/favorites/42", [Reply::never()]);
    // Without cancelling, this would last until the deadline and be a 504.
    names(&sidecar.get("/v2/customers/42").await, "orders", "status", "source-failed", 502);
    upstream.closed(1).await;
}
