//! Connections to MongoDB: bounded, whole after requests that are given up, replaced when the
//! server or a certificate changes.

use std::time::Duration;

use tokio::task::JoinSet;

use super::connections::Load;
use crate::support::client::HttpVersion;
use crate::support::domain::DomainFile;
use crate::support::link::{Cut, Link};
use crate::support::mongo::Mongo;
use crate::support::pki::Pki;
use crate::support::sidecar::Setup;

/// Requests that are given up; `BFB_DATABASE_CANCELLED` sets another number.
const CANCELLED: usize = 500;

const ITEMS: &str = "db.items.insert_many([{'_id': i, 'text': 'x' * 1000} for i in range(3000)])";

/// Two sources in one database, one of which takes several batches.
fn domain(url: &str, lines: &[&str]) -> DomainFile {
    let many = [lines, &["filter: {_id: {$gte: 0}}"]].concat();
    let one = [lines, &["filter: {_id: '{key:int}'}", "rows: one"]].concat();
    DomainFile::of("item").mongo("one", url, "items", &one).mongo("many", url, "items", &many)
}

fn url(addr: std::net::SocketAddr) -> String {
    format!("mongodb://127.0.0.1:{}/shop?directConnection=true", addr.port())
}

#[tokio::test]
async fn requests_that_are_given_up_leave_the_connections_whole() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    server.script(ITEMS).await;
    let link = Link::to(server.addr()).await;
    let domain = domain(&url(link.addr()), &["concurrency: 8"]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    let cancelled =
        std::env::var("BFB_DATABASE_CANCELLED").map_or(CANCELLED, |count| count.parse().unwrap());
    let mut tasks = JoinSet::new();
    for number in 0..cancelled {
        let mut consumer = sidecar.consumer(HttpVersion::Http1);
        tasks.spawn(async move {
            let patience = Duration::from_micros(fastrand::u64(0..100_000));
            let path = format!("/v2/items/{}", number % 7);
            let _ = tokio::time::timeout(patience, consumer.get(&path)).await;
        });
        while tasks.len() >= 32 {
            tasks.join_next().await;
        }
    }
    while tasks.join_next().await.is_some() {}
    for number in 0..50 {
        let got = sidecar.get(&format!("/v2/items/{}", number % 3)).await;
        assert_eq!(got.status, 200, "{got:?}");
    }
    sidecar.until_metric("bfb_source_inflight", 0.0).await;
    // Those that read, and two of the driver's own that watch the server.
    let open = link.counts().open;
    assert!(open <= 10, "{open} connections");
}

#[tokio::test]
async fn a_server_that_is_killed_under_load_is_used_again_when_it_is_back() {
    let pki = Pki::new();
    let Some(mut server) = Mongo::start(&pki).await else { return };
    server.script(ITEMS).await;
    let domain = DomainFile::of("item").mongo(
        "one",
        &url(server.addr()),
        "items",
        &["filter: {_id: '{key:int}'}", "rows: one", "concurrency: 4"],
    );
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    let load = Load::start(&sidecar, 4);
    load.until_more(30).await;
    server.kill();
    server.revive().await;
    load.until_more(60).await;
    for failure in load.end().await {
        assert!(
            ["\"connect\"", "\"tls\"", "\"breaker-open\""].iter().any(|it| failure.contains(it)),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_named_for_what_it_is() {
    let pki = Pki::new();
    let Some(mut server) = Mongo::start(&pki).await else { return };
    server.script(ITEMS).await;
    let domain = DomainFile::of("item").head("deadline: 900ms").mongo(
        "one",
        &url(server.addr()),
        "items",
        &["filter: {_id: '{key:int}'}", "rows: one", "retries: 0"],
    );
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    assert_eq!(sidecar.get("/v2/items/1").await.status, 200);
    server.kill();
    let got = sidecar.get("/v2/items/2").await;
    assert!([502, 504].contains(&got.status), "{got:?}");
    assert!(got.text().contains("\"connect\""), "{got:?}");
    server.revive().await;
    while sidecar.get("/v2/items/1").await.status != 200 {}
}

#[tokio::test]
async fn a_server_that_says_nothing_costs_the_timeout_and_no_place() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    server.script(ITEMS).await;
    let domain = DomainFile::of("item").mongo(
        "one",
        &url(server.addr()),
        "items",
        &[
            "filter: {_id: '{key:int}'}",
            "rows: one",
            "retries: 0",
            "timeout: 300ms",
            "concurrency: 2",
        ],
    );
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    assert_eq!(sidecar.get("/v2/items/1").await.status, 200);
    server.pause();
    for _ in 0..6 {
        let failed = sidecar.get("/v2/items/2").await.failed_sources("source-failed", 502);
        assert_eq!(failed, [("one".to_owned(), "timeout".to_owned())]);
    }
    server.resume();
    while sidecar.get("/v2/items/1").await.status != 200 {}
}

#[tokio::test]
async fn connections_that_the_server_ended_cost_no_request() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    server.script(ITEMS).await;
    let link = Link::to(server.addr()).await;
    let domain = DomainFile::of("item").mongo(
        "one",
        &url(link.addr()),
        "items",
        &["filter: {_id: '{key:int}'}", "rows: one", "retries: 0"],
    );
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    for round in 0..5 {
        assert_eq!(sidecar.get("/v2/items/0").await.status, 200, "{round}");
        link.drop_connections(Cut::Reset);
    }
}

#[tokio::test]
async fn certificates_that_change_under_load_cost_no_request() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    server.script(ITEMS).await;
    let link = Link::to(server.addr()).await;
    let domain = DomainFile::of("item").mongo(
        "one",
        &url(link.addr()),
        "items",
        &["filter: {_id: '{key:int}'}", "rows: one", "concurrency: 4"],
    );
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    let load = Load::start(&sidecar, 4);
    load.until_more(30).await;
    let before = link.counts().accepted;
    pki.rotate();
    sidecar.until_metric("bfb_identity_reloads_total", 1.0).await;
    load.until_more(60).await;
    assert_eq!(load.end().await, Vec::<String>::new());
    let counts = link.counts();
    assert!(counts.accepted > before, "new connections with the new certificate");
    // The old client's end by themselves.
    while link.counts().open > 4 + 2 {
        tokio::task::yield_now().await;
    }
}
