//! How each type of PostgreSQL appears in a part: read from every version that is there, and
//! compared with the table of `docs/domain-file.md`.

use std::fmt::Write as _;
use std::fs;

use crate::support::domain::DomainFile;
use crate::support::pki::Pki;
use crate::support::postgres::{CERTIFIED, Postgres, PostgresSetup, PostgresVersion};
use crate::support::sidecar::Setup;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/domain-file.md");
const BEGIN: &str =
    "<!-- begin types of PostgreSQL: `UPDATE_DOCS=1 cargo test databases::types` writes it -->\n";
const END: &str = "<!-- end types of PostgreSQL -->\n";

/// Types of the test's own.
const TYPES: &str = "create type mood as enum ('glad', 'sad');
create type place as (street text, number int);
create domain score as int check (value >= 0);";

/// A type, and an expression of it.
const VALUES: &[(&str, &str)] = &[
    ("boolean", "true"),
    ("smallint, integer", "42"),
    ("bigint beyond 2^53", "9223372036854775807"),
    ("numeric with its scale", "1.10"),
    ("numeric of 40 digits", "1234567890123456789012345678901234567.890"),
    ("numeric `NaN`, `Infinity`", "array['NaN'::numeric, 'Infinity']"),
    ("double precision", "0.1::float8"),
    ("double precision large and small", "array[1e300::float8, 1e-7]"),
    ("double precision `NaN`, `-Infinity`", "array['NaN'::float8, '-Infinity']"),
    ("text", "E'a \"b\" \\\\ ä\\n'"),
    ("char(4)", "'ab'::char(4)"),
    ("bytea", "'\\xdeadbeef'::bytea"),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid"),
    ("date", "'2026-11-28'::date"),
    ("date `infinity`, BC", "array['infinity'::date, '0044-03-15 BC']"),
    ("time", "'08:30:00.5'::time"),
    ("timestamp", "'2026-11-28 08:30:00.123456'::timestamp"),
    ("timestamptz", "'2026-11-28 08:30:00+05:45'::timestamptz"),
    ("timestamptz before 1970", "'1969-07-20 20:17:40+00'::timestamptz"),
    ("interval", "'1 year 2 days 03:04:05'::interval"),
    ("json", "'{\"b\": 1.10, \"a\" :1e2, \"b\":2}'::json"),
    ("jsonb", "'{\"b\": 1.10, \"a\" :1e2, \"b\":2}'::jsonb"),
    ("array", "array[1, 2, null]"),
    ("array of two dimensions", "array[[1, 2], [3, 4]]"),
    ("composite", "row('High Street', 7)::place"),
    ("enum", "'glad'::mood"),
    ("domain", "7::score"),
    ("range", "int4range(1, 5)"),
    ("inet", "'192.0.2.1/24'::inet"),
    ("money", "'1234.5'::money"),
    ("null", "null::int"),
];

#[tokio::test]
async fn every_type_is_what_the_page_says_on_every_version() {
    let pki = Pki::new();
    let mut pages = Vec::new();
    for version in PostgresVersion::all().into_iter().filter(|version| version.tls) {
        let name = version.name();
        let server = Postgres::start_with(&pki, PostgresSetup::of(version)).await;
        server.sql(TYPES);
        pages.push((name, table(&server, &pki).await));
    }
    let (first, table) = &pages[0];
    for (name, other) in &pages {
        assert_eq!(table, other, "{first} and {name} agree");
    }
    let page = fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page says where the table begins");
    let (_, after) = rest.split_once(END).expect("the page says where the table ends");
    let right = format!("{before}{BEGIN}{table}{END}{after}");
    if page != right && std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PAGE, &right).unwrap();
    } else {
        assert_eq!(page, right, "`UPDATE_DOCS=1 cargo test databases::types` writes it");
    }
}

/// The table as one server makes it.
async fn table(server: &Postgres, pki: &Pki) -> String {
    let url = format!("postgres://{CERTIFIED}@{}/postgres", server.addr());
    let query = VALUES.iter().map(|(_, value)| format!("select {value} as v")).collect::<Vec<_>>();
    let mut domain = DomainFile::of("item");
    for (number, query) in query.iter().enumerate() {
        domain = domain.postgres(&format!("s{number}"), &url, query, &["rows: one"]);
    }
    let sidecar = Setup::of(&[&domain]).identity(pki).start().await;
    let got = sidecar.get("/v2/items/1").await;
    assert_eq!(got.status, 200, "{got:?}");
    let mut text = "| type | a value | in the part |\n| --- | --- | --- |\n".to_owned();
    for (number, (name, value)) in VALUES.iter().enumerate() {
        let json = member(got.text(), &format!("s{number}"));
        let escape = |text: &str| text.replace('|', "\\|");
        writeln!(text, "| {name} | `{}` | `{}` |", escape(value), escape(&json)).unwrap();
    }
    text
}

/// The bytes of a source's only member, as they came.
fn member(dataset: &str, source: &str) -> String {
    let raw: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(dataset).unwrap();
    let part = raw[source].get();
    part.strip_prefix("{\"v\":").and_then(|it| it.strip_suffix('}')).unwrap().to_owned()
}
