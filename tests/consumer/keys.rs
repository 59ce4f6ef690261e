//! The key: one segment, decoded once, UTF-8, at most 512 bytes, and named everywhere by the
//! decoded text.

use super::over_one;
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::sidecar::Setup;

/// The key in a request to the source, decoded.
fn asked_for(target: &str) -> String {
    let encoded = target.strip_prefix("/part?key=").unwrap();
    percent_encoding::percent_decode_str(encoded).decode_utf8().unwrap().into_owned()
}

#[tokio::test]
async fn a_key_is_its_text_and_no_number() {
    let (sidecar, upstream) = over_one("[0-9]{1,18}").await;
    for key in ["42", "042", "%34%32"] {
        sidecar.get(&format!("/v2/customers/{key}")).await.dataset();
    }
    let keys: Vec<_> =
        upstream.received().iter().map(|request| asked_for(&request.target)).collect();
    assert_eq!(keys, ["42", "042", "42"]);
}

#[tokio::test]
async fn any_text_of_at_most_512_bytes_is_a_key_that_cannot_leave_its_place() {
    let (sidecar, upstream) = over_one("(?s).+").await;
    let keys =
        ["a/b", ".../x", "a b", "ä", "%2F", "a?b=c&d#e", "😀", "a+b", "%", "a\\b", "..%2f", "..;"];
    let keys: Vec<String> = keys
        .iter()
        .map(|key| (*key).to_owned())
        .chain(["x".repeat(512), "ä".repeat(256)])
        .collect();
    for key in &keys {
        sidecar.get(&format!("/v2/customers/{}", encoded(key))).await.dataset();
        assert_eq!(asked_for(&upstream.received().last().unwrap().target), *key);
    }
}

/// Every byte of `key` as an escape.
fn encoded(key: &str) -> String {
    let escapes = key.bytes().map(|byte| format!("%{byte:02X}"));
    escapes.collect::<Vec<_>>().concat()
}

/// nginx decodes `..%2fadmin%2fusers` before it routes: we would send it a request for
/// `/admin/users`.
#[tokio::test]
async fn a_key_that_a_proxy_could_take_for_a_way_elsewhere_is_bad_key_whatever_the_pattern_says() {
    let (sidecar, upstream) = over_one("(?s).+").await;
    let keys = [
        "../admin/users",
        "../x",
        "x/..",
        "a/./b",
        "..\\x",
        "a\\..\\b",
        "x\u{0}y",
        "\r\nx: y",
        "a\u{7f}",
        "a\u{85}b",
    ];
    for key in
        keys.map(encoded).iter().map(String::as_str).chain(["..%2fadmin%2fusers", "..%5cadmin"])
    {
        sidecar.get(&format!("/v2/customers/{key}")).await.problem("bad-key", 400);
    }
    assert!(upstream.received().is_empty(), "{:?}", upstream.received());
}

#[tokio::test]
async fn without_a_pattern_a_key_is_one_segment() {
    let (sidecar, upstream) = over_one("").await;
    for key in ["a%2Fb", "a%5Cb", "a%0Ab"] {
        sidecar.get(&format!("/v2/customers/{key}")).await.problem("bad-key", 400);
    }
    assert!(upstream.received().is_empty());
    sidecar.get("/v2/customers/a%20b").await.dataset();
}

#[tokio::test]
async fn a_key_that_does_not_match_is_bad_key_and_no_source_is_asked() {
    let (sidecar, upstream) = over_one("[0-9]{1,18}").await;
    let long = "1".repeat(513);
    let escaped_long = "%31".repeat(513);
    let bad = [
        "abc",
        "42a",
        "a42",
        "4%0a2",
        "42%0A",
        "-1",
        "4 2".replace(' ', "%20").as_str(),
        "%00",
        "42%00",
        "%2F",
        "..%2f",
        "%2e%2e%2fadmin",
        "..%2f..%2fetc%2fpasswd",
        "42%0d%0aX-Injected:%201",
        "%ff",
        "%c3%28",
        "%ed%a0%80",
        "%zz",
        "%4",
        "%",
        "42%",
        "%252f",
        "%F0%9F%98%80",
        &long,
        &escaped_long,
        "..",
        ".",
        "%2e",
        "%2E%2E",
    ]
    .map(str::to_owned);
    for key in bad {
        let got = sidecar.get(&format!("/v2/customers/{key}")).await;
        let problem = got.problem("bad-key", 400);
        assert!(!problem["detail"].as_str().unwrap_or_default().is_empty(), "{key}: {problem}");
    }
    assert!(upstream.received().is_empty(), "{:?}", upstream.received());
}

#[tokio::test]
async fn a_bad_key_is_not_repeated_in_the_problem() {
    let (sidecar, _upstream) = over_one("[0-9]{1,18}").await;
    for key in ["anna.s3cret%40example.org", "%FFs3cret"] {
        let got = sidecar.get(&format!("/v2/customers/{key}")).await;
        got.problem("bad-key", 400);
        assert!(!got.text().contains("s3cret"), "{got:?}");
    }
}

#[tokio::test]
async fn a_dot_segment_is_bad_key_even_where_everything_is_a_key() {
    let (sidecar, upstream) = over_one("").await;
    for key in [".", "..", "%2e", "%2E.", "%2e%2e"] {
        sidecar.get(&format!("/v2/customers/{key}")).await.problem("bad-key", 400);
    }
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn a_key_of_64_kib_is_refused_and_the_sidecar_serves_on() {
    let (sidecar, upstream) = over_one("").await;
    // 20 KiB fit into a request's head, 64 KiB do not.
    sidecar.get(&format!("/v2/customers/{}", "x".repeat(20 * 1024))).await.problem("bad-key", 400);
    let long = "x".repeat(64 * 1024);
    let got = sidecar
        .raw(format!(
            "GET /v2/customers/{long} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ))
        .await;
    assert!(
        got.starts_with("HTTP/1.1 414 ")
            || got.starts_with("HTTP/1.1 431 ")
            || got.starts_with("HTTP/1.1 400 "),
        "{got}"
    );
    assert!(upstream.received().is_empty());
    sidecar.get("/v2/customers/42").await.dataset();
}

#[tokio::test]
async fn a_key_cannot_leave_its_segment_of_a_sources_path() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    let domain = DomainFile::of("customer").head("key: '.+'");
    let domain = domain.source("part", &upstream, "/customers/{key}/part", &["missing: not-found"]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    for key in ["a%2Fb", "%3Fx=1", "%23x", "%252e%252e", "a%5Cb", "%3B", "a%26b", "@x", ":80"] {
        sidecar.get(&format!("/v2/customers/{key}")).await.problem("not-found", 404);
        let target = upstream.received().last().unwrap().target.clone();
        let inside =
            target.strip_prefix("/customers/").and_then(|rest| rest.strip_suffix("/part")).unwrap();
        assert!(
            !inside.contains(['/', '?', '#', '\\']) && !["", ".", ".."].contains(&inside),
            "{key}: {target}"
        );
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
        };
        assert_eq!(decoded(inside), decoded(key));
    }
}
