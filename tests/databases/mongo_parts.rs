//! Parts from collections: what a document becomes, what a failure is called, and what a value can
//! do.

use bfb::identity::issue::Leaf;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::support::domain::DomainFile;
use crate::support::mongo::{Mongo, MongoKind, MongoSetup, PASSWORD, READER};
use crate::support::pki::{Asks, Pki};
use crate::support::sidecar::{Setup, Sidecar};

/// The URL of a server.
fn url(server: &Mongo) -> String {
    format!("mongodb://{}/shop", server.addr())
}

/// A domain with one source that these lines make.
fn domain(server: &Mongo, lines: &[&str]) -> DomainFile {
    DomainFile::of("customer").mongo("baskets", &url(server), "baskets", lines)
}

async fn sidecar(pki: &Pki, domain: &DomainFile) -> Sidecar {
    Setup::of(&[domain]).identity(pki).start().await
}

const BASKETS: &str = "
db.baskets.insert_many([
  {'_id': 1, 'customer': bson.Int64(42), 'open': True, 'total': bson.Decimal128('1.10')},
  {'_id': 2, 'customer': bson.Int64(42), 'open': True, 'total': bson.Decimal128('2.00')},
  {'_id': 3, 'customer': bson.Int64(42), 'open': False, 'total': bson.Decimal128('9')},
  {'_id': 4, 'customer': bson.Int64(43), 'open': True, 'total': None}])
db.customers.insert_many([
  {'_id': 'k1', 'name': 'Ada', 'account': 42},
  {'_id': bson.ObjectId('0123456789abcdef01234567'), 'name': 'Bob'}])
";

#[tokio::test]
async fn documents_are_json_on_every_server() {
    let pki = Pki::new();
    for kind in MongoKind::all() {
        let server = Mongo::start_with(&pki, MongoSetup::of(kind)).await.unwrap();
        server.script(BASKETS).await;
        let domain = DomainFile::of("customer")
            .mongo(
                "baskets",
                &url(&server),
                "baskets",
                &[
                    "filter: {customer: '{key:int}', open: true}",
                    "sort: {_id: -1}",
                    "projection: {customer: 0, open: 0}",
                ],
            )
            .mongo(
                "first",
                &url(&server),
                "baskets",
                &["filter: {customer: '{key:int}'}", "sort: {_id: 1}", "limit: 1", "rows: one"],
            )
            .mongo(
                "count",
                &url(&server),
                "baskets",
                &[
                    "pipeline:",
                    "  - $match: {customer: '{key:int}'}",
                    "  - $group: {_id: null, count: {$sum: 1}, key: {$max: '{key}'}}",
                    "  - $project: {_id: 0}",
                    "rows: one",
                ],
            );
        let sidecar = sidecar(&pki, &domain).await;
        let got = sidecar.get("/v2/customers/42").await;
        assert_eq!(
            (got.status, got.text()),
            (
                200,
                concat!(
                    r#"{"baskets":[{"_id":2,"total":2.00},{"_id":1,"total":1.10}],"#,
                    r#""first":{"_id":1,"customer":42,"open":true,"total":1.10},"#,
                    r#""count":{"count":3,"key":"42"}}"#
                )
            ),
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn no_document_is_what_missing_says_and_two_are_a_failure() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    server.script(BASKETS).await;
    let filter = "filter: {customer: '{key:int}', open: true}";
    let ask = async |lines: &[&str], key: &str| {
        let lines = [&[filter], lines].concat();
        let sidecar = sidecar(&pki, &domain(&server, &lines)).await;
        sidecar.get(&format!("/v2/customers/{key}")).await
    };
    let rows = ("baskets".to_owned(), "rows".to_owned());
    let failed = ask(&["rows: one"], "1").await.failed_sources("source-failed", 502);
    assert_eq!(failed, std::slice::from_ref(&rows));
    let got = ask(&["rows: one", "missing: {total: 0}"], "1").await;
    assert_eq!(got.text(), r#"{"baskets":{"total":0}}"#);
    ask(&["rows: one", "missing: not-found"], "1").await.problem("not-found", 404);
    assert_eq!(ask(&[], "1").await.text(), r#"{"baskets":[]}"#);
    let failed = ask(&["rows: one"], "42").await.failed_sources("source-failed", 502);
    assert_eq!(failed, [rows]);
}

#[tokio::test]
async fn hostile_keys_match_nothing() {
    let pki = Pki::new();
    for kind in MongoKind::all() {
        let server = Mongo::start_with(&pki, MongoSetup::of(kind)).await.unwrap();
        server.script(BASKETS).await;
        server.script("db.customers.insert_one({'_id': '$name', 'name': '$name'})").await;
        let domain = DomainFile::of("customer")
            .head("key: '(?s).+'")
            .mongo("found", &url(&server), "customers", &["filter: {_id: '{key}'}"])
            .mongo(
                "computed",
                &url(&server),
                "customers",
                &["pipeline: [{$match: {$expr: {$eq: ['$name', '{key}']}}}, {$project: {_id: 1}}]"],
            );
        let sidecar = sidecar(&pki, &domain).await;
        for key in ["{\"$gt\": \"\"}", "$where", "$$ROOT", "' or 1=1 --", "\\\"'", &"$".repeat(512)]
        {
            let encoded = utf8_percent_encode(key, NON_ALPHANUMERIC);
            let got = sidecar.get(&format!("/v2/customers/{encoded}")).await;
            assert_eq!(got.text(), r#"{"found":[],"computed":[]}"#, "{kind:?} {key}");
        }
        let got = sidecar.get("/v2/customers/$name").await;
        let expected = r#"{"found":[{"_id":"$name","name":"$name"}],"computed":[{"_id":"$name"}]}"#;
        assert_eq!(got.text(), expected, "{kind:?}");
    }
}

#[tokio::test]
async fn a_key_of_another_type_is_the_callers_mistake() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    server.script(BASKETS).await;
    for (filter, good, bad) in [
        ("filter: {customer: '{key:int}'}", "42", &["abc", "4.2", "042", "+1", "9e9", "%20"][..]),
        (
            "filter: {_id: '{key:objectId}'}",
            "0123456789abcdef01234567",
            &["0123456789ABCDEF01234567", "0123", "z123456789abcdef01234567"],
        ),
    ] {
        let sidecar = sidecar(&pki, &domain(&server, &[filter, "retries: 3"])).await;
        for key in bad.iter().cycle().take(30) {
            let got = sidecar.get(&format!("/v2/customers/{key}")).await;
            let problem = got.problem("bad-key", 400);
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("`baskets`") && !detail.contains(key), "{detail}");
        }
        let got = sidecar.get(&format!("/v2/customers/{good}")).await;
        assert_eq!(got.status, 200, "the breaker is closed");
        let failures = sidecar.metric("bfb_source_failures_total", &[("source", "baskets")]).await;
        assert_eq!(failures, Some(0.0));
        assert_eq!(sidecar.metric("bfb_source_retries_total", &[]).await, Some(0.0));
    }
}

#[tokio::test]
async fn a_reference_is_a_value_of_the_type_that_the_file_says() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    server.script(BASKETS).await;
    let with = |reference: &str| {
        let filter = format!("filter: {{customer: '{{customer.{reference}}}'}}");
        DomainFile::of("customer")
            .mongo("customer", &url(&server), "customers", &["filter: {_id: '{key}'}", "rows: one"])
            .mongo("baskets", &url(&server), "baskets", &[&filter, "projection: {_id: 1}"])
    };
    let got = sidecar(&pki, &with("account:int")).await.get("/v2/customers/k1").await;
    assert_eq!(got.dataset()["baskets"].to_string(), r#"[{"_id":1},{"_id":2},{"_id":3}]"#);
    // As a string, 42 is another value.
    let got = sidecar(&pki, &with("account")).await.get("/v2/customers/k1").await;
    assert_eq!(got.dataset()["baskets"].to_string(), "[]");
    for reference in ["name:int", "name:objectId", "nothing"] {
        let got = sidecar(&pki, &with(reference)).await.get("/v2/customers/k1").await;
        let failed = got.failed_sources("source-failed", 502);
        assert_eq!(failed, [("baskets".to_owned(), "missing-reference".to_owned())]);
        assert!(!got.text().contains("Ada"), "{got:?}");
    }
}

#[tokio::test]
async fn views_are_read_like_collections() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    server.script(BASKETS).await;
    server
        .script(
            "db.create_collection('open_baskets', viewOn='baskets', pipeline=[\n\
               {'$match': {'open': True}},\n\
               {'$group': {'_id': '$customer', 'total': {'$sum': '$total'}}}])",
        )
        .await;
    let lines = ["filter: {_id: '{key:int}'}", "rows: one"];
    let domain = DomainFile::of("customer").mongo("open", &url(&server), "open_baskets", &lines);
    let got = sidecar(&pki, &domain).await.get("/v2/customers/42").await;
    assert_eq!(got.text(), r#"{"open":{"_id":42,"total":3.10}}"#);
}

#[tokio::test]
async fn what_the_server_says_of_data_is_not_passed_on() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    server.script(BASKETS).await;
    for (lines, code) in [
        ("filter: {customer: {$s3cret: '{key}'}}", "(code 2)"),
        ("pipeline: [{$s3cret: 1}]", "(code "),
    ] {
        let sidecar = sidecar(&pki, &domain(&server, &[lines, "retries: 0"])).await;
        let got = sidecar.get("/v2/customers/k3y").await;
        let failed = got.failed_sources("source-failed", 502);
        assert_eq!(failed, [("baskets".to_owned(), "status".to_owned())], "{lines}");
        assert!(got.text().contains(code), "{got:?}");
        assert!(!got.text().contains("s3cret") && !got.text().contains("k3y"), "{got:?}");
    }
}

/// Makes the next so many finds fail with this code.
async fn fail_finds(server: &Mongo, times: u32, code: i32) {
    server
        .script(&format!(
            "client.admin.command('configureFailPoint', 'failCommand',\n  \
               mode={{'times': {times}}}, data={{'failCommands': ['find'], 'errorCode': {code}}})"
        ))
        .await;
}

#[tokio::test]
async fn errors_are_named_counted_and_tried_again_for_what_they_are() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    server.script(BASKETS).await;
    let filter = "filter: {customer: '{key:int}'}";
    for (code, reason, is_tried_again) in [
        (50, "timeout", true),
        (13, "status", false),
        (91, "connect", true),
        (10107, "connect", true),
        (246, "status", true),
        (43, "status", true),
        (2, "status", false),
        (9999, "status", false),
    ] {
        let sidecar = sidecar(&pki, &domain(&server, &[filter, "retries: 0"])).await;
        fail_finds(&server, 1, code).await;
        let failed = sidecar.get("/v2/customers/42").await.failed_sources("source-failed", 502);
        assert_eq!(failed, [("baskets".to_owned(), reason.to_owned())], "{code}");
        let lines = [filter, "retries: 1"];
        let sidecar = self::sidecar(&pki, &domain(&server, &lines)).await;
        fail_finds(&server, 1, code).await;
        let got = sidecar.get("/v2/customers/42").await;
        assert_eq!(got.status == 200, is_tried_again, "{code}: {got:?}");
        // What is left of the failures.
        sidecar.get("/v2/customers/43").await;
    }
}

#[tokio::test]
async fn a_part_is_bounded() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    server
        .script(
            "for size in [90, 100, 2000, 300000, 15000000]:\n  \
               db.items.insert_many([{'of': size, 'x': 'x' * (size // 10)} for i in range(10)])",
        )
        .await;
    let lines = ["filter: {of: '{key:int}'}", "projection: {_id: 0, x: 1}", "max_body: 1KiB"];
    let bounded = DomainFile::of("customer").mongo("items", &url(&server), "items", &lines);
    let sidecar = sidecar(&pki, &bounded).await;
    assert_eq!(sidecar.get("/v2/customers/90").await.status, 200);
    for key in [2_000, 300_000, 15_000_000] {
        let got = sidecar.get(&format!("/v2/customers/{key}")).await;
        let failed = got.failed_sources("source-failed", 502);
        assert_eq!(failed, [("items".to_owned(), "too-large".to_owned())], "{key}");
    }
    assert_eq!(sidecar.get("/v2/customers/90").await.status, 200);
    let lines = ["filter: {of: '{key:int}'}", "projection: {_id: 0}", "max_body: 32MiB"];
    let domain = DomainFile::of("customer").mongo("items", &url(&server), "items", &lines);
    let got = self::sidecar(&pki, &domain).await.get("/v2/customers/15000000").await;
    assert_eq!((got.status, got.text().len()), (200, 12 + 9 + 10 * (22 + 1_500_000)));
}

#[tokio::test]
async fn a_document_without_a_json_form_is_named_by_its_path() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    server.script("db.baskets.insert_one({'a': [{'b': float('nan')}], 's': 's3cret'})").await;
    let sidecar = sidecar(&pki, &domain(&server, &["filter: {}"])).await;
    let got = sidecar.get("/v2/customers/1").await;
    let failed = got.failed_sources("source-failed", 502);
    assert_eq!(failed, [("baskets".to_owned(), "not-json".to_owned())]);
    assert!(got.text().contains("`a[0].b`") && !got.text().contains("s3cret"), "{got:?}");
}

#[tokio::test]
async fn users_come_in_by_password_or_certificate() {
    let pki = Pki::new();
    let setup = MongoSetup { auth: true, ..MongoSetup::usual() };
    let Some(server) = Mongo::start_with(&pki, setup).await else { return };
    server.script(BASKETS).await;
    let ask = async |user: &str, options: &str| {
        let url = format!("mongodb://{user}{}/shop?{options}", server.addr());
        let lines = ["filter: {customer: '{key:int}'}", "projection: {_id: 1}", "retries: 0"];
        let domain = DomainFile::of("customer").mongo("baskets", &url, "baskets", &lines);
        sidecar(&pki, &domain).await.get("/v2/customers/43").await
    };
    let expected = r#"{"baskets":[{"_id":4}]}"#;
    let got = ask(&format!("{READER}:{PASSWORD}@"), "authSource=admin").await;
    assert_eq!(got.text(), expected);
    let got = ask("", "authMechanism=MONGODB-X509").await;
    assert_eq!(got.text(), expected);
    for (user, options, reason) in [
        (format!("{READER}:wr0ng@"), "authSource=admin", "connect"),
        (format!("{READER}:{PASSWORD}@"), "authSource=other", "connect"),
        (String::new(), "", "status"),
    ] {
        let got = ask(&user, options).await;
        let failed = got.failed_sources("source-failed", 502);
        assert_eq!(failed, [("baskets".to_owned(), reason.to_owned())], "{user}{options}");
        assert!(!got.text().contains("wr0ng") && !got.text().contains(PASSWORD), "{got:?}");
    }
}

#[tokio::test]
async fn the_servers_certificate_must_be_right_whether_it_asks_for_ours_or_not() {
    let pki = Pki::new();
    let filter = "filter: {customer: '{key:int}'}";
    for asks in [Asks::Always, Asks::Optionally, Asks::Never] {
        let setup = MongoSetup { asks, ..MongoSetup::usual() };
        let Some(server) = Mongo::start_with(&pki, setup).await else { return };
        let sidecar = sidecar(&pki, &domain(&server, &[filter, "mutual: no"])).await;
        assert_eq!(sidecar.get("/v2/customers/1").await.text(), r#"{"baskets":[]}"#, "{asks:?}");
        let labels = [("source", "baskets")];
        assert_eq!(sidecar.metric("bfb_source_mutual", &labels).await, Some(0.0));
    }
    // Its certificate is of another authority, or for another host.
    let stranger = Pki::new();
    let other = MongoSetup { leaf: Leaf::new("other").dns("other.shop"), ..MongoSetup::usual() };
    let Some(strange) = Mongo::start(&stranger).await else { return };
    let Some(other) = Mongo::start_with(&pki, other).await else { return };
    for server in [strange, other] {
        let sidecar = sidecar(&pki, &domain(&server, &[filter, "retries: 0"])).await;
        let failed = sidecar.get("/v2/customers/1").await.failed_sources("source-failed", 502);
        assert_eq!(failed, [("baskets".to_owned(), "tls".to_owned())]);
    }
}

#[tokio::test]
async fn what_is_recorded_is_replayed_without_the_database() {
    let pki = Pki::new();
    let Some(server) = Mongo::start(&pki).await else { return };
    server.script(BASKETS).await;
    let lines = ["filter: {_id: '{key:int}'}", "rows: one", "missing: not-found"];
    let domain = domain(&server, &lines);
    let tape = tempfile::tempdir().unwrap();
    let folder = tape.path().join("tape");
    let recording = Setup::of(&[&domain]).identity(&pki).arg("--record").arg(&folder).start().await;
    let first = recording.get("/v2/customers/4").await;
    assert_eq!(first.status, 200, "{first:?}");
    recording.get("/v2/customers/9").await.problem("not-found", 404);
    drop((server, recording));
    let replaying = Setup::of(&[&domain]).arg("--replay").arg(&folder).start().await;
    assert_eq!(replaying.get("/v2/customers/4").await.text(), first.text());
    replaying.get("/v2/customers/9").await.problem("not-found", 404);
    let failed = replaying.get("/v2/customers/2").await.failed_sources("source-failed", 502);
    assert_eq!(failed, [("baskets".to_owned(), "connect".to_owned())]);
}
