//! Parts from PostgreSQL: what a row becomes, what a failure is called, and what a value can do.

use percent_encoding::NON_ALPHANUMERIC;

use crate::support::domain::DomainFile;
use crate::support::pki::Pki;
use crate::support::postgres::{
    CERTIFIED, PASSWORD, PASSWORDED, Postgres, PostgresSetup, PostgresVersion,
};
use crate::support::sidecar::{Setup, Sidecar};

/// The URL of a server for a sidecar with a certificate.
fn url(server: &Postgres) -> String {
    format!("postgres://{CERTIFIED}@{}/postgres", server.addr())
}

/// A domain with one source that the query makes.
fn domain(server: &Postgres, query: &str, lines: &[&str]) -> DomainFile {
    DomainFile::of("customer").postgres("loyalty", &url(server), query, lines)
}

async fn sidecar(pki: &Pki, domain: &DomainFile) -> Sidecar {
    Setup::of(&[domain]).identity(pki).start().await
}

/// What a sidecar answers for the key with this one source.
async fn part(server: &Postgres, pki: &Pki, query: &str, lines: &[&str], key: &str) -> String {
    let sidecar = sidecar(pki, &domain(server, query, lines)).await;
    sidecar.get(&format!("/v2/customers/{key}")).await.text().to_owned()
}

const LOYALTY: &str = "create table loyalty (customer bigint primary key, tier text, points int);
insert into loyalty values (42, 'gold', 7), (43, 'silver', null);
create table orders (customer bigint, id int, total numeric);
insert into orders values (42, 1, 1.10), (42, 2, 2.00), (43, 3, 3);";

#[tokio::test]
async fn rows_are_the_servers_own_json_on_every_version() {
    let pki = Pki::new();
    for version in PostgresVersion::all().into_iter().filter(|version| version.tls) {
        let server = Postgres::start_with(&pki, PostgresSetup::of(version)).await;
        server.sql(LOYALTY);
        let domain = DomainFile::of("customer")
            .postgres(
                "loyalty",
                &url(&server),
                "select tier, points from loyalty where customer = {key}",
                &["rows: one"],
            )
            .postgres(
                "orders",
                &url(&server),
                "select id, total from orders where customer = {key} order by id desc;",
                &[],
            )
            .postgres("none", &url(&server), "select 1 where {key} = 'x'", &["missing: []"]);
        let sidecar = sidecar(&pki, &domain).await;
        let got = sidecar.get("/v2/customers/42").await;
        assert_eq!(
            (got.status, got.text()),
            (
                200,
                concat!(
                    r#"{"loyalty":{"tier":"gold","points":7},"#,
                    r#""orders":[{"id":2,"total":2.00},{"id":1,"total":1.10}],"none":[]}"#,
                )
            )
        );
        assert_eq!(
            sidecar.get("/v2/customers/43").await.text(),
            r#"{"loyalty":{"tier":"silver","points":null},"orders":[{"id":3,"total":3}],"none":[]}"#
        );
    }
}

#[tokio::test]
async fn no_row_is_what_missing_says_and_two_are_a_failure() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    server.sql(LOYALTY);
    let query = "select tier from loyalty where customer = {key} or {key} = '9'";
    let ask = async |lines: &[&str], key: &str| {
        let sidecar = sidecar(&pki, &domain(&server, query, lines)).await;
        sidecar.get(&format!("/v2/customers/{key}")).await
    };
    let got = ask(&["rows: one", "missing: {tier: none}"], "1").await;
    assert_eq!((got.status, got.text()), (200, r#"{"loyalty":{"tier":"none"}}"#));
    ask(&["rows: one", "missing: not-found"], "1").await.problem("not-found", 404);
    let failed = ask(&["rows: one"], "1").await.failed_sources("source-failed", 502);
    assert_eq!(failed, [("loyalty".to_owned(), "rows".to_owned())]);
    let failed = ask(&["rows: one", "missing: null"], "9").await;
    let failed = failed.failed_sources("source-failed", 502);
    assert_eq!(failed, [("loyalty".to_owned(), "rows".to_owned())]);
}

#[tokio::test]
async fn a_source_needs_another_ones_part() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    server.sql(LOYALTY);
    let domain = DomainFile::of("customer")
        .postgres(
            "profile",
            &url(&server),
            "select customer as id, tier from loyalty where customer = {key}",
            &["rows: one", "missing: not-found"],
        )
        .postgres(
            "orders",
            &url(&server),
            "select id, {profile.tier} as tier from orders where customer = {profile.id} limit 1",
            &["rows: one"],
        );
    let sidecar = sidecar(&pki, &domain).await;
    assert_eq!(
        sidecar.get("/v2/customers/43").await.text(),
        r#"{"profile":{"id":43,"tier":"silver"},"orders":{"id":3,"tier":"silver"}}"#
    );
    sidecar.get("/v2/customers/44").await.problem("not-found", 404);
}

#[tokio::test]
async fn hostile_values_are_data() {
    let pki = Pki::new();
    let setup = PostgresSetup::usual().with("log_statement=all");
    let server = Postgres::start_with(&pki, setup).await;
    server.sql(LOYALTY);
    let query = "select {key} as key, (select count(*) from loyalty) as rows";
    let domain = domain(&server, query, &["rows: one"]).head("key: '(?s).+'");
    let sidecar = sidecar(&pki, &domain).await;
    let longest = "x".repeat(512);
    for key in [
        "' or 1=1 --",
        "'; drop table loyalty; --",
        "$1",
        "{\"$gt\": \"\"}",
        "$where",
        "\\",
        "a\\'b",
        "\"",
        "null",
        "%",
        "ä😀",
        &longest,
    ] {
        let encoded = percent_encoding::utf8_percent_encode(key, NON_ALPHANUMERIC);
        let got = sidecar.get(&format!("/v2/customers/{encoded}")).await;
        let expected = serde_json::json!({"loyalty": {"key": key, "rows": 2}});
        let part: serde_json::Value = serde_json::from_str(got.text()).unwrap();
        assert_eq!((got.status, part), (200, expected), "{key}");
    }
    let log = server.process().log();
    assert!(log.contains("parameters: $1 = ''' or 1=1 --'"), "{log}");
    assert!(!log.contains("where 1=1") && !log.contains("statement: drop"), "{log}");
}

#[tokio::test]
async fn a_key_of_another_type_is_the_callers_mistake() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    server.sql(LOYALTY);
    let lines = ["rows: one", "missing: null", "retries: 3"];
    let query = "select tier from loyalty where customer = {key}";
    let sidecar = sidecar(&pki, &domain(&server, query, &lines)).await;
    for key in ["abc", "1e400", "99999999999999999999", "0x", "1.5", "%20"] {
        let got = sidecar.get(&format!("/v2/customers/{key}")).await;
        let problem = got.problem("bad-key", 400);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("`loyalty`") && !detail.contains(key), "{detail}");
    }
    for _ in 0..30 {
        sidecar.get("/v2/customers/abc").await.problem("bad-key", 400);
    }
    assert_eq!(sidecar.get("/v2/customers/42").await.status, 200, "the breaker is closed");
    let failures = sidecar.metric("bfb_source_failures_total", &[("source", "loyalty")]).await;
    assert_eq!(failures, Some(0.0));
    assert_eq!(sidecar.metric("bfb_source_retries_total", &[]).await, Some(0.0));
}

#[tokio::test]
async fn a_reference_of_another_type_is_a_failure_of_its_source() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    server.sql(LOYALTY);
    let domain = DomainFile::of("customer")
        .postgres("profile", &url(&server), "select 's3cret' as id", &["rows: one"])
        .postgres(
            "orders",
            &url(&server),
            "select id from orders where customer::text = {key} and customer = {profile.id}",
            &[],
        );
    let sidecar = sidecar(&pki, &domain).await;
    let got = sidecar.get("/v2/customers/42").await;
    let failed = got.failed_sources("source-failed", 502);
    assert_eq!(failed, [("orders".to_owned(), "missing-reference".to_owned())]);
    assert!(!got.text().contains("s3cret"), "{got:?}");
}

#[tokio::test]
async fn what_the_server_says_of_data_is_not_passed_on() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    server.sql(LOYALTY);
    for (query, reason) in [
        ("select ('s3cret' || {key})::int", "status"),
        ("select 1 / (points - 7) from loyalty", "status"),
        ("select nothing from loyalty", "status"),
        ("select * from nowhere", "status"),
        ("select pg_sleep(60)", "timeout"),
        ("select nextval('s')", "status"),
    ] {
        let timeout = if reason == "timeout" { "timeout: 700ms" } else { "timeout: 20s" };
        let lines = ["retries: 0", timeout];
        let sidecar = sidecar(&pki, &domain(&server, query, &lines)).await;
        let got = sidecar.get("/v2/customers/k3y").await;
        let failed = got.failed_sources("source-failed", 502);
        assert_eq!(failed, [("loyalty".to_owned(), reason.to_owned())], "{query}");
        assert!(!got.text().contains("s3cret") && !got.text().contains("k3y"), "{got:?}");
    }
}

#[tokio::test]
async fn a_part_is_bounded() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    let query = "select repeat('x', {key}::int) as x from generate_series(1, 10)";
    let sidecar = sidecar(&pki, &domain(&server, query, &["max_body: 1KiB"])).await;
    assert_eq!(sidecar.get("/v2/customers/90").await.status, 200);
    for key in [100, 2_000, 300_000, 20_000_000] {
        let got = sidecar.get(&format!("/v2/customers/{key}")).await;
        let failed = got.failed_sources("source-failed", 502);
        assert_eq!(failed, [("loyalty".to_owned(), "too-large".to_owned())], "{key}");
    }
    assert_eq!(sidecar.get("/v2/customers/90").await.status, 200);
}

#[tokio::test]
async fn a_password_is_enough_where_the_file_says_so() {
    let pki = Pki::new();
    let setup = PostgresSetup { asks: false, ..PostgresSetup::usual() };
    let server = Postgres::start_with(&pki, setup).await;
    let url = |password: &str| {
        let password = password.replace(' ', "%20");
        format!("postgres://{PASSWORDED}:{password}@{}/postgres", server.addr())
    };
    let ask = async |url: &str, lines: &[&str]| {
        let domain = DomainFile::of("customer").postgres("a", url, "select {key} as k", lines);
        sidecar(&pki, &domain).await.get("/v2/customers/1").await
    };
    let got = ask(&url(PASSWORD), &["mutual: no"]).await;
    assert_eq!((got.status, got.text()), (200, r#"{"a":[{"k":"1"}]}"#));
    // The server does not ask for a certificate: no byte of a query goes to it.
    let failed = ask(&url(PASSWORD), &[]).await.failed_sources("not-mutual", 502);
    assert_eq!(failed, [("a".to_owned(), "not-mutual".to_owned())]);
    let got = ask(&url("wr0ng"), &["mutual: no"]).await;
    let failed = got.failed_sources("source-failed", 502);
    assert_eq!(failed, [("a".to_owned(), "connect".to_owned())]);
    assert!(!got.text().contains("wr0ng"));
    let stranger = ["mutual: no", "server: spiffe://shop.example/ns/shop/sa/other"];
    let failed = ask(&url(PASSWORD), &stranger).await.failed_sources("source-failed", 502);
    assert_eq!(failed, [("a".to_owned(), "tls".to_owned())]);
}

#[tokio::test]
async fn what_is_recorded_is_replayed_without_the_database() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    server.sql(LOYALTY);
    let query = "select tier from loyalty where customer = {key}";
    let domain = domain(&server, query, &["rows: one", "missing: not-found"]);
    let tape = tempfile::tempdir().unwrap();
    let folder = tape.path().join("tape");
    let recording = Setup::of(&[&domain]).identity(&pki).arg("--record").arg(&folder).start().await;
    let first = recording.get("/v2/customers/42").await;
    assert_eq!(first.text(), r#"{"loyalty":{"tier":"gold"}}"#);
    recording.get("/v2/customers/1").await.problem("not-found", 404);
    drop((server, recording));
    let replaying = Setup::of(&[&domain]).arg("--replay").arg(&folder).start().await;
    assert_eq!(replaying.get("/v2/customers/42").await.text(), first.text());
    replaying.get("/v2/customers/1").await.problem("not-found", 404);
    let failed = replaying.get("/v2/customers/2").await.failed_sources("source-failed", 502);
    assert_eq!(failed, [("loyalty".to_owned(), "connect".to_owned())]);
}

#[tokio::test]
async fn a_row_keeps_its_types() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    server.sql("create function f() returns int language sql as 'select 1'");
    // A column may be called as the wrapped row is.
    let query = "select 1 as part, 2 as \"p.*\", f() as to_json";
    assert_eq!(
        part(&server, &pki, query, &["rows: one"], "1").await,
        r#"{"loyalty":{"part":1,"p.*":2,"to_json":1}}"#
    );
}
