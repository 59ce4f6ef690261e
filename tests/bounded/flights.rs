//! Flights without callers, by the thousand.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::of_four_sources;
use crate::support::client::TEST_TIMEOUT;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};
use crate::support::wire::{self, Wire};

/// How many callers send their requests and hang up together.
const TOGETHER: usize = 100;

/// Sends a request for each key of a range, many at a time, and hangs up once the sidecar has begun
/// to collect.
async fn ask_and_hang_up(sidecar: &Sidecar, keys: std::ops::Range<usize>) {
    for first in keys.step_by(TOGETHER) {
        let asking = (first..first + TOGETHER).map(|key| async move {
            let mut stream = TcpStream::connect(sidecar.listen()).await.ok()?;
            let request = format!("GET /v2/customers/{key} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            Some(stream)
        });
        let callers = futures_util::future::join_all(asking).await;
        let begun = async { while sidecar.metric("bfb_flights", &[]).await < Some(1.0) {} };
        assert!(
            tokio::time::timeout(TEST_TIMEOUT, begun).await.is_ok(),
            "nothing was ever collected"
        );
        drop(callers);
    }
}

#[tokio::test]
async fn callers_that_hang_up_leave_no_flights_behind_open_no_breaker_and_delay_nobody() {
    let upstream = Upstream::plain().await;
    upstream.forget();
    for name in super::SOURCES {
        upstream.handles(&format!("/{name}"), |_| {
            Reply::json("{\"a\":1}").after(Duration::from_millis(50))
        });
    }
    let domain = of_four_sources(&upstream).head("deadline: 10s");
    let sidecar = Setup::of(&[&domain]).insecure().args(&["--memory", "8MiB"]).start().await;
    let before = sidecar.resident_kib();
    let innocent = async {
        for key in 0..20 {
            // Each request has its deadline of ten seconds; an answer without a dataset would be a
            // problem.
            sidecar.get(&format!("/v2/customers/honest-{key}")).await.dataset();
        }
    };
    let attack = ask_and_hang_up(&sidecar, 0..6_000);
    let ((), ()) = tokio::join!(innocent, attack);
    let landed = async { while sidecar.metric("bfb_flights", &[]).await > Some(0.0) {} };
    assert!(tokio::time::timeout(TEST_TIMEOUT, landed).await.is_ok(), "flights stayed in the air");
    let abandoned = sidecar.metric("bfb_flights_abandoned_total", &[]).await.unwrap();
    assert!(abandoned > 0.0, "nobody hung up: the test proves nothing");
    assert_eq!(sidecar.metric("bfb_source_breaker_open", &[]).await, Some(0.0));
    assert_eq!(sidecar.metric("bfb_source_failures_total", &[]).await, Some(0.0));
    let grown = sidecar.resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB for callers that are gone");
    sidecar.get("/v2/customers/afterwards").await.dataset();
}

/// The memory that flights reserve in advance follows the size of earlier datasets, not the earlier
/// reservations: small ones never wait for memory, however many there were before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_flights_do_not_wait_for_memory_after_thousands_of_others() {
    let upstream = Upstream::plain().await;
    upstream.forget();
    for name in super::SOURCES {
        upstream.handles(&format!("/{name}"), |_| Reply::json("{\"a\":1}"));
    }
    let domain = of_four_sources(&upstream);
    let sidecar = Setup::of(&[&domain])
        .insecure()
        .args(&["--memory", "8MiB", "--memory-limit", "64MiB"])
        .start()
        .await;
    let asking = (0..8).map(|caller| {
        let sidecar = &sidecar;
        async move {
            let mut wire = Wire::open(sidecar.listen()).await.unwrap();
            for number in 0..500 {
                wire.ask(&wire::get(&format!("/v2/customers/{caller}-{number}"), ""))
                    .await
                    .unwrap();
                let answer = wire.answer().await.unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        }
    });
    futures_util::future::join_all(asking).await;
    assert_eq!(sidecar.metric("bfb_memory_waits_total", &[]).await, Some(0.0));
}

#[tokio::test]
async fn a_source_that_hangs_holds_no_more_than_its_slots_for_callers_that_are_gone() {
    let upstream = Upstream::plain().await;
    upstream.forget();
    for name in super::SOURCES {
        upstream.handles(&format!("/{name}"), |_| Reply::never());
    }
    // No flight ends by itself while the test looks.
    let domain = of_four_sources(&upstream).head("deadline: 300s");
    let sidecar = Setup::of(&[&domain]).insecure().args(&["--memory", "8MiB"]).start().await;
    ask_and_hang_up(&sidecar, 0..3_000).await;
    // Each of four sources has 64 slots, so no more than 256 upstream requests run, and the sidecar
    // keeps no more flights than these. Many of the requests are never read: their connections had
    // ended by then.
    let few = async {
        loop {
            let abandoned =
                sidecar.metric("bfb_flights_abandoned_total", &[]).await.unwrap_or_default();
            let flights = sidecar.metric("bfb_flights", &[]).await.unwrap_or_default();
            if abandoned > 100.0 && flights <= 4.0 * 64.0 {
                return;
            }
        }
    };
    let few = tokio::time::timeout(TEST_TIMEOUT, few).await;
    let metrics =
        ["bfb_flights_abandoned_total", "bfb_flights", "bfb_requests_total", "bfb_connections"];
    let mut values = Vec::new();
    for name in metrics {
        values.push((name, sidecar.metric(name, &[]).await));
    }
    assert!(few.is_ok(), "flights of callers that are gone stayed in the air: {values:?}");
}
