//! The rounds of a snapshot, by the requests to the sources and their order.

use crate::support::client::ClientResponse;
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{ReceivedRequest, Reply, Upstream};

/// A sidecar over `profile`, `favorites`, and `orders`, which needs the profile's account.
async fn over_three(atomicity: &str) -> (Sidecar, Upstream) {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/profile/42", [account("A", 1)]);
    upstream.answers("/favorites/42", [revision(1)]);
    upstream.answers("/orders/A", [revision(1)]);
    upstream.answers("/orders/B", [Reply::json("\"of B\"").etag("\"b\"")]);
    let domain = DomainFile::of("customer")
        .head(&format!("atomicity: {atomicity}"))
        .source("profile", &upstream, "/profile/{key}", &[])
        .source("favorites", &upstream, "/favorites/{key}", &[])
        .source("orders", &upstream, "/orders/{profile.account}", &[]);
    (Setup::of(&[&domain]).identity(&pki).start().await, upstream)
}

fn account(account: &str, revision: u32) -> Reply {
    Reply::json(format!(r#"{{"account":"{account}","revision":{revision}}}"#))
        .etag(&format!("\"{revision}\""))
}

fn revision(revision: u32) -> Reply {
    Reply::json(revision.to_string()).etag(&format!("\"{revision}\""))
}

/// The `If-None-Match` of each request for one target, in order.
fn conditions(upstream: &Upstream, target: &str) -> Vec<String> {
    requests_to(upstream, target)
        .iter()
        .map(|request| request.header("if-none-match").to_owned())
        .collect()
}

fn requests_to(upstream: &Upstream, target: &str) -> Vec<ReceivedRequest> {
    upstream.received().into_iter().filter(|request| request.target == target).collect()
}

async fn ask(sidecar: &Sidecar) -> ClientResponse {
    sidecar.get("/v2/customers/42").await
}

#[tokio::test]
async fn every_source_is_confirmed_after_the_last_part_has_arrived() {
    let (sidecar, upstream) = over_three("snapshot").await;
    ask(&sidecar).await.dataset();
    let order: Vec<_> = upstream.received().iter().map(|request| request.target.clone()).collect();
    assert_eq!(order.len(), 6, "{order:?}");
    for target in ["/profile/42", "/favorites/42", "/orders/A"] {
        assert!(order[..3].iter().any(|request| request == target), "{order:?}");
        assert!(order[3..].iter().any(|request| request == target), "{order:?}");
        assert_eq!(conditions(&upstream, target), ["", "\"1\""], "{target}");
    }
}

#[tokio::test]
async fn both_rounds_ask_past_every_cache() {
    let (sidecar, upstream) = over_three("snapshot").await;
    ask(&sidecar).await.dataset();
    assert!(
        upstream.received().iter().all(|request| request.header("cache-control") == "no-cache")
    );
}

#[tokio::test]
async fn complete_asks_once_and_without_a_wish() {
    let (sidecar, upstream) = over_three("complete").await;
    ask(&sidecar).await.dataset();
    assert_eq!(upstream.received().len(), 3);
    assert!(upstream.received().iter().all(|request| request.header("cache-control").is_empty()));
    assert!(upstream.received().iter().all(|request| request.header("if-none-match").is_empty()));
}

#[tokio::test]
async fn a_part_that_changed_and_what_depends_on_it_are_taken_anew_and_all_are_confirmed() {
    let (sidecar, upstream) = over_three("snapshot").await;
    upstream.answers("/profile/42", [account("A", 1), account("B", 2)]);
    let whole = ask(&sidecar).await.dataset();
    let expected = serde_json::json!({"profile": {"account": "B", "revision": 2}, "favorites": 1,
        "orders": "of B"});
    assert_eq!(whole, expected);
    assert_eq!(conditions(&upstream, "/profile/42"), ["", "\"1\"", "\"2\""]);
    assert_eq!(conditions(&upstream, "/favorites/42"), ["", "\"1\"", "\"1\""]);
    assert_eq!(conditions(&upstream, "/orders/A"), ["", "\"1\""]);
    assert_eq!(conditions(&upstream, "/orders/B"), ["", "\"b\""], "taken anew, then confirmed");
    let order: Vec<_> = upstream.received().iter().map(|request| request.target.clone()).collect();
    let taken = order.iter().position(|target| target == "/orders/B").unwrap();
    assert_eq!(
        order.len() - taken,
        4,
        "every part is confirmed after the last was taken: {order:?}"
    );
}

#[tokio::test]
async fn a_part_that_changes_in_every_round_is_contended() {
    let (sidecar, upstream) = over_three("snapshot").await;
    upstream.answers("/favorites/42", (1..100).map(revision));
    let got = ask(&sidecar).await;
    assert_eq!(
        got.failed_sources("contended", 503),
        [("favorites".to_owned(), "changed".to_owned())]
    );
    assert_eq!(requests_to(&upstream, "/favorites/42").len(), 3, "three rounds and no more");
    assert_eq!(sidecar.metric("bfb_collections_total", &[("result", "failed")]).await, Some(1.0));
}

#[tokio::test]
async fn the_file_says_how_many_rounds_there_are() {
    for rounds in [2, 5] {
        let (sidecar, upstream) = over_three(&format!("snapshot\nrounds: {rounds}")).await;
        upstream.answers("/favorites/42", (1..100).map(revision));
        ask(&sidecar).await.failed_sources("contended", 503);
        assert_eq!(requests_to(&upstream, "/favorites/42").len(), rounds);
    }
}

#[tokio::test]
async fn weak_tags_prove_nothing_so_the_part_is_read_again_and_compared() {
    let (sidecar, upstream) = over_three("snapshot").await;
    let weak = |text: &str| Reply::json(text.to_owned()).header("etag", "W/\"same\"");
    upstream.answers("/favorites/42", [weak("\"old\""), weak("\"new\""), weak("\"new\"")]);
    assert_eq!(ask(&sidecar).await.dataset()["favorites"], "new", "the same weak tag hid a change");
    assert_eq!(conditions(&upstream, "/favorites/42"), ["", "", ""]);
}

#[tokio::test]
async fn a_date_or_nothing_proves_nothing_either() {
    let date = "Sun, 01 Mar 2026 00:00:00 GMT";
    for reply in [Reply::json("[]"), Reply::json("[]").header("last-modified", date)] {
        let (sidecar, upstream) = over_three("snapshot").await;
        upstream.answers("/favorites/42", [reply]);
        ask(&sidecar).await.dataset();
        let requests = requests_to(&upstream, "/favorites/42");
        assert_eq!(requests.len(), 2);
        assert!(requests.iter().all(|request| request.header("if-none-match").is_empty()));
        assert!(requests.iter().all(|request| request.header("if-modified-since").is_empty()));
    }
}

#[tokio::test]
async fn the_same_bytes_under_a_new_tag_are_asked_for_once_more_at_the_most() {
    let (sidecar, upstream) = over_three("snapshot").await;
    let tagged = |tag: &str| Reply::json("[]").etag(tag);
    upstream.answers("/favorites/42", [tagged("\"1\""), tagged("\"2\"")]);
    assert_eq!(ask(&sidecar).await.dataset()["favorites"], serde_json::json!([]));
    assert!(requests_to(&upstream, "/favorites/42").len() <= 3);
}

#[tokio::test]
async fn a_404_with_a_meaning_is_confirmed_like_any_part() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/profile/42", [revision(1)]);
    upstream.answers("/favorites/42", [Reply::status(404), revision(7)]);
    let domain = DomainFile::of("customer")
        .head("atomicity: snapshot")
        .source("profile", &upstream, "/profile/{key}", &[])
        .source("favorites", &upstream, "/favorites/{key}", &["missing: []"]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    assert_eq!(ask(&sidecar).await.dataset(), serde_json::json!({"profile": 1, "favorites": 7}));
    upstream.answers("/favorites/42", [Reply::status(404)]);
    assert_eq!(ask(&sidecar).await.dataset(), serde_json::json!({"profile": 1, "favorites": []}));
}

#[tokio::test]
async fn a_source_that_fails_in_a_later_round_leaves_no_data() {
    let (sidecar, upstream) = over_three("snapshot").await;
    upstream.answers("/favorites/42", [revision(1), Reply::status(500)]);
    let got = ask(&sidecar).await;
    assert_eq!(
        got.failed_sources("source-failed", 502),
        [("favorites".to_owned(), "status".to_owned())]
    );
    assert!(!got.text().contains("revision"), "{got:?}");
}

#[tokio::test]
async fn one_source_alone_is_a_snapshot_as_it_is() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/profile/42", [revision(1)]);
    let domain = DomainFile::of("customer").head("atomicity: snapshot").source(
        "profile",
        &upstream,
        "/profile/{key}",
        &[],
    );
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    ask(&sidecar).await.dataset();
    assert_eq!(upstream.received().len(), 1);
}
