//! Connections to PostgreSQL: lent to one transaction at a time, never left in the middle of one,
//! replaced when the server, a pooler or a certificate changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;

use crate::support::client::{HttpVersion, get};
use crate::support::domain::DomainFile;
use crate::support::link::{Cut, Link};
use crate::support::pgbouncer::PgBouncer;
use crate::support::pki::{Pki, profile};
use crate::support::postgres::{CERTIFIED, Postgres, PostgresSetup, TRUSTED};
use crate::support::sidecar::{Setup, Sidecar};

/// Requests that are given up; `BFB_DATABASE_CANCELLED` sets another number.
const CANCELLED: usize = 1_000;

fn domain(url: &str, lines: &[&str]) -> DomainFile {
    let lines = [lines, &["rows: one"]].concat();
    DomainFile::of("item")
        .postgres("one", url, "select {key} as k, pg_sleep({key}::float / 1000)::text", &lines)
        .postgres("two", url, "select pg_backend_pid() as pid", &lines)
}

/// So many consumers, each of which asks until it is told to stop: counts their answers.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    readers: JoinSet<Vec<String>>,
}

impl Load {
    pub(super) fn start(sidecar: &Sidecar, consumers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicUsize::new(0));
        let mut readers = JoinSet::new();
        for consumer in 0..consumers {
            let mut http = sidecar.consumer(HttpVersion::Http1);
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            readers.spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let got = http.get(&format!("/v2/items/{}", consumer % 3)).await.unwrap();
                    if got.status == 200 {
                        answers.fetch_add(1, Ordering::SeqCst);
                    } else {
                        failed.push(got.text().to_owned());
                    }
                }
                failed
            });
        }
        Self { stop, answers, readers }
    }

    /// Waits until so many more answers have come.
    pub(super) async fn until_more(&self, more: usize) {
        let wanted = self.answers.load(Ordering::SeqCst) + more;
        while self.answers.load(Ordering::SeqCst) < wanted {
            tokio::task::yield_now().await;
        }
    }

    /// All that failed.
    pub(super) async fn end(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let mut failed = Vec::new();
        while let Some(more) = self.readers.join_next().await {
            failed.extend(more.unwrap());
        }
        failed
    }
}

#[tokio::test]
async fn requests_that_are_given_up_leave_the_connections_whole() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    let url = format!("postgres://{CERTIFIED}@{}/postgres", server.addr());
    let domain = domain(&url, &["concurrency: 8"]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    let cancelled =
        std::env::var("BFB_DATABASE_CANCELLED").map_or(CANCELLED, |count| count.parse().unwrap());
    let mut tasks = JoinSet::new();
    for number in 0..cancelled {
        let mut consumer = sidecar.consumer(HttpVersion::Http1);
        tasks.spawn(async move {
            // The request goes on for some milliseconds; the consumer leaves before or after that.
            let patience = std::time::Duration::from_micros(fastrand::u64(0..8_000));
            let path = format!("/v2/items/{}", number % 7);
            let _ = tokio::time::timeout(patience, consumer.get(&path)).await;
        });
        while tasks.len() >= 64 {
            tasks.join_next().await;
        }
    }
    while tasks.join_next().await.is_some() {}
    for number in 0..200 {
        let got = sidecar.get(&format!("/v2/items/{}", number % 3)).await;
        assert_eq!(got.status, 200, "{got:?}");
    }
    sidecar.until_metric("bfb_source_inflight", 0.0).await;
    assert_eq!(server.connections("idle in transaction"), 0);
    assert!(server.connections("idle") <= 8, "{}", server.connections("idle"));
}

#[tokio::test]
async fn a_server_that_is_killed_under_load_is_used_again_when_it_is_back() {
    let pki = Pki::new();
    let mut server = Postgres::start(&pki).await;
    let url = format!("postgres://{CERTIFIED}@{}/postgres", server.addr());
    let domain = domain(&url, &["concurrency: 4"]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    let load = Load::start(&sidecar, 8);
    load.until_more(50).await;
    server.kill();
    server.revive().await;
    load.until_more(200).await;
    for failure in load.end().await {
        assert!(
            ["\"connect\"", "\"tls\"", "\"breaker-open\""].iter().any(|it| failure.contains(it)),
            "{failure}"
        );
    }
    assert_eq!(server.connections("idle in transaction"), 0);
}

#[tokio::test]
async fn a_connection_that_the_server_ended_costs_no_request() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    let link = Link::to(server.addr()).await;
    let url = format!("postgres://{CERTIFIED}@127.0.0.1:{}/postgres", link.addr().port());
    let domain = domain(&url, &["retries: 0"]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    for round in 0..20 {
        assert_eq!(sidecar.get("/v2/items/0").await.status, 200, "{round}");
        if round % 2 == 0 {
            server.sql(&format!(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = \
                 '{CERTIFIED}'"
            ));
        } else {
            link.drop_connections(Cut::Reset);
        }
    }
}

#[tokio::test]
async fn certificates_that_change_under_load_cost_no_request() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    let url = format!("postgres://{CERTIFIED}@{}/postgres", server.addr());
    let domain = domain(&url, &["concurrency: 4"]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    let load = Load::start(&sidecar, 8);
    load.until_more(50).await;
    let before = server.sql("select count(*) from pg_stat_ssl where ssl and client_dn is not null");
    pki.rotate();
    sidecar.until_metric("bfb_identity_reloads_total", 1.0).await;
    load.until_more(100).await;
    server.rotate(&pki, &pki.authority.issue(&profile()).unwrap()).await;
    load.until_more(100).await;
    assert_eq!(load.end().await, Vec::<String>::new());
    assert_ne!(before, "0");
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_all_the_same() {
    let pki = Pki::new();
    let setup = PostgresSetup::usual().with("log_statement=all");
    let server = Postgres::start_with(&pki, setup).await;
    let mut pooler = PgBouncer::start(&pki, &server, &profile(), 2).await;
    let url = format!("postgres://{TRUSTED}@{}/postgres", pooler.addr());
    let zones = "select current_setting('timezone') as zone, now() as at, \
                 current_setting('transaction_read_only') as ro, '\\x01'::bytea as bytes, \
                 current_setting('search_path') as path";
    let domain = domain(&url, &["concurrency: 16"]).postgres("zone", &url, zones, &["rows: one"]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    // Another client of the pooler leaves its settings behind.
    for _ in 0..4 {
        let to = super::connection(pooler.addr(), &pki, TRUSTED, "");
        let settings = "set time zone 'Asia/Kathmandu'; set standard_conforming_strings = off; \
                        set bytea_output = escape; set search_path = elsewhere;";
        crate::support::postgres::psql(&to, settings).unwrap();
    }
    let load = Load::start(&sidecar, 16);
    load.until_more(300).await;
    assert_eq!(load.end().await, Vec::<String>::new());
    let got = sidecar.get("/v2/items/1").await;
    let zone = &got.dataset()["zone"];
    assert_eq!((zone["zone"].as_str(), zone["ro"].as_str()), (Some("UTC"), Some("on")));
    assert_eq!(zone["bytes"].as_str(), Some("\\x01"), "{got:?}");
    assert!(zone["path"].as_str().unwrap().contains("public"), "{got:?}");
    assert!(zone["at"].as_str().unwrap().ends_with("+00:00"), "{got:?}");
    pooler.kill();
    pooler.revive().await;
    let mut consumer = sidecar.consumer(HttpVersion::Http1);
    while consumer.send(get("/v2/items/1")).await.unwrap().status != 200 {}
    assert_eq!(server.connections("idle in transaction"), 0);
}
