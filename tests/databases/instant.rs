//! One instant: sources of one database are read in one transaction and one round trip.
//!
//! `make test` runs a short form; the long one takes 100 000 datasets:
//!
//! ```text
//! BFB_DATABASE_DATASETS=100000 cargo test --release --test promises databases::instant -- \
//!     --nocapture
//! ```

#![allow(clippy::print_stderr, reason = "the figures are part of the result")]

use std::io::Write as _;
use std::process::Child;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::client::{Consumer, HttpVersion};
use crate::support::domain::DomainFile;
use crate::support::link::Link;
use crate::support::pki::Pki;
use crate::support::postgres::{CERTIFIED, Postgres, psql_command};
use crate::support::sidecar::Setup;
use crate::support::upstream::{Reply, Upstream};

/// Datasets that are read; `BFB_DATABASE_DATASETS` sets another number.
const DATASETS: u64 = 2_000;
/// How often a second the revision of the clock goes up.
const REVISIONS_PER_SECOND: u64 = 20;

fn datasets_wanted() -> u64 {
    std::env::var("BFB_DATABASE_DATASETS").map_or(DATASETS, |count| count.parse().unwrap())
}

const TABLES: &str = "create table stock (id int primary key, revision bigint);
create table price (id int primary key, revision bigint);
insert into stock values (1, 0); insert into price values (1, 0);";

/// A session that changes both tables in one transaction, over and over, until it is dropped.
struct Writer(Child);

impl Writer {
    /// About so often a second.
    fn start(server: &Postgres, per_second: u32) -> Self {
        let host = server.socket_dir().display();
        let to = format!("host={host} port={} user=postgres dbname=postgres", server.addr().port());
        let mut session = psql_command(&to).spawn().unwrap();
        let script = format!(
            "do $$ begin loop
               update stock set revision = revision + 1;
               update price set revision = revision + 1;
               commit;
               perform pg_sleep(1.0 / {per_second});
             end loop; end $$;\n"
        );
        session.stdin.as_mut().unwrap().write_all(script.as_bytes()).unwrap();
        Self(session)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn revision(dataset: &Value, source: &str) -> u64 {
    dataset[source]["revision"].as_u64().unwrap()
}

/// The two tables as sources.
fn domain(url: &str) -> DomainFile {
    let read = |table: &str| format!("select revision from {table} where id = 1 or {{key}} = ''");
    DomainFile::of("item").postgres("stock", url, &read("stock"), &["rows: one"]).postgres(
        "price",
        url,
        &read("price"),
        &["rows: one"],
    )
}

#[tokio::test]
async fn datasets_of_one_transaction_are_never_torn_and_take_one_round_trip() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    server.sql(TABLES);
    let link = Link::to(server.addr()).await;
    let url = format!("postgres://{CERTIFIED}@127.0.0.1:{}/postgres", link.addr().port());
    let domain = domain(&url).head("atomicity: snapshot");
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    let mut consumer = sidecar.consumer(HttpVersion::Http1);
    // The connection is opened by the first.
    assert_eq!(consumer.get("/v2/items/1").await.unwrap().status, 200);
    let _writer = Writer::start(&server, 1_000);
    let before = link.counts();
    let wanted = datasets_wanted();
    let (first, last) = read_untorn(&mut consumer, wanted).await;
    let counts = link.counts();
    assert_eq!(counts.turns - before.turns, wanted, "a round trip each");
    assert_eq!((counts.accepted, counts.open), (1, 1), "one connection is enough");
    let rounds = sidecar.metric("bfb_collection_rounds_total", &[]).await.unwrap();
    assert_eq!(rounds.to_string(), (wanted + 1).to_string(), "a round each");
    eprintln!("{wanted} datasets, none torn, while {} transactions wrote", last - first);
    assert!(last > first, "nothing was written meanwhile");
}

/// Reads so many datasets, and returns the first and the last revision.
async fn read_untorn(consumer: &mut Consumer, wanted: u64) -> (u64, u64) {
    let mut seen = Vec::new();
    for _ in 0..wanted {
        let got = consumer.get("/v2/items/1").await.unwrap();
        assert_eq!(got.status, 200, "{got:?}");
        let dataset = got.dataset();
        let stock = revision(&dataset, "stock");
        assert_eq!(stock, revision(&dataset, "price"), "torn");
        seen.push(stock);
    }
    (seen[0], *seen.last().unwrap())
}

#[tokio::test]
async fn a_snapshot_with_an_http_source_beside_them_is_never_torn() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    server.sql(TABLES);
    // A view and a service that change at the same instants of one clock.
    server.sql(&format!(
        "create view clock as select
         floor(extract(epoch from clock_timestamp()) * {REVISIONS_PER_SECOND})::bigint as revision"
    ));
    let upstream = Upstream::plain().await;
    upstream.handles("/clock", |_| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let revision = now.as_micros() * u128::from(REVISIONS_PER_SECOND) / 1_000_000;
        Reply::json(format!("{{\"revision\":{revision}}}"))
    });
    let url = format!("postgres://{CERTIFIED}@{}/postgres", server.addr());
    let domain = domain(&url)
        .head("atomicity: snapshot")
        .postgres("clock", &url, "select revision from clock", &["rows: one"])
        .source("service", &upstream, "/clock", &[]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).insecure().start().await;
    let mut consumer = sidecar.consumer(HttpVersion::Http1);
    let _writer = Writer::start(&server, 20);
    let (mut answers, mut contended) = (0, 0);
    while answers < datasets_wanted() / 4 {
        let got = consumer.get("/v2/items/1").await.unwrap();
        if got.status == 503 {
            got.failed_sources("contended", 503);
            contended += 1;
            continue;
        }
        let dataset = got.dataset();
        assert_eq!(revision(&dataset, "stock"), revision(&dataset, "price"), "{got:?}");
        assert_eq!(revision(&dataset, "clock"), revision(&dataset, "service"), "{got:?}");
        answers += 1;
    }
    eprintln!("{answers} answers, none torn; {contended} contended");
}
