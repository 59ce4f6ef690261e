//! 10 000 requests while each of four upstreams fails at random, one request in ten: no answer is
//! partial.
//!
//! A source that fails with 0.1 and gets one retry fails with 0.01: four of them succeed with
//! 0.99^4 = 0.96. Without retries it would be 0.9^4 = 0.66.

#![allow(clippy::print_stderr, reason = "the figure is part of the result")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::{SECRET, holds_no_data};
use crate::support::client::{ClientResponse, HttpVersion};
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{ReceivedRequest, Reply, Upstream};

const REQUESTS: usize = 10_000;
const CONCURRENCY: usize = 64;
const SOURCES: [&str; 4] = ["profile", "favorites", "reviews", "orders"];

/// Answers with a part about the key, or one time in ten with a failure.
fn flaky(name: &'static str) -> impl Fn(&ReceivedRequest) -> Reply + Send + Sync {
    move |request| {
        let key = request.target.split_once("?key=").unwrap().1;
        let part = Reply::json(format!(
            r#"{{"source":"{name}","key":"{key}","secret":"{SECRET}","items":[1,2,3]}}"#
        ));
        match fastrand::u32(0..40) {
            0 => Reply::status(503),
            1 => Reply::hang_up(),
            2 => part.cut(),
            3 => Reply::json(r#"{"source":"x"#),
            _ => part,
        }
    }
}

#[derive(Default)]
struct Tally {
    begun: AtomicUsize,
    complete: AtomicUsize,
    problems: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_partial_while_four_upstreams_fail_at_random() {
    let pki = Pki::new();
    let mut upstreams: Vec<Upstream> = Vec::new();
    let mut domain = DomainFile::of("customer");
    for name in SOURCES {
        let upstream = mutual(&pki).await;
        upstream.handles("/part", flaky(name));
        domain = domain.source(name, &upstream, "/part?key={key}", &[]);
        upstreams.push(upstream);
    }
    let sidecar = Arc::new(Setup::of(&[&domain]).identity(&pki).start().await);
    let tally = Arc::new(Tally::default());
    let mut consumers = JoinSet::new();
    for _ in 0..CONCURRENCY {
        consumers.spawn(consume(sidecar.clone(), tally.clone()));
    }
    while let Some(ended) = consumers.join_next().await {
        ended.unwrap();
    }
    let complete = tally.complete.load(Ordering::SeqCst);
    let problems = tally.problems.load(Ordering::SeqCst);
    assert_eq!(complete + problems, REQUESTS);
    let requests: usize = upstreams.iter().map(|upstream| upstream.received().len()).sum();
    eprintln!(
        "{complete} of {REQUESTS} complete, the rest one problem each; without retries 6561; \
         {requests} requests upstream"
    );
    assert!(
        complete * 100 >= REQUESTS * 90,
        "retries bring {complete} of {REQUESTS}, expected about 9600"
    );
    // 40 000 requests and a retry for every tenth: retries would not multiply the load of an outage
    // either.
    assert!(requests * 10 <= REQUESTS * SOURCES.len() * 13, "{requests} requests upstream");
    for name in SOURCES {
        let opened = sidecar
            .metric("bfb_source_failures_total", &[("source", name), ("reason", "breaker-open")])
            .await;
        assert!(
            opened.unwrap_or_default() < 1.0,
            "random errors of 10 % opened the breaker of {name}"
        );
    }
}

async fn consume(sidecar: Arc<Sidecar>, tally: Arc<Tally>) {
    let mut consumer = sidecar.consumer(HttpVersion::Http1);
    loop {
        let key = tally.begun.fetch_add(1, Ordering::SeqCst);
        if key >= REQUESTS {
            return;
        }
        let got = consumer.get(&format!("/v2/customers/{key}")).await.unwrap();
        if got.status == 200 {
            is_complete(&got, key);
            tally.complete.fetch_add(1, Ordering::SeqCst);
        } else {
            is_one_problem(&got);
            tally.problems.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn is_complete(got: &ClientResponse, key: usize) {
    let whole = got.dataset();
    assert_eq!(whole.as_object().unwrap().len(), SOURCES.len(), "{got:?}");
    for name in SOURCES {
        assert_eq!(whole[name]["source"], name, "{got:?}");
        assert_eq!(whole[name]["key"], key.to_string(), "{got:?}");
        assert_eq!(whole[name]["items"], serde_json::json!([1, 2, 3]), "{got:?}");
    }
}

fn is_one_problem(got: &ClientResponse) {
    let failed = got.failed_sources("source-failed", 502);
    assert!(!failed.is_empty(), "{got:?}");
    for (source, reason) in failed {
        assert!(SOURCES.contains(&source.as_str()), "{source}");
        assert!(
            ["status", "incomplete", "connect", "tls", "not-json"].contains(&reason.as_str()),
            "{source}: {reason}"
        );
    }
    holds_no_data(got);
}
