//! How each type of BSON appears in a part: read from every server that is there, and compared with
//! the table of `docs/domain-file.md`.

use std::fs;

use crate::support::domain::DomainFile;
use crate::support::mongo::{Mongo, MongoKind, MongoSetup};
use crate::support::pki::Pki;
use crate::support::sidecar::Setup;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/domain-file.md");
const BEGIN: &str =
    "<!-- begin types of BSON: `UPDATE_DOCS=1 cargo test databases::mongo_types` writes it -->\n";
const END: &str = "<!-- end types of BSON -->\n";

/// A type, and an expression of it in Python.
const VALUES: &[(&str, &str)] = &[
    ("null", "None"),
    ("boolean", "True"),
    ("int", "-42"),
    ("long beyond 2^53", "Int64(9223372036854775807)"),
    ("double", "0.1"),
    ("double that is whole", "5.0"),
    ("double large and small", "[1e300, 5e-324]"),
    ("decimal with its scale", "Decimal128('1.10')"),
    ("decimal of 34 digits", "Decimal128('1234567890.123456789012345678901234')"),
    ("decimal with an exponent", "Decimal128('1E+6144')"),
    ("string", "'a \"b\" \\\\ ä\\n'"),
    ("objectId", "ObjectId('0123456789abcdef01234567')"),
    ("date", "DatetimeMS(1764318600123)"),
    ("date without milliseconds", "DatetimeMS(1764318600000)"),
    ("date before 1970", "DatetimeMS(-14182940000)"),
    ("date of the year 1", "DatetimeMS(-62135596800000)"),
    ("binary (subtype 0)", "Binary(b'\\xde\\xad\\xbe\\xef', 0)"),
    ("binary of another subtype", "Binary(b'\\xde\\xad', 5)"),
    ("binary of a user's subtype", "Binary(b'\\xde\\xad', 128)"),
    ("UUID (binary, subtype 4)", "Binary(bytes(range(16)), 4)"),
    ("old UUID (binary, subtype 3)", "Binary(bytes(range(16)), 3)"),
    ("array", "[1, 'a', None, []]"),
    ("document, in its order", "{'b': 1, 'a': {'$c.d': 2}}"),
];

/// Those that have no form in JSON. A date outside of the years 1 to 9999 is one too, which not
/// every server takes.
const WITHOUT_FORM: &[(&str, &str)] = &[
    ("double `NaN`", "float('nan')"),
    ("double infinity", "float('-inf')"),
    ("decimal `NaN`", "Decimal128('NaN')"),
    ("decimal infinity", "Decimal128('Infinity')"),
    ("timestamp", "Timestamp(1, 1)"),
    ("regular expression", "Regex('a')"),
    ("code", "Code('1')"),
    ("min key, max key", "[MinKey(), MaxKey()]"),
];

#[tokio::test]
async fn every_type_is_what_the_page_says_on_every_server() {
    let pki = Pki::new();
    let mut tables = Vec::new();
    for kind in MongoKind::all() {
        let server = Mongo::start_with(&pki, MongoSetup::of(kind)).await.unwrap();
        tables.push((kind, table(&server, &pki).await));
    }
    let Some((first, rows)) = tables.first() else { return };
    for (kind, others) in &tables {
        for (row, other) in rows.iter().zip(others).filter(|(_, other)| other.is_some()) {
            assert_eq!(row, other, "{first:?} and {kind:?} agree");
        }
    }
    let rows: String = rows.iter().flatten().map(String::as_str).collect();
    let table = format!("| type | a value, in Python | in the part |\n| --- | --- | --- |\n{rows}");
    let page = fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page says where the table begins");
    let (_, after) = rest.split_once(END).expect("the page says where the table ends");
    let right = format!("{before}{BEGIN}{table}{END}{after}");
    if page != right && std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PAGE, &right).unwrap();
    } else {
        assert_eq!(page, right, "`UPDATE_DOCS=1 cargo test databases::mongo_types` writes it");
    }
}

/// The rows of the table as one server makes them; none for a value that it does not take.
async fn table(server: &Mongo, pki: &Pki) -> Vec<Option<String>> {
    let values: Vec<_> = VALUES.iter().chain(WITHOUT_FORM).collect();
    let python = values.iter().map(|(_, value)| *value).collect::<Vec<_>>().join(", ");
    let lines = [
        "from bson import *",
        "from bson.datetime_ms import DatetimeMS",
        &format!("values = [{python}]"),
        "for i, v in enumerate(values):",
        "  try: db.types.insert_one({'_id': i, 'v': v})",
        "  except Exception: print(i)",
        "deep = 1",
        "for i in range(100): deep = {'a': deep}",
        "db.types.insert_one({'_id': 'deep', 'v': deep})",
    ];
    let refused = server.script(&lines.join("\n")).await;
    let is_taken = |number: &usize| refused.lines().all(|line| line != number.to_string());
    let url = format!("mongodb://{}/shop", server.addr());
    let read = |domain: DomainFile, id: &str| {
        let lines = [&format!("filter: {{_id: {id}}}"), "projection: {_id: 0}", "rows: one"];
        domain.mongo(&format!("s{id}"), &url, "types", &lines)
    };
    let good = (0..VALUES.len())
        .filter(is_taken)
        .fold(DomainFile::of("item"), |domain, number| read(domain, &number.to_string()));
    let good = read(good, "deep");
    let bad = (VALUES.len()..values.len())
        .map(|number| read(DomainFile::of(&format!("bad{number}")), &number.to_string()));
    let bad: Vec<_> = bad.collect();
    let domains: Vec<_> = [&good].into_iter().chain(&bad).collect();
    let sidecar = Setup::of(&domains).identity(pki).start().await;
    let got = sidecar.get("/v2/items/1").await;
    assert_eq!(got.status, 200, "{got:?}");
    let deep = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
    assert_eq!(member(got.text(), "sdeep"), deep);
    let mut rows = Vec::new();
    for (number, (name, value)) in values.into_iter().enumerate() {
        if !is_taken(&number) {
            rows.push(None);
            continue;
        }
        let part = if number < VALUES.len() {
            format!("`{}`", member(got.text(), &format!("s{number}")))
        } else {
            let got = sidecar.get(&format!("/v2/bad{number}s/1")).await;
            let failed = got.failed_sources("source-failed", 502);
            assert_eq!(failed[0].1, "not-json", "{name}");
            assert!(got.text().contains("has at `v"), "{name}: {got:?}");
            "none: `not-json`".to_owned()
        };
        rows.push(Some(format!("| {name} | `{value}` | {part} |\n")));
    }
    rows
}

/// The bytes of a source's only member, as they came.
fn member(dataset: &str, source: &str) -> String {
    let raw: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(dataset).unwrap();
    let part = raw[source].get();
    part.strip_prefix("{\"v\":").and_then(|it| it.strip_suffix('}')).unwrap().to_owned()
}
