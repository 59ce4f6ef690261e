//! Parts from collections: what a document becomes, what a failure is called, and what a value can
//! do.

use crate::support::domain::DomainFile;
use crate::support::mongo::{Mongo, MongoKind, MongoSetup};
use crate::support::pki::Pki;
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
                r#"{"baskets":[{"_id":2,"total":2.00},{"_id":1,"total":1.10}],"first":{"_id":1,"customer":42,"open":true,"total":1.10},"count":{"count":3,"key":"42"}}"#
            ),
            "{kind:?}"
        );
    }
}
