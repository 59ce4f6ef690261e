//! `bfb doctor` on MongoDB: what answers, and what the query is to it.

use std::path::PathBuf;

use serde_json::Value;

use super::{Patient, findings, parsed, text};
use crate::support::domain::DomainFile;
use crate::support::mongo::{Mongo, MongoKind, MongoSetup};
use crate::support::pki::Asks;

/// A domain file whose one source reads a collection.
fn file(patient: &Patient, server: &Mongo, collection: &str, lines: &[&str]) -> PathBuf {
    let url = format!("mongodb://{}/shop", server.addr());
    let domain = DomainFile::of("customer").mongo("baskets", &url, collection, lines);
    let file = patient.dir.path().join("customer.yaml");
    std::fs::write(&file, domain.text()).unwrap();
    file
}

async fn found(patient: &Patient, file: PathBuf, args: &[&str]) -> (Value, i32) {
    let args = [args, &["--format", "json"]].concat();
    let (report, code) = parsed(&patient.doctor(file, &args).await);
    (report["domains"][0]["sources"][0].clone(), code)
}

const BASKETS: &str = "
db.baskets.insert_many([{'_id': i, 'customer': i, 'note': 's3cret'} for i in range(9)])
db.baskets.create_index('customer')
db.create_collection('view', viewOn='baskets', pipeline=[])";

fn noted(more: &[&str]) -> Vec<String> {
    more.iter().copied().chain(["note unproven"]).map(str::to_owned).collect()
}

#[tokio::test]
async fn what_answers_and_what_the_query_is_to_it_is_told() {
    let patient = Patient::new();
    let Some(server) = Mongo::start(&patient.pki).await else { return };
    server.script(BASKETS).await;
    let good = "filter: {customer: '{key:int}'}";
    let of = file(&patient, &server, "baskets", &[good]);
    let (source, code) = found(&patient, of.clone(), &["--key", "7"]).await;
    assert_eq!((findings(&source), code), (noted(&[]), 0), "{source:#}");
    assert_eq!(source["database"]["product"], "MongoDB", "{source:#}");
    assert_eq!(source["database"]["deployment"], "replica set", "{source:#}");
    assert_eq!(source["database"]["statement"]["parameters"][0]["type"], "long", "{source:#}");
    assert_eq!(source["connection"]["without_certificate"], "refused", "{source:#}");
    assert_eq!(source["mutual"], "unproven");
    let shown = text(&patient.doctor(of, &["--key", "7"]).await);
    assert!(shown.contains("MongoDB 8") && shown.contains("{key}: long"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
    for (collection, line, expected) in [
        ("baskets", "filter: {note: '{key}'}", noted(&["note no-index"])),
        ("baskets", "pipeline: [{$match: {note: '{key}'}}]", noted(&["note no-index"])),
        ("nowhere", good, noted(&["warning no-collection"])),
    ] {
        let of = file(&patient, &server, collection, &[line]);
        let (source, code) = found(&patient, of, &[]).await;
        assert_eq!((findings(&source), code), (expected, 0), "{collection} {line} {source:#}");
    }
    // This server explains a view as a scan, whatever index there is.
    let (source, _) = found(&patient, file(&patient, &server, "view", &[good]), &[]).await;
    assert!(!findings(&source).contains(&"warning no-collection".to_owned()), "{source:#}");
    // It explains what it would not run, unlike others.
    server
        .script(
            "client.admin.command('configureFailPoint', 'failCommand', mode={'times': 1},\n\
               data={'failCommands': ['explain'], 'errorCode': 2})",
        )
        .await;
    let (source, code) = found(&patient, file(&patient, &server, "baskets", &[good]), &[]).await;
    assert_eq!((findings(&source), code), (noted(&["error query"]), 1), "{source:#}");
}

#[tokio::test]
async fn a_server_that_does_not_ask_is_only_noted() {
    let patient = Patient::new();
    for setup in MongoKind::all().into_iter().map(MongoSetup::of) {
        let setup = MongoSetup { asks: Asks::Never, ..setup };
        let Some(server) = Mongo::start_with(&patient.pki, setup).await else { return };
        let of = file(&patient, &server, "baskets", &["filter: {_id: '{key}'}", "mutual: no"]);
        let (source, code) = found(&patient, of, &["--key", "7"]).await;
        let mut found = findings(&source);
        found.retain(|finding| finding != "warning no-collection");
        assert_eq!((found, code), (vec!["note password-only".to_owned()], 0), "{source:#}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_unreachable() {
    let patient = Patient::new();
    let Some(mut server) = Mongo::start(&patient.pki).await else { return };
    server.kill();
    let of = file(&patient, &server, "baskets", &["filter: {_id: '{key}'}"]);
    let (source, code) = found(&patient, of, &[]).await;
    assert_eq!((findings(&source), code), (vec!["error unreachable".to_owned()], 1), "{source:#}");
}
