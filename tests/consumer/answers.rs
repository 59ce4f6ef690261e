//! A 200 and its headers, its 304, its HEAD; and the effect of a request's `Cache-Control` without
//! a cache.

use http::Method;

use super::{over_one, setup_over_one};
use crate::support::client::{ask, get, with_header};
use crate::support::upstream::Reply;

#[tokio::test]
async fn a_200_says_what_it_is() {
    let (sidecar, _upstream) = over_one("").await;
    let got = sidecar.get("/v2/customers/42").await;
    got.dataset();
    assert_eq!(got.header("cache-control"), "private, no-cache");
    assert_eq!(got.header("cache-status"), "bfb; fwd=bypass");
    assert_eq!(got.header("age"), "0");
    assert_eq!(got.header("content-length"), got.body.len().to_string());
    let etag = got.header("etag");
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 10, "{etag}");
    assert!(!got.header("bfb-dataset").is_empty());
    for absent in ["deprecation", "sunset", "link", "vary", "set-cookie", "server-timing"] {
        assert!(!got.headers.contains_key(absent), "{absent}: {got:?}");
    }
}

#[tokio::test]
async fn the_etag_is_of_the_bytes_and_the_dataset_of_the_collection() {
    let (sidecar, upstream) = over_one("").await;
    let one = sidecar.get("/v2/customers/42").await;
    let two = sidecar.get("/v2/customers/42").await;
    assert_eq!(one.header("etag"), two.header("etag"), "the same bytes");
    assert_ne!(
        one.header("bfb-dataset"),
        two.header("bfb-dataset"),
        "nothing is kept: two collections"
    );
    upstream.answers("/part", [Reply::json("43")]);
    assert_ne!(sidecar.get("/v2/customers/42").await.header("etag"), one.header("etag"));
}

#[tokio::test]
async fn what_the_consumer_has_already_is_a_304() {
    let (sidecar, upstream) = over_one("").await;
    let full = sidecar.get("/v2/customers/42").await;
    let etag = full.header("etag").to_owned();
    for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let got = sidecar.send(with_header(get("/v2/customers/42"), "if-none-match", &known)).await;
        assert_eq!((got.status, got.body.len()), (304, 0), "{known}");
        for name in ["etag", "cache-control"] {
            assert_eq!(got.header(name), full.header(name), "{known}");
        }
        assert!(
            !got.header("bfb-dataset").is_empty() && !got.header("cache-status").is_empty(),
            "{got:?}"
        );
    }
    for other in ["\"other\"", "W/\"other\"", etag.trim_matches('"')] {
        sidecar.send(with_header(get("/v2/customers/42"), "if-none-match", other)).await.dataset();
    }
    upstream.answers("/part", [Reply::json("43")]);
    sidecar.send(with_header(get("/v2/customers/42"), "if-none-match", &etag)).await.dataset();
}

#[tokio::test]
async fn head_says_what_get_would_without_the_body() {
    let (sidecar, upstream) = over_one("").await;
    let full = sidecar.get("/v2/customers/42").await;
    let head = sidecar.send(ask(Method::HEAD, "/v2/customers/42")).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["etag", "content-type", "content-length", "cache-control"] {
        assert_eq!(head.header(name), full.header(name), "{name}");
    }
    let missing = sidecar.get("/nowhere").await;
    let head = sidecar.send(ask(Method::HEAD, "/nowhere")).await;
    assert_eq!((head.status, head.body.len()), (404, 0));
    assert_eq!(head.header("content-type"), "application/problem+json");
    assert_eq!(head.header("content-length"), missing.header("content-length"));
    upstream.answers("/part", [Reply::status(404)]);
    let failed = sidecar.send(ask(Method::HEAD, "/v2/customers/42")).await;
    assert_eq!((failed.status, failed.body.len()), (502, 0));
}

#[tokio::test]
async fn no_cache_asks_the_sources_past_their_caches() {
    let (sidecar, upstream) = over_one("").await;
    let got = sidecar
        .send(with_header(get("/v2/customers/42"), "cache-control", "max-age=0, No-Cache"))
        .await;
    got.dataset();
    assert_eq!(got.header("cache-status"), "bfb; fwd=request");
    assert_eq!(upstream.received()[0].header("cache-control"), "no-cache");
}

#[tokio::test]
async fn only_if_cached_is_not_cached_and_no_source_is_asked() {
    let (sidecar, upstream) = over_one("").await;
    let got =
        sidecar.send(with_header(get("/v2/customers/42"), "cache-control", "only-if-cached")).await;
    got.problem("not-cached", 504);
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn a_sidecar_can_be_told_to_ignore_the_wishes_of_requests() {
    let (setup, upstream) = setup_over_one("").await;
    let sidecar = setup.args(&["--request-cache-control", "ignore"]).start().await;
    for wish in ["no-cache", "only-if-cached"] {
        let got = sidecar.send(with_header(get("/v2/customers/42"), "cache-control", wish)).await;
        got.dataset();
        assert_eq!(got.header("cache-status"), "bfb; fwd=bypass", "{wish}");
    }
    assert!(upstream.received().iter().all(|request| request.header("cache-control").is_empty()));
}

#[tokio::test]
async fn explain_says_where_the_time_went() {
    let (setup, _upstream) = setup_over_one("").await;
    let sidecar = setup.arg("--explain").start().await;
    let got = sidecar.get("/v2/customers/42").await;
    let timing = got.header("server-timing");
    assert!(timing.starts_with("total;dur=") && timing.contains("part;dur="), "{timing}");
}

#[tokio::test]
async fn every_answer_says_where_the_time_went_hits_confirmations_and_errors_too() {
    for all in [true, false] {
        let (setup, upstream) = setup_over_one("").await;
        let explain = if all { &["--explain"][..] } else { &[] };
        let sidecar = setup.args(&["--memory", "1MiB"]).args(explain).start().await;
        let ask = async |request| {
            let request = if all { request } else { with_header(request, "bfb-explain", "1") };
            let got = sidecar.send(request).await;
            assert!(got.header("server-timing").starts_with("total;dur="), "{got:?}");
            got
        };
        let first = ask(get("/v2/customers/42")).await;
        let hit = ask(get("/v2/customers/42")).await;
        assert!(hit.header("cache-status").contains("hit"), "{hit:?}");
        assert!(!hit.header("server-timing").contains("part"), "no source was asked");
        let conditional =
            with_header(get("/v2/customers/42"), "if-none-match", first.header("etag"));
        assert_eq!(ask(conditional).await.status, 304);
        assert_eq!(ask(self::ask(Method::HEAD, "/v2/customers/42")).await.status, 200);
        ask(get("/nowhere")).await.problem("no-such-path", 404);
        ask(get("/v2/customers/42?a")).await.problem("bad-request", 400);
        ask(self::ask(Method::POST, "/v2/customers/42")).await.problem("method-not-allowed", 405);
        ask(with_header(get("/v2/customers/42"), "host", "elsewhere"))
            .await
            .problem("misdirected", 421);
        let only_cached = with_header(get("/v2/customers/43"), "cache-control", "only-if-cached");
        ask(only_cached).await.problem("not-cached", 504);
        upstream.answers("/part", [Reply::status(500), Reply::status(500)]);
        let failed = ask(get("/v2/customers/44")).await;
        failed.problem("source-failed", 502);
        assert!(failed.header("server-timing").contains("part;dur="), "{failed:?}");
        assert_eq!(ask(get("/openapi.json")).await.status, 200);
        if !all {
            let not_asked = with_header(get("/v2/customers/42"), "bfb-explain", "0");
            assert_eq!(sidecar.send(not_asked).await.header("server-timing"), "");
        }
    }
}

#[tokio::test]
async fn the_trace_of_a_problem_is_the_consumers_own() {
    let (sidecar, _upstream) = over_one("").await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let got = sidecar.send(with_header(get("/nowhere"), "traceparent", parent)).await;
    assert_eq!(got.problem("no-such-path", 404)["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    for broken in
        ["", "00-0-0-0", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "ff-x"]
    {
        let got = sidecar.send(with_header(get("/nowhere"), "traceparent", broken)).await;
        assert_ne!(got.problem("no-such-path", 404)["trace_id"], "0".repeat(32), "{broken}");
    }
}
