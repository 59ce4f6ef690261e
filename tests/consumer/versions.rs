//! Versions: several shapes of one dataset, their announcements, their failures, and
//! `openapi.json`.

use serde_json::json;

use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// `v1` shaped and deprecated, `v2` as it is, `v3` with a shape that fails where there is no name.
async fn three_versions() -> (Sidecar, Upstream) {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.handles("/profile", |_| Reply::json(r#"{"id":42,"name":"Anna","price":1.10}"#));
    upstream.handles("/orders", |_| {
        Reply::json(r#"[{"id":1,"total":12.50,"note":"x"},{"id":2,"total":3,"note":"y"}]"#)
    });
    let domain = DomainFile::of("customer")
        .source("profile", &upstream, "/profile?key={key}", &[])
        .source("orders", &upstream, "/orders?key={key}", &[])
        .version(
            "v1",
            &[
                "path: /v1/customers/{key}",
                "shape: '{id: .profile.id, price: .profile.price, \
                 orders: [.orders[] | {id, total}]}'",
                "deprecated: 2026-06-01",
                "sunset: 2027-06-01",
                "successor: v2",
            ],
        )
        .version("v2", &["path: /v2/customers/{key}"])
        .version(
            "v3",
            &[
                "path: /v3/{key}/all",
                "shape: \
                  '{name: (.profile.name | ascii_downcase)}'",
            ],
        );
    (Setup::of(&[&domain]).identity(&pki).start().await, upstream)
}

#[tokio::test]
async fn versions_are_shapes_of_the_same_dataset() {
    let (sidecar, _upstream) = three_versions().await;
    let v1 = sidecar.get("/v1/customers/42").await;
    let orders = json!([{"id": 1, "total": 12.5}, {"id": 2, "total": 3}]);
    assert_eq!(v1.dataset(), json!({"id": 42, "price": 1.1, "orders": orders}));
    assert!(
        v1.text().contains("1.10") && v1.text().contains("12.50"),
        "numbers pass unchanged: {}",
        v1.text()
    );
    let v2 = sidecar.get("/v2/customers/42").await.dataset();
    assert_eq!(v2["profile"]["name"], "Anna");
    assert_eq!(sidecar.get("/v3/42/all").await.dataset(), json!({"name": "anna"}));
}

#[tokio::test]
async fn a_deprecated_version_says_so_and_points_to_its_successor() {
    let (sidecar, _upstream) = three_versions().await;
    let v1 = sidecar.get("/v1/customers/42").await;
    assert_eq!(v1.header("deprecation"), "@1780272000");
    assert_eq!(v1.header("sunset"), "Tue, 01 Jun 2027 00:00:00 GMT");
    assert_eq!(v1.header("link"), "</v2/customers/42>; rel=\"successor-version\"");
    let v2 = sidecar.get("/v2/customers/42").await;
    for name in ["deprecation", "sunset", "link"] {
        assert!(!v2.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn the_link_to_a_successor_holds_the_key_encoded() {
    let (sidecar, _upstream) = three_versions().await;
    let got = sidecar.get("/v1/customers/a%3Fb%22%3E%20x").await;
    assert_eq!(got.header("link"), "</v2/customers/a%3Fb%22%3E%20x>; rel=\"successor-version\"");
}

#[tokio::test]
async fn a_shape_that_fails_is_one_problem_that_names_version_and_error_and_no_data() {
    let (sidecar, upstream) = three_versions().await;
    upstream.answers("/profile", [Reply::json(r#"{"id":42,"name":["s3cret-name"],"price":1}"#)]);
    let got = sidecar.get("/v3/42/all").await;
    let problem = got.problem("shape-failed", 502);
    assert_eq!(problem["version"], "v3");
    assert!(!problem["detail"].as_str().unwrap_or_default().is_empty(), "{problem}");
    assert!(!got.text().contains("s3cret"), "{got:?}");
    sidecar.get("/v2/customers/42").await.dataset();
    sidecar.logged("shape-failed").await;
    assert!(!sidecar.log().contains("s3cret"));
}

#[tokio::test]
async fn a_shape_that_yields_not_exactly_one_value_is_shape_failed() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/part/42", [Reply::json("[1,2]")]);
    let domain = DomainFile::of("customer")
        .source("part", &upstream, "/part/{key}", &[])
        .version("none", &["path: /none/{key}", "shape: empty"])
        .version("two", &["path: /two/{key}", "shape: '.part[]'"])
        .version("error", &["path: /error/{key}", "shape: 'error(.part)'"])
        .version("fine", &["path: /fine/{key}", "shape: '.part | length'"]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    for version in ["none", "two", "error"] {
        assert_eq!(
            sidecar.get(&format!("/{version}/42")).await.problem("shape-failed", 502)["version"],
            version
        );
    }
    assert_eq!(sidecar.get("/fine/42").await.dataset(), 2);
}

#[tokio::test]
async fn a_shape_that_costs_too_much_is_shape_failed_and_others_go_on() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/part/42", [Reply::json("1")]);
    let domain = DomainFile::of("customer")
        .source("part", &upstream, "/part/{key}", &[])
        .version(
            "dear",
            &["path: /dear/{key}", "shape: 'reduce range(1000000000) as $i (0; . + 1)'"],
        )
        .version("fine", &["path: /fine/{key}"]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    let (dear, fine) = tokio::join!(sidecar.get("/dear/42"), sidecar.get("/fine/42"));
    dear.problem("shape-failed", 502);
    fine.dataset();
}

#[tokio::test]
async fn openapi_describes_every_version() {
    let (sidecar, _upstream) = three_versions().await;
    let got = sidecar.get("/openapi.json").await;
    assert_eq!((got.status, got.header("content-type")), (200, "application/json"));
    let api = got.json();
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1."), "{api}");
    assert!(api["info"]["title"].is_string() && api["info"]["version"].is_string(), "{api}");
    let paths = api["paths"].as_object().unwrap();
    assert_eq!(
        paths.keys().collect::<Vec<_>>(),
        ["/v1/customers/{key}", "/v2/customers/{key}", "/v3/{key}/all"]
    );
    for (path, item) in paths {
        let get = &item["get"];
        assert_eq!(
            get["deprecated"].as_bool().unwrap_or(false),
            path.starts_with("/v1/"),
            "{path}"
        );
        let key = &item["parameters"][0];
        assert_eq!(
            (&key["name"], &key["in"], &key["required"]),
            (&json!("key"), &json!("path"), &json!(true)),
            "{path}"
        );
        assert!(get["operationId"].is_string(), "{path}");
        for status in ["200", "304", "400", "404", "502", "503", "504"] {
            let response = &get["responses"][status];
            assert!(
                response["description"].is_string() || response["$ref"].is_string(),
                "{path} {status}: {response}"
            );
        }
    }
    let answers = &api["paths"]["/v2/customers/{key}"]["get"]["responses"];
    let required = &answers["200"]["content"]["application/json"]["schema"];
    assert_eq!(required["required"], json!(["profile", "orders"]));
    references_resolve(&api, &api);
}

/// Every `$ref` points to something in the document.
fn references_resolve(api: &serde_json::Value, value: &serde_json::Value) {
    match value {
        serde_json::Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(|reference| reference.as_str()) {
                assert!(api.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
            }
            members.values().for_each(|member| references_resolve(api, member));
        }
        serde_json::Value::Array(items) => {
            for item in items {
                references_resolve(api, item);
            }
        }
        _ => {}
    }
}
