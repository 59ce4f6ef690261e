//! Outgoing requests: headers, reused connections, and no more at once than the domain file allows.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bfb::sources::TraceContext;
use http::HeaderValue;

use super::{TestRequest, default_request, fetch, http, part, setup};
use crate::support::upstream::{Reply, Upstream};

#[tokio::test]
async fn a_request_says_who_asks_for_what_until_when() {
    let upstream = Upstream::plain().await;
    upstream.answers("/customers/42", [Reply::json("{}")]);
    let client = setup(upstream.origin())
        .with(|source| {
            http(source).headers.insert("accept-language", HeaderValue::from_static("en"));
            source.timeout = Some(Duration::from_mins(1));
        })
        .client();
    let trace =
        TraceContext { sampled: true, tracestate: Some("a=1".into()), ..TraceContext::fresh() };
    let within = Duration::from_mins(2);
    let request = TestRequest { no_cache: true, trace: trace.clone(), within, ..default_request() };
    let (answer, attempts) = request.of(&client, "/customers/42?x=1").await;
    part(answer.unwrap());
    let received = &upstream.received()[0];
    assert_eq!((received.method.as_str(), received.target.as_str()), ("GET", "/customers/42?x=1"));
    assert_eq!(received.header("accept"), "application/json");
    assert_eq!(received.header("accept-encoding"), "identity");
    assert_eq!(received.header("accept-language"), "en");
    assert_eq!(received.header("cache-control"), "no-cache");
    assert_eq!(received.header("user-agent"), concat!("bfb/", env!("CARGO_PKG_VERSION")));
    assert_eq!(received.header("traceparent"), trace.traceparent(attempts[0].span_id));
    assert_eq!(received.header("tracestate"), "a=1");
    let left: u64 = received.header("bfb-deadline-ms").parse().unwrap();
    assert!((1..=60_000).contains(&left), "{left} ms are left of a minute");
    assert_eq!((attempts[0].status, attempts[0].reason), (Some(200), None));
}

#[tokio::test]
async fn the_file_may_choose_another_accept_but_no_encoding() {
    let upstream = Upstream::plain().await;
    upstream.answers("/", [Reply::json("1").typed("application/vnd.shop+json")]);
    let client = setup(upstream.origin())
        .with(|source| {
            let accept = HeaderValue::from_static("application/vnd.shop+json");
            http(source).headers.insert("accept", accept);
            http(source).headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
        })
        .client();
    part(fetch(&client, "/").await.unwrap());
    let received = &upstream.received()[0];
    assert_eq!(
        (received.header("accept"), received.header("accept-encoding")),
        ("application/vnd.shop+json", "identity")
    );
    assert_eq!(
        (
            received.header("cache-control"),
            received.header("if-none-match"),
            received.header("tracestate")
        ),
        ("", "", "")
    );
}

#[tokio::test]
async fn connections_are_used_again() {
    let upstream = Upstream::plain().await;
    upstream
        .answers("/", [Reply::json("1"), Reply::status(404), Reply::status(503), Reply::json("1")]);
    let client = setup(upstream.origin()).client();
    for _ in 0..6 {
        let _ = fetch(&client, "/").await;
    }
    assert_eq!((upstream.received().len(), upstream.connections()), (6, 1));
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_the_file_allows() {
    let upstream = Arc::new(Upstream::plain().await);
    upstream.answers("/", [Reply::json("1").after(Duration::from_millis(5))]);
    let client = Arc::new(
        setup(upstream.origin())
            .with(|source| source.concurrency = NonZeroUsize::new(4).unwrap())
            .client(),
    );
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let client = Arc::clone(&client);
        asking.spawn(async move { part(fetch(&client, "/").await.unwrap()) });
    }
    assert_eq!(asking.join_all().await.len(), 64);
    assert!(upstream.connections() <= 8, "{} connections", upstream.connections());
}
