//! Sources that are read in one transaction: each answers for itself alone.

use crate::support::domain::DomainFile;
use crate::support::link::Link;
use crate::support::pki::Pki;
use crate::support::postgres::{CERTIFIED, PASSWORDED, Postgres};
use crate::support::sidecar::{Setup, Sidecar};

async fn sidecar(pki: &Pki, domain: &DomainFile) -> Sidecar {
    Setup::of(&[domain]).identity(pki).start().await
}

fn url(server: &Postgres) -> String {
    format!("postgres://{CERTIFIED}@{}/postgres", server.addr())
}

async fn failures(sidecar: &Sidecar, source: &str) -> f64 {
    let failures = sidecar.metric("bfb_source_failures_total", &[("source", source)]).await;
    failures.unwrap()
}

#[tokio::test]
async fn a_statement_that_fails_fails_its_own_source_and_costs_no_connection() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    let link = Link::to(server.addr()).await;
    let url = format!("postgres://{CERTIFIED}@127.0.0.1:{}/postgres", link.addr().port());
    let domain = DomainFile::of("item")
        .postgres("first", &url, "select 1 as a", &["rows: one"])
        .postgres("wrong", &url, "select 1 / {key}::int as b", &["rows: one"])
        .postgres("typed", &url, "select 1 where {key} = 1", &[])
        .postgres("two", &url, "select 1 from generate_series(1, {key}::int)", &["rows: one"])
        .postgres("last", &url, "select 2 as c", &["rows: one", "timeout: 20s"]);
    let sidecar = sidecar(&pki, &domain).await;
    assert_eq!(sidecar.get("/v2/items/1").await.status, 200);
    for _ in 0..30 {
        let failed = sidecar.get("/v2/items/0").await.failed_sources("source-failed", 502);
        assert_eq!(failed, [("wrong".to_owned(), "status".to_owned())]);
        sidecar.get("/v2/items/x").await.problem("bad-key", 400);
        let failed = sidecar.get("/v2/items/2").await.failed_sources("source-failed", 502);
        assert_eq!(failed, [("two".to_owned(), "rows".to_owned())]);
    }
    assert_eq!(sidecar.get("/v2/items/1").await.status, 200, "no breaker is open");
    assert_eq!(link.counts().accepted, 1, "one connection was enough");
    for source in ["first", "typed", "last"] {
        assert!(failures(&sidecar, source).await < 1.0, "{source}");
    }
    assert_eq!(server.connections("idle in transaction"), 0);
}

#[tokio::test]
async fn a_slow_statement_is_not_the_fault_of_the_next_one() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    let domain = DomainFile::of("item")
        .postgres("slow", &url(&server), "select pg_sleep(2.5)::text as a", &["rows: one"])
        // It has rows to wait for when its turn comes: what is there already is taken in any case.
        .postgres(
            "quick",
            &url(&server),
            "select pg_sleep(0.5)::text as b",
            &["rows: one", "timeout: 2s"],
        );
    let sidecar = sidecar(&pki, &domain).await;
    let got = sidecar.get("/v2/items/1").await;
    assert_eq!((got.status, got.text()), (200, r#"{"slow":{"a":""},"quick":{"b":""}}"#));
}

#[tokio::test]
async fn what_is_too_large_is_the_fault_of_the_one_that_sent_it() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    let lines = ["max_body: 1KiB", "rows: one"];
    let domain = DomainFile::of("item")
        .postgres("small", &url(&server), "select 1 as a", &lines)
        .postgres("large", &url(&server), "select repeat('x', 9000000) as b", &lines)
        .postgres("behind", &url(&server), "select 2 as c", &lines);
    let sidecar = sidecar(&pki, &domain).await;
    for _ in 0..3 {
        let failed = sidecar.get("/v2/items/1").await.failed_sources("source-failed", 502);
        assert_eq!(failed, [("large".to_owned(), "too-large".to_owned())]);
    }
}

#[tokio::test]
async fn a_server_that_stands_still_is_given_up_at_the_timeout_and_opens_the_breaker() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    let lines = ["rows: one", "timeout: 200ms", "retries: 0"];
    let domain = DomainFile::of("item").postgres("a", &url(&server), "select 1 as a", &lines);
    let sidecar = sidecar(&pki, &domain).await;
    while sidecar.get("/v2/items/1").await.status != 200 {}
    server.pause();
    let mut timeouts = 0;
    let failed = loop {
        let got = sidecar.get("/v2/items/1").await;
        match got.status {
            502 => {
                let failed = got.failed_sources("source-failed", 502);
                assert_eq!(failed, [("a".to_owned(), "timeout".to_owned())]);
                timeouts += 1;
            }
            _ => break got.failed_sources("unavailable", 503),
        }
    };
    assert_eq!(failed, [("a".to_owned(), "breaker-open".to_owned())]);
    assert!(timeouts >= 20, "{timeouts}");
    server.resume();
    while sidecar.get("/v2/items/1").await.status != 200 {}
}

#[tokio::test]
async fn a_password_that_is_missing_is_said() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    let url = format!("postgres://{PASSWORDED}@{}/postgres", server.addr());
    let domain = DomainFile::of("item").postgres("a", &url, "select 1 as a", &[]);
    let sidecar = sidecar(&pki, &domain).await;
    let got = sidecar.get("/v2/items/1").await;
    let failed = got.failed_sources("source-failed", 502);
    assert_eq!(failed, [("a".to_owned(), "connect".to_owned())]);
    assert!(got.text().contains("wants a password"), "{got:?}");
}

#[tokio::test]
async fn a_key_of_another_type_is_no_reason_to_serve_what_is_stale() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    server.sql("create table t (id text); insert into t values ('1')");
    let domain = DomainFile::of("item")
        .head("cache: {ttl: 1ms, stale_if_error: 1h}")
        .head("key: '.*'")
        .postgres("a", &url(&server), "select id from t where id = {key}", &[]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).args(&["--memory", "1MiB"]).start().await;
    assert_eq!(sidecar.get("/v2/items/x").await.status, 200);
    server.sql("alter table t alter id type int using id::int");
    sidecar.get("/v2/items/x").await.problem("bad-key", 400);
}
