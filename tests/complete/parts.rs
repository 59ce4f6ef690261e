//! The content of a complete dataset: every part, byte for byte, and the meanings of a 404.

use super::{SECRET, holds_no_data, part};
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::sidecar::Setup;
use crate::support::upstream::Reply;

#[tokio::test]
async fn a_dataset_holds_every_part_under_its_sources_name() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/profile/42", [part()]);
    upstream.answers("/accounts/A-1/orders", [Reply::json("[1,2]")]);
    upstream.answers("/favorites/42", [Reply::json("null")]);
    let domain = DomainFile::of("customer")
        .source("profile", &upstream, "/profile/{key}", &[])
        .source("orders", &upstream, "/accounts/{profile.account_id}/orders", &[])
        .source("favorites", &upstream, "/favorites/{key}", &[]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    let got = sidecar.get("/v2/customers/42").await;
    let profile = format!(r#"{{"account_id":"A-1","secret":"{SECRET}"}}"#);
    let expected = format!(r#"{{"profile":{profile},"orders":[1,2],"favorites":null}}"#);
    assert_eq!(got.dataset(), serde_json::from_str::<serde_json::Value>(&expected).unwrap());
    assert_eq!(got.text(), expected, "in the file's order, nothing added");
}

#[tokio::test]
async fn parts_pass_byte_for_byte_where_a_version_has_no_shape() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    let raw = concat!(
        "{ \"price\" : 1.10, \"big\": 123456789012345678901234567890,\n\t",
        "\"tiny\":1e-400, \"minus\":-0.0,",
        " \"escaped\":\"\\u00e9\\/\\ud83d\\ude00\", \"plain\":\"é😀\", \"twice\":1, \
         \"twice\":2,\r\n \"empty\" : [ ] }",
    );
    upstream.answers("/profile/42", [Reply::json(format!("\n  {raw}\r\n"))]);
    upstream.answers("/count/42", [Reply::json(" 10000000000000000000000.000 ")]);
    let domain = DomainFile::of("customer")
        .source("profile", &upstream, "/profile/{key}", &[])
        .source("count", &upstream, "/count/{key}", &[]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    let got = sidecar.get("/v2/customers/42").await;
    assert_eq!(got.status, 200, "{got:?}");
    assert_eq!(got.text(), format!("{{\"profile\":{raw},\"count\":10000000000000000000000.000}}"));
}

#[tokio::test]
async fn a_404_that_means_not_found_is_a_404_with_the_domain_and_nothing_else() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/favorites/7", [part()]);
    let domain = DomainFile::of("customer")
        .source("profile", &upstream, "/profile/{key}", &["missing: not-found"])
        .source("favorites", &upstream, "/favorites/{key}", &[]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    let got = sidecar.get("/v2/customers/7").await;
    let problem = got.problem("not-found", 404);
    assert_eq!(problem["domain"], "customer");
    assert!(problem.get("failed").is_none(), "{problem}");
    holds_no_data(&got);
}

#[tokio::test]
async fn a_404_that_means_a_value_is_that_value() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/profile/42", [Reply::json("{}")]);
    let mut domain = DomainFile::of("customer").source("profile", &upstream, "/profile/{key}", &[]);
    let values = [("a", "[]"), ("b", "null"), ("c", "0"), ("d", "'none'"), ("e", "{points: 0}")];
    for (name, value) in values {
        domain = domain.source(
            name,
            &upstream,
            &format!("/{name}/{{key}}"),
            &[&format!("missing: {value}")],
        );
    }
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    let expected = serde_json::json!({
        "profile": {}, "a": [], "b": null, "c": 0, "d": "none", "e": {"points": 0},
    });
    assert_eq!(sidecar.get("/v2/customers/42").await.dataset(), expected);
}

#[tokio::test]
async fn pages_are_joined_or_cut_only_where_the_file_says_so() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    for (name, base) in [("all", 1), ("first", 5)] {
        let next = format!("</{name}/42?page=2>; rel=next");
        upstream.answers(
            &format!("/{name}/42"),
            [Reply::json(format!("[{base},1.10]")).header("link", &next)],
        );
        upstream.answers(&format!("/{name}/42?page=2"), [Reply::json(format!("[{}]", base + 1))]);
    }
    let domain = DomainFile::of("customer")
        .source("all", &upstream, "/all/{key}", &["pages: follow", "max_pages: 2"])
        .source("first", &upstream, "/first/{key}", &["pages: first"]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    let got = sidecar.get("/v2/customers/42").await;
    assert_eq!(got.dataset(), serde_json::json!({"all": [1, 1.1, 2], "first": [5, 1.1]}));
    assert!(got.text().contains("1.10"), "{got:?}");
}

#[tokio::test]
async fn a_value_goes_into_a_url_as_written_and_cannot_leave_its_place() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    let values = [
        ("12345678901234567890123", "12345678901234567890123"),
        ("1.10", "1.10"),
        ("true", "true"),
        (r#""A-1""#, "A-1"),
        (r#""a/b?c#d""#, "a%2Fb%3Fc%23d"),
        (r#""\u0041""#, "A"),
    ];
    let domain = DomainFile::of("customer").source("profile", &upstream, "/profile", &[]).source(
        "orders",
        &upstream,
        "/accounts/{profile.account.id}/orders",
        &["missing: []"],
    );
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    for (value, segment) in values {
        upstream.answers("/profile", [Reply::json(format!(r#"{{"account":{{"id":{value}}}}}"#))]);
        sidecar.get("/v2/customers/42").await.dataset();
        let target = upstream.received().last().unwrap().target.clone();
        let inside = target
            .strip_prefix("/accounts/")
            .and_then(|rest| rest.strip_suffix("/orders"))
            .unwrap();
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
        };
        assert!(!inside.contains(['/', '?', '#']), "{value}: {target}");
        assert_eq!(decoded(inside), decoded(segment), "{value}: {target}");
    }
}
