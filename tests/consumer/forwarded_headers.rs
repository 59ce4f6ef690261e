//! The headers that a source receives because of a consumer's request: the trace context and the
//! time that is left, and no more.

use super::over_one;
use crate::support::client::{get, with_header};
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::sidecar::Setup;
use crate::support::upstream::Reply;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

#[tokio::test]
async fn a_source_gets_the_consumers_trace_under_a_span_of_our_own() {
    let (sidecar, upstream) = over_one("").await;
    let request =
        with_header(get("/v2/customers/42"), "traceparent", &format!("00-{TRACE}-{SPAN}-01"));
    sidecar.send(with_header(request, "tracestate", "vendor=x")).await.dataset();
    let received = &upstream.received()[0];
    let parent: Vec<_> = received.header("traceparent").split('-').collect();
    assert_eq!((parent[0], parent[1], parent[3]), ("00", TRACE, "01"), "{parent:?}");
    assert!(parent[2].len() == 16 && parent[2] != SPAN, "{parent:?}");
    assert_eq!(received.header("tracestate"), "vendor=x");
}

#[tokio::test]
async fn without_a_trace_a_source_gets_a_new_one_each_time() {
    let (sidecar, upstream) = over_one("").await;
    for _ in 0..2 {
        sidecar.get("/v2/customers/42").await.dataset();
    }
    let traces: Vec<_> = upstream
        .received()
        .iter()
        .map(|request| request.header("traceparent").to_owned())
        .collect();
    assert!(traces.iter().all(|trace| trace.len() == 55), "{traces:?}");
    assert_ne!(traces[0][3..35], traces[1][3..35]);
}

#[tokio::test]
async fn a_source_hears_how_much_time_is_left() {
    let (sidecar, upstream) = over_one("").await;
    sidecar.get("/v2/customers/42").await.dataset();
    let left: u64 = upstream.received()[0].header("bfb-deadline-ms").parse().unwrap();
    assert!((1..=30_000).contains(&left), "{left}");
}

#[tokio::test]
async fn no_other_header_of_the_consumer_reaches_a_source() {
    let (sidecar, upstream) = over_one("").await;
    let headers = [
        ("authorization", "Bearer s3cret"),
        ("cookie", "session=s3cret"),
        ("x-user", "s3cret"),
        ("user-agent", "s3cret"),
        ("accept", "text/s3cret"),
        ("accept-language", "s3cret"),
        ("forwarded", "for=s3cret"),
        ("baggage", "user=s3cret"),
        ("x-forwarded-for", "s3cret"),
        ("if-none-match", "\"s3cret\""),
        ("bfb-deadline-ms", "7"),
        ("range", "bytes=0-1"),
        ("referer", "s3cret"),
        ("bfb-after", "s3cret"),
        ("x-request-id", "s3cret"),
    ];
    let request = headers
        .iter()
        .fold(get("/v2/customers/42"), |request, (name, value)| with_header(request, name, value));
    sidecar.send(request).await.dataset();
    let received = &upstream.received()[0];
    let expected = [
        "host",
        "accept",
        "accept-encoding",
        "user-agent",
        "bfb-deadline-ms",
        "traceparent",
        "content-length",
    ];
    for (name, value) in &received.headers {
        assert!(expected.contains(&name.as_str()), "{name} reached the source");
        assert!(!value.to_str().unwrap().contains("s3cret"), "{name}: {value:?}");
    }
    assert_ne!(received.header("bfb-deadline-ms"), "7");
    assert_eq!(received.header("accept-encoding"), "identity");
}

#[tokio::test]
async fn a_source_gets_the_headers_of_its_file() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/part/42", [Reply::json("1")]);
    let lines = ["headers: {accept-language: en, x-team: '7'}"];
    let domain = DomainFile::of("customer").source("part", &upstream, "/part/{key}", &lines);
    let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
    sidecar.send(with_header(get("/v2/customers/42"), "accept-language", "de")).await.dataset();
    let received = &upstream.received()[0];
    assert_eq!((received.header("accept-language"), received.header("x-team")), ("en", "7"));
}

#[tokio::test]
async fn proxies_of_the_environment_are_ignored() {
    let (setup, upstream) = super::setup_over_one("").await;
    let nowhere = "http://127.0.0.1:9";
    let proxied =
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    let sidecar = proxied.iter().fold(setup, |setup, name| setup.env(name, nowhere)).start().await;
    sidecar.get("/v2/customers/42").await.dataset();
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn a_sources_own_cache_control_and_vary_are_not_obeyed() {
    let (sidecar, upstream) = over_one("").await;
    let reply = Reply::json("1").header("cache-control", "no-store, max-age=0").header("vary", "*");
    upstream
        .answers("/part", [reply.header("set-cookie", "a=s3cret").header("x-internal", "s3cret")]);
    let got = sidecar.get("/v2/customers/42").await;
    got.dataset();
    assert_eq!(got.header("cache-control"), "private, no-cache");
    for name in ["vary", "set-cookie", "x-internal"] {
        assert!(!got.headers.contains_key(name), "{name} reached the consumer");
    }
}
