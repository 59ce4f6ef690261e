//! Time: timeouts, the deadline, slots, retries and their budget, the breaker.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bfb::sources::{BreakerState, Reason, SourcesMetrics};
use tokio::time::Instant;

use super::{TestRequest, default_request, fetch, fetch_error, part, setup};
use crate::support::upstream::{Reply, Upstream};

#[tokio::test]
async fn a_timeout_bounds_a_request_up_to_the_last_byte() {
    let upstream = Upstream::plain().await;
    upstream.answers("/never", [Reply::never()]);
    upstream.answers("/stuck", [Reply::json("[1,").stuck()]);
    for (target, timeout_ms, words) in [
        ("/never", 60, "no answer within 60ms"),
        // Within three seconds the head has arrived, on a busy machine too.
        ("/stuck", 3_000, "answered 200, but the body was not whole"),
    ] {
        let timeout = Some(Duration::from_millis(timeout_ms));
        let client = setup(upstream.origin()).with(|source| source.timeout = timeout).client();
        let failure = fetch_error(&client, target).await;
        assert_eq!(failure.reason, Reason::Timeout);
        assert!(failure.detail.contains(words), "{failure}");
    }
}

#[tokio::test]
async fn the_deadline_bounds_everything() {
    let upstream = Upstream::plain().await;
    upstream.answers("/never", [Reply::never()]);
    let client = setup(upstream.origin()).with(|source| source.retries = 5).client();
    let request = TestRequest { within: Duration::from_millis(80), ..default_request() };
    let (answer, attempts) = request.of(&client, "/never").await;
    assert!(answer.unwrap_err().detail.contains("what the deadline left"));
    assert_eq!(attempts.len(), 1);
}

#[tokio::test]
async fn who_waits_for_a_slot_waits_until_the_deadline() {
    let upstream = Upstream::plain().await;
    upstream.answers("/never", [Reply::never()]);
    upstream.answers("/", [Reply::json("1")]);
    let client =
        setup(upstream.origin()).with(|source| source.concurrency = NonZeroUsize::MIN).client();
    let holder = default_request();
    let held = async { holder.of(&client, "/never").await };
    let waiter = async {
        upstream.requests(1).await;
        assert_eq!(client.state().inflight, 1);
        TestRequest { within: Duration::from_millis(60), ..default_request() }
            .of(&client, "/")
            .await
    };
    let (answer, attempts) =
        tokio::select! { _ = held => panic!("it never answers"), outcome = waiter => outcome };
    let failure = answer.unwrap_err();
    assert_eq!((failure.reason, attempts.len()), (Reason::Timeout, 1));
    assert!(failure.detail.contains("for one of its 1 slots"), "{failure}");
    // The holder was dropped: its slot is free again.
    assert_eq!(client.state().inflight, 0);
    part(fetch(&client, "/").await.unwrap());
}

#[tokio::test]
async fn trouble_is_retried_and_each_request_has_a_span_of_its_own() {
    let ok = || Reply::json("1");
    for failure in [
        Reply::status(503),
        Reply::status(500),
        Reply::status(429),
        Reply::json("[1,").cut(),
        Reply::json("{\"a\":\"x"),
        Reply::json("{\"a\":\"x").header("content-length", "20").cut(),
        Reply::json(""),
        Reply::json("no"),
        Reply::json(b"\"\xc3".to_vec()),
        Reply::json("<p>").typed("text/html"),
    ] {
        let upstream = Upstream::plain().await;
        upstream.answers("/", [failure.clone(), failure, ok()]);
        let client = setup(upstream.origin()).with(|source| source.retries = 2).client();
        let (answer, attempts) = default_request().of(&client, "/").await;
        part(answer.unwrap());
        let spans: std::collections::HashSet<_> = upstream
            .received()
            .iter()
            .map(|request| request.header("traceparent").to_owned())
            .collect();
        assert_eq!((attempts.len(), spans.len()), (3, 3));
        assert!(attempts[0].reason.is_some() && attempts[2].reason.is_none());
    }
}

#[tokio::test]
async fn a_timeout_is_retried_where_time_is_left() {
    let upstream = Upstream::plain().await;
    upstream.answers("/", [Reply::never(), Reply::json("1")]);
    let client = setup(upstream.origin())
        .with(|source| (source.retries, source.timeout) = (1, Some(Duration::from_secs(2))))
        .client();
    part(fetch(&client, "/").await.unwrap());
}

#[tokio::test]
async fn what_would_fail_again_is_asked_once() {
    for reply in [
        Reply::status(400),
        Reply::status(404),
        Reply::status(501),
        Reply::status(505),
        Reply::status(204),
        Reply::status(302),
        Reply::json("[".repeat(1_000)),
        Reply::json("1").header("content-encoding", "gzip"),
        Reply::json("").endless(),
        Reply::json("[]").header("link", "<x>; rel=next"),
    ] {
        let upstream = Upstream::plain().await;
        upstream.answers("/", [reply]);
        let failure =
            fetch_error(&setup(upstream.origin()).with(|source| source.retries = 3).client(), "/")
                .await;
        assert_eq!((upstream.received().len(), failure.retry), (1, false), "{failure}");
    }
}

#[tokio::test]
async fn the_last_failure_keeps_its_reason() {
    let upstream = Upstream::plain().await;
    for (first, second, reason) in [
        (Reply::status(503), Reply::json("{\"a\":"), Reason::NotJson),
        (Reply::json("{\"a\":"), Reply::status(503), Reason::Status),
        (Reply::json("{\"a\":"), Reply::json("[1,").cut(), Reason::Incomplete),
    ] {
        upstream.answers("/", [first, second]);
        let client = setup(upstream.origin()).with(|source| source.retries = 1).client();
        assert_eq!(fetch_error(&client, "/").await.reason, reason);
    }
}

#[tokio::test]
async fn retry_after_is_waited_for_or_not_at_all() {
    let upstream = Upstream::plain().await;
    upstream.answers("/", [Reply::status(503).header("retry-after", "1"), Reply::json("1")]);
    let client = setup(upstream.origin()).with(|source| source.retries = 1).client();
    let started = Instant::now();
    part(fetch(&client, "/").await.unwrap());
    assert!(started.elapsed() >= Duration::from_secs(1));
    upstream.answers("/", [Reply::status(429).header("retry-after", "60"), Reply::json("1")]);
    let failure = fetch_error(&client, "/").await;
    assert_eq!((failure.retry_after, failure.retry), (Some(Duration::from_mins(1)), true));
}

#[tokio::test]
async fn an_outage_is_not_multiplied() {
    let upstream = Upstream::plain().await;
    // A 429 is retried, but the breaker does not count it, so only the budget limits the retries.
    upstream.handles("/", |request| {
        if request.target == "/?bad" { Reply::status(429) } else { Reply::json("1") }
    });
    let mut registry = prometheus_client::registry::Registry::with_prefix("bfb");
    let mut setup = setup(upstream.origin()).with(|source| source.retries = 9);
    setup.shared.metrics = SourcesMetrics::register(&mut registry);
    let client = setup.client();
    for _ in 0..10 {
        for _ in 0..5 {
            part(fetch(&client, "/").await.unwrap());
        }
        fetch_error(&client, "/?bad").await;
    }
    // 60 requests give a fifth of them as retries, and twenty are free.
    let retries = upstream.received().len() - 60;
    assert!((20..=32 + 4).contains(&retries), "{retries} retries");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("bfb_source_retry_budget_exhausted_total{source=\"orders\"}"), "{text}");
    assert!(
        text.contains("bfb_source_requests_total{source=\"orders\",result=\"ok\"} 50"),
        "{text}"
    );
    assert!(
        text.contains("bfb_source_failures_total{source=\"orders\",reason=\"status\"} 10"),
        "{text}"
    );
    assert!(
        text.contains(&format!("bfb_source_retries_total{{source=\"orders\"}} {retries}")),
        "{text}"
    );
}

#[tokio::test]
async fn twenty_failures_in_a_row_open_the_breaker_and_it_says_for_how_long() {
    let upstream = Upstream::plain().await;
    upstream.answers("/", [Reply::status(500)]);
    let client = setup(upstream.origin()).client();
    for _ in 0..20 {
        assert_eq!(fetch_error(&client, "/").await.reason, Reason::Status);
    }
    let (answer, attempts) = default_request().of(&client, "/").await;
    let failure = answer.unwrap_err();
    assert_eq!(
        (failure.reason, attempts.len(), upstream.received().len()),
        (Reason::BreakerOpen, 0, 20)
    );
    let wait = failure.retry_after.unwrap();
    // The rest of five seconds, and up to a tenth more.
    assert!((1..=6).contains(&wait.as_secs()) && wait.subsec_nanos() == 0, "{wait:?}");
    let state = client.state();
    assert_eq!((state.breaker, state.failed_in_a_row), (BreakerState::Open, 21));
    assert_eq!(state.last_failure.unwrap().0, Reason::BreakerOpen);
}

#[tokio::test]
async fn refusals_do_not_open_the_breaker() {
    let upstream = Upstream::plain().await;
    upstream.answers("/html", [Reply::json("<").typed("text/html")]);
    let client = setup(upstream.origin()).client();
    for i in 0..60 {
        fetch_error(&client, if i % 2 == 0 { "/404" } else { "/html" }).await;
    }
    assert_eq!((client.state().breaker, upstream.received().len()), (BreakerState::Closed, 60));
}

#[tokio::test]
async fn a_cancelled_request_gives_back_what_it_held() {
    let upstream = Upstream::plain().await;
    upstream.answers("/never", [Reply::never()]);
    let client = setup(upstream.origin())
        .with(|source| source.concurrency = NonZeroUsize::new(2).unwrap())
        .client();
    for sent in 1..=40 {
        let request = default_request();
        tokio::select! {
            _ = request.of(&client, "/never") => panic!("it never answers"),
            _ = upstream.requests(sent) => {}
        }
    }
    let state = client.state();
    assert_eq!(
        (state.inflight, state.breaker, state.failed_in_a_row),
        (0, BreakerState::Closed, 0)
    );
}

#[tokio::test]
async fn one_retry_saves_almost_all_of_ten_percent_random_errors() {
    for error in [Reply::status(503), Reply::json("{\"a\":\"x")] {
        one_retry_saves_almost_all(error).await;
    }
}

async fn one_retry_saves_almost_all(error: Reply) {
    let upstream = Upstream::plain().await;
    let rng = std::sync::Mutex::new(fastrand::Rng::with_seed(3));
    upstream.handles("/", move |_| match rng.lock().unwrap().u32(..10) {
        0 => error.clone(),
        _ => Reply::json("1"),
    });
    let client = Arc::new(setup(upstream.origin()).with(|source| source.retries = 1).client());
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let client = Arc::clone(&client);
        asking.spawn(async move {
            let mut failed = 0;
            for _ in 0..32 {
                failed += u32::from(fetch(&client, "/").await.is_err());
            }
            failed
        });
    }
    let failed: u32 = asking.join_all().await.into_iter().sum();
    // Two requests leave one failure in a hundred; with this seed there are fewer than one in
    // fifty.
    assert!(failed <= 2 * 64 * 32 / 100, "{failed} of 2048 failed");
    assert_eq!(client.state().breaker, BreakerState::Closed);
}

#[tokio::test]
async fn a_deadline_that_has_passed_costs_the_source_nothing() {
    let upstream = Upstream::plain().await;
    let client = setup(upstream.origin()).with(|source| source.retries = 3).client();
    let (answer, attempts) =
        TestRequest { within: Duration::ZERO, ..default_request() }.of(&client, "/").await;
    assert_eq!(
        (answer.unwrap_err().reason, attempts.len(), upstream.connections()),
        (Reason::Timeout, 0, 0)
    );
}

#[tokio::test]
async fn a_timeout_counts_for_the_breaker_only_where_the_source_had_a_fair_time() {
    let upstream = Upstream::plain().await;
    upstream.answers("/", [Reply::never()]);
    for (timeout, expected) in
        [(Some(Duration::from_millis(10)), BreakerState::Open), (None, BreakerState::Closed)]
    {
        let client = setup(upstream.origin()).with(|source| source.timeout = timeout).client();
        for _ in 0..20 {
            let within =
                if timeout.is_some() { Duration::from_secs(5) } else { Duration::from_millis(10) };
            let answer = TestRequest { within, ..default_request() }.of(&client, "/").await.0;
            assert_eq!(answer.unwrap_err().reason, Reason::Timeout);
        }
        assert_eq!(client.state().breaker, expected);
    }
}
