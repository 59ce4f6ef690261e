//! `bfb doctor` on PostgreSQL: who is let in, and what the query is to the database.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Patient, doctor, findings, parsed, text};
use crate::support::domain::DomainFile;
use crate::support::postgres::{CERTIFIED, PASSWORD, PASSWORDED, Postgres, PostgresSetup, TRUSTED};

/// A domain file whose one source is this query, asked as this user.
fn file(patient: &Patient, server: &Postgres, user: &str, query: &str, lines: &[&str]) -> PathBuf {
    let url = format!("postgres://{user}@{}/postgres", server.addr());
    let domain = DomainFile::of("customer").postgres("loyalty", &url, query, lines);
    let file = patient.dir.path().join("customer.yaml");
    std::fs::write(&file, domain.text()).unwrap();
    file
}

async fn found(patient: &Patient, file: PathBuf, args: &[&str]) -> (Value, i32) {
    let args = [args, &["--format", "json"]].concat();
    let (report, code) = parsed(&patient.doctor(file, &args).await);
    (report["domains"][0]["sources"][0].clone(), code)
}

const TABLE: &str = "create table loyalty (customer bigint primary key, name text, points int);
insert into loyalty select n, 'n' || n, n from generate_series(1, 100) n; analyze;";

#[tokio::test]
async fn the_types_of_a_query_are_told_and_nothing_else_of_it() {
    let patient = Patient::new();
    let server = Postgres::start(&patient.pki).await;
    server.sql(TABLE);
    let query = "select name, points from loyalty where customer = {key}";
    let file = file(&patient, &server, CERTIFIED, query, &["rows: one"]);
    let (source, code) = found(&patient, file.clone(), &["--key", "7"]).await;
    assert_eq!((findings(&source), code), (vec![], 0), "{source:#}");
    assert_eq!(
        source["database"]["statement"],
        json!({
            "parameters": [{"name": "{key}", "type": "int8"}],
            "columns": [{"name": "name", "type": "text"}, {"name": "points", "type": "int4"}],
            "unindexed_tables": [],
        })
    );
    assert_eq!(source["connection"]["without_certificate"], "refused", "{source:#}");
    assert!(source["rows"]["warm_ms"].as_f64().is_some(), "{source:#}");
    let shown = text(&patient.doctor(file, &["--key", "7"]).await);
    assert!(shown.contains("{key}: int8, name: text, points: int4"), "{shown}");
    assert!(shown.contains("demanded") && shown.contains("PostgreSQL 1"), "{shown}");
    assert!(!shown.contains("n7"), "{shown}");
}

#[tokio::test]
async fn a_condition_without_an_index_is_worth_knowing() {
    let patient = Patient::new();
    let server = Postgres::start(&patient.pki).await;
    server.sql(TABLE);
    let query = "select points from loyalty where name = {key}";
    let (source, code) = found(&patient, file(&patient, &server, CERTIFIED, query, &[]), &[]).await;
    assert_eq!((findings(&source), code), (vec!["note no-index".to_owned()], 0), "{source:#}");
}

#[tokio::test]
async fn a_query_that_the_database_does_not_take_is_an_error_in_its_words() {
    let patient = Patient::new();
    let server = Postgres::start(&patient.pki).await;
    server.sql(TABLE);
    for (query, words) in [
        ("select nam from loyalty", "column \"nam\" does not exist"),
        ("select * from loyalty where customer = {key} || 1", "operator does not exist"),
        ("select * from nowhere", "relation \"nowhere\" does not exist"),
    ] {
        let (source, code) =
            found(&patient, file(&patient, &server, CERTIFIED, query, &[]), &[]).await;
        assert_eq!((findings(&source), code), (vec!["error query".to_owned()], 1), "{source:#}");
        assert!(source["findings"][0]["met"].as_str().unwrap().contains(words), "{source:#}");
    }
}

#[tokio::test]
async fn who_is_let_in_without_a_certificate_is_told() {
    let patient = Patient::new();
    let server = Postgres::start(&patient.pki).await;
    let optional = vec!["warning certificate-optional".to_owned()];
    let (source, code) =
        found(&patient, file(&patient, &server, TRUSTED, "select 1", &[]), &[]).await;
    assert_eq!((findings(&source), code), (optional.clone(), 0), "{source:#}");
    let user = format!("{PASSWORDED}:{}", PASSWORD.replace(' ', "%20"));
    let (source, code) =
        found(&patient, file(&patient, &server, &user, "select 1", &[]), &[]).await;
    assert_eq!((findings(&source), code), (optional, 0), "{source:#}");
    assert!(!source.to_string().contains(PASSWORD));
}

#[tokio::test]
async fn a_server_that_does_not_ask_is_refused_unless_the_file_says_so() {
    let patient = Patient::new();
    let setup = PostgresSetup { asks: false, ..PostgresSetup::usual() };
    let server = Postgres::start_with(&patient.pki, setup).await;
    let user = format!("{PASSWORDED}:{}", PASSWORD.replace(' ', "%20"));
    let (source, code) =
        found(&patient, file(&patient, &server, &user, "select 1", &[]), &[]).await;
    assert_eq!((findings(&source), code), (vec!["error not-mutual".to_owned()], 1), "{source:#}");
    let no = file(&patient, &server, &user, "select 1", &["mutual: no"]);
    let (source, code) = found(&patient, no, &[]).await;
    assert_eq!((findings(&source), code), (vec!["note password-only".to_owned()], 0), "{source:#}");
    assert_eq!(source["mutual"], "no");
    let wrong = file(&patient, &server, &format!("{PASSWORDED}:x"), "select 1", &["mutual: no"]);
    let (source, code) = found(&patient, wrong, &[]).await;
    let expected = vec!["error connect".to_owned(), "note password-only".to_owned()];
    assert_eq!((findings(&source), code), (expected, 1), "{source:#}");
}

#[tokio::test]
async fn a_port_that_is_no_database_is_named() {
    let patient = Patient::new();
    let upstream = patient.upstream(&crate::support::pki::profile(), super::Asks::Always).await;
    let port = upstream.origin().port_u16().unwrap();
    let domain = DomainFile::of("customer").postgres(
        "loyalty",
        &format!("postgres://u@127.0.0.1:{port}/x"),
        "select 1",
        &[],
    );
    let file = patient.dir.path().join("customer.yaml");
    std::fs::write(&file, domain.text()).unwrap();
    let output = patient.doctor(file.clone(), &[]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(doctor(file, &[]).await.status.code(), Some(64), "no identity is given");
}
