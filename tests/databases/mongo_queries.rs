//! What a server is asked, byte for byte: bound values, read concerns, bounds.

use mongodb::bson::{Bson, Document, doc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::support::domain::DomainFile;
use crate::support::mongo_wire::{MongoWire, SNAPSHOT};
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

async fn sidecar(domain: &DomainFile) -> Sidecar {
    Setup::of(&[domain]).insecure().start().await
}

const HOSTILE: &[&str] = &[
    "{\"$gt\": \"\"}",
    "$where",
    "$name",
    "$$ROOT",
    "{key}",
    "{profile.id}",
    "' or 1=1 --",
    "\"\\'`é\u{202e}",
    "{$literal: 1}",
];

#[tokio::test]
async fn hostile_keys_are_data_wherever_they_are_bound() {
    let server = MongoWire::replica_set(|_| Vec::new()).await;
    let domain = DomainFile::of("item")
        .head("key: '(?s).+'")
        .mongo(
            "found",
            &server.url(),
            "items",
            &[
                "filter: {name: '{key}', $expr: {$eq: ['$code', '{key}']}}",
                "projection: {k: '{key}'}",
            ],
        )
        .mongo(
            "made",
            &server.url(),
            "items",
            &["pipeline: [{$match: {name: '{key}'}}, {$set: {k: ['{key}']}}]"],
        );
    let sidecar = sidecar(&domain).await;
    let long = "$x".repeat(256);
    for key in HOSTILE.iter().copied().chain([long.as_str()]) {
        let got =
            sidecar.get(&format!("/v2/items/{}", utf8_percent_encode(key, NON_ALPHANUMERIC))).await;
        assert_eq!((got.status, got.text()), (200, r#"{"found":[],"made":[]}"#), "{key}");
        let [found, made] = &server.take_queries()[..] else { panic!("{key}") };
        let literal = doc! {"$literal": key};
        assert_eq!(
            found.get_document("filter").unwrap(),
            &doc! {"name": key, "$expr": {"$eq": ["$code", &literal]}},
        );
        assert_eq!(found.get_document("projection").unwrap(), &doc! {"k": &literal});
        assert_eq!(
            made.get_array("pipeline").unwrap()[..2],
            [
                Bson::Document(doc! {"$match": {"name": key}}),
                Bson::Document(doc! {"$set": {"k": [&literal]}})
            ]
        );
    }
}

#[tokio::test]
async fn hostile_parts_are_data_too() {
    let server = MongoWire::replica_set(|_| Vec::new()).await;
    let upstream = Upstream::plain().await;
    let name = "\u{0}$gt\u{0}{\"$ne\": 1}";
    let part = serde_json::json!({"name": name, "id": "0123456789abcdef01234567", "n": -7});
    upstream.handles("/p", move |_| Reply::json(part.to_string()));
    let domain = DomainFile::of("item").source("profile", &upstream, "/p", &[]).mongo(
        "found",
        &server.url(),
        "items",
        &["filter: {a: '{profile.name}', b: '{profile.id:objectId}', c: '{profile.n:int}', \
           d: '{profile.n}', e: {$elemMatch: {f: '{profile.name}'}}}"],
    );
    let sidecar = sidecar(&domain).await;
    assert_eq!(sidecar.get("/v2/items/1").await.status, 200);
    let [found] = &server.take_queries()[..] else { panic!() };
    let id = mongodb::bson::oid::ObjectId::parse_str("0123456789abcdef01234567").unwrap();
    let filter =
        doc! {"a": name, "b": id, "c": -7_i64, "d": "-7", "e": {"$elemMatch": {"f": name}}};
    assert_eq!(found.get_document("filter").unwrap(), &filter);
}

fn three(server: &MongoWire) -> DomainFile {
    ["one", "two", "three"].into_iter().fold(DomainFile::of("item"), |domain, name| {
        domain.mongo(name, &server.url(), name, &["filter: {_id: '{key:int}'}", "rows: one"])
    })
}

fn answer(query: &Document) -> Vec<Document> {
    vec![doc! {"from": query.get_str("find").unwrap()}]
}

#[tokio::test]
async fn sources_of_one_url_are_read_in_one_snapshot_of_a_replica_set() {
    let server = MongoWire::replica_set(answer).await;
    let sidecar = sidecar(&three(&server).head("atomicity: snapshot")).await;
    let got = sidecar.get("/v2/items/1").await;
    let expected = r#"{"one":{"from":"one"},"two":{"from":"two"},"three":{"from":"three"}}"#;
    assert_eq!((got.status, got.text()), (200, expected));
    let queries = server.take_queries();
    let of = |name: &str| queries.iter().map(|it| it.get(name).cloned()).collect::<Vec<_>>();
    let snapshot = doc! {"level": "snapshot"};
    let pinned = doc! {"level": "snapshot", "atClusterTime": SNAPSHOT};
    let concerns = [snapshot, pinned.clone(), pinned].map(|it| Some(Bson::Document(it)));
    assert_eq!(of("readConcern"), concerns);
    assert_eq!(of("lsid")[0], of("lsid")[1]);
    assert!(of("lsid")[0].is_some());
    assert_eq!(sidecar.metric("bfb_collection_rounds_total", &[]).await, Some(1.0));
}

#[tokio::test]
async fn a_server_of_no_replica_set_is_read_one_by_one_and_confirmed() {
    let server = MongoWire::standalone(answer).await;
    let sidecar = sidecar(&three(&server).head("atomicity: snapshot")).await;
    assert_eq!(sidecar.get("/v2/items/1").await.status, 200);
    let queries = server.take_queries();
    assert_eq!(queries.len(), 6, "two rounds");
    for query in queries {
        assert_eq!(query.get_document("readConcern").unwrap(), &doc! {"level": "local"});
        assert_eq!(query.get("lsid"), None);
    }
    assert_eq!(sidecar.metric("bfb_collection_rounds_total", &[]).await, Some(2.0));
}

#[tokio::test]
async fn a_source_alone_reads_what_a_majority_has_within_its_time_and_bounds() {
    let server = MongoWire::replica_set(|_| Vec::new()).await;
    for (lines, expected) in [
        (&["filter: {}"][..], doc! {"limit": 100_001_i64, "batchSize": 1_000}),
        (&["filter: {}", "limit: 7"], doc! {"limit": 7_i64, "batchSize": 1_000}),
        (
            &["filter: {}", "rows: one", "missing: null", "sort: {a: -1}"],
            doc! {"limit": 2_i64, "batchSize": 3, "sort": {"a": -1}},
        ),
        (
            &["pipeline: []", "rows: one", "missing: null"],
            doc! {"pipeline": [{"$limit": 2_i64}], "cursor": {"batchSize": 2}},
        ),
    ] {
        let lines = [lines, &["timeout: 5s"]].concat();
        let domain = DomainFile::of("item").mongo("a", &server.url(), "c", &lines);
        let sidecar = sidecar(&domain).await;
        assert_eq!(sidecar.get("/v2/items/1").await.status, 200, "{lines:?}");
        let [query] = &server.take_queries()[..] else { panic!("{lines:?}") };
        for (name, value) in expected {
            assert_eq!(query.get(&name), Some(&value), "{query}");
        }
        assert_eq!(query.get_document("readConcern").unwrap(), &doc! {"level": "majority"});
        let time = query.get("maxTimeMS").unwrap();
        let time = time.as_i64().or_else(|| time.as_i32().map(i64::from)).unwrap();
        assert!((1..=5_000).contains(&time), "{query}");
    }
}

#[tokio::test]
async fn one_document_of_one_source_is_a_snapshot_and_several_are_confirmed() {
    let server = MongoWire::replica_set(answer).await;
    for (rows, rounds) in [("one", 1.0), ("many", 2.0)] {
        let lines = ["filter: {}", &format!("rows: {rows}")];
        let domain = DomainFile::of("item").mongo("a", &server.url(), "c", &lines);
        let sidecar = sidecar(&domain.head("atomicity: snapshot")).await;
        assert_eq!(sidecar.get("/v2/items/1").await.status, 200);
        let met = sidecar.metric("bfb_collection_rounds_total", &[]).await;
        assert_eq!(met, Some(rounds), "{rows}");
    }
}
