//! The resident memory of the process, beside the size of the datasets that it counts and beside
//! its limit.

use futures_util::future::join_all;
use tokio::sync::watch;

use super::{SOURCES, is_honest, of_four_sources};
use crate::support::client::HttpVersion;
use crate::support::domain::DomainFile;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// The resident memory and the memory that the cache accounts for, in bytes.
#[derive(Debug, Clone, Copy)]
struct HeldMemory {
    resident: u64,
    counted: u64,
}

impl HeldMemory {
    async fn of(sidecar: &Sidecar) -> Self {
        let counted =
            sidecar.admin("/status").await.json()["memory"]["reserved_bytes"].as_u64().unwrap();
        Self { resident: sidecar.resident_kib() * 1024, counted }
    }

    fn since(self, before: Self) -> Self {
        Self {
            resident: self.resident.saturating_sub(before.resident),
            counted: self.counted.saturating_sub(before.counted),
        }
    }

    /// Whether the resident memory is at most 1.3 times so many bytes.
    fn is_within(self, bytes: u64) -> bool {
        self.resident * 10 <= bytes * 13
    }
}

/// The buffers of connections, which grow to the size of the largest head, and the allocator's
/// pages: with small datasets they are a part of the resident memory. The fault that these tests
/// guard against made it 50 times the counted bytes.
const BUFFERS_BYTES: u64 = 6 << 20;

/// Reads every key of a range once, over eight connections.
async fn read(sidecar: &Sidecar, keys: std::ops::Range<usize>) {
    let loops = (0..8).map(|part| {
        let mut consumer = sidecar.consumer(HttpVersion::Http1);
        let keys = keys.clone();
        async move {
            for key in keys.skip(part).step_by(8) {
                assert_eq!(
                    consumer.get(&format!("/v2/customers/{key}")).await.unwrap().status,
                    200
                );
            }
        }
    });
    join_all(loops).await;
}

/// The memory for `count` datasets, once connections, pools and threads are there.
async fn held_for(sidecar: &Sidecar, count: usize) -> HeldMemory {
    read(sidecar, 0..1_000).await;
    let before = HeldMemory::of(sidecar).await;
    read(sidecar, 1_000..1_000 + count).await;
    HeldMemory::of(sidecar).await.since(before)
}

async fn four_sources(part_bytes: usize, etag: &str) -> Upstream {
    let upstream = Upstream::plain().await;
    upstream.forget();
    for name in SOURCES {
        let body = format!("\"{}\"", "x".repeat(part_bytes - 2));
        let etag = etag.to_owned();
        upstream.handles(&format!("/{name}"), move |_| Reply::json(body.clone()).etag(&etag));
    }
    upstream
}

#[tokio::test]
async fn a_small_validator_keeps_no_buffer_of_its_connection_alive() {
    let upstream = four_sources(50, "\"12345678\"").await;
    let sidecar = Setup::of(&[&of_four_sources(&upstream)])
        .insecure()
        .args(&["--memory", "64MiB"])
        .start()
        .await;
    let held = held_for(&sidecar, 8_000).await;
    assert!(held.counted > 8_000 * 400, "nothing was kept: {held:?}");
    assert!(held.is_within(held.counted + BUFFERS_BYTES), "{held:?}");
}

#[tokio::test]
async fn a_validator_of_thirty_kilobytes_is_none() {
    let upstream = four_sources(50, &format!("\"{}\"", "x".repeat(7_000))).await;
    let sidecar = Setup::of(&[&of_four_sources(&upstream)])
        .insecure()
        .args(&["--memory", "64MiB"])
        .start()
        .await;
    let held = held_for(&sidecar, 6_000).await;
    // If they were kept with each dataset, the tags alone would be 168 MB.
    assert!(held.is_within(held.counted + BUFFERS_BYTES), "{held:?}");
    let shown = sidecar.admin("/datasets/customer/7").await.json();
    assert_eq!(shown["memory"]["parts"][0]["validator"], "none");
}

#[tokio::test]
async fn datasets_of_two_kilobytes_take_little_more_than_their_bytes() {
    let upstream = four_sources(501, "\"12345678\"").await;
    let sidecar = Setup::of(&[&of_four_sources(&upstream)])
        .insecure()
        .args(&["--memory", "96MiB"])
        .start()
        .await;
    let held = held_for(&sidecar, 20_000).await;
    let data = 20_000 * sidecar.get("/v2/customers/7").await.body.len() as u64;
    assert!(held.counted > data, "not all was kept: {held:?}");
    assert!(held.is_within(data), "{held:?} for {data} bytes of data");
    assert!(held.is_within(held.counted), "{held:?}");
}

#[tokio::test]
async fn large_parts_wait_for_memory_or_are_refused_and_the_process_stays_within_its_limit() {
    let (upstream, gate) = (Upstream::plain().await, watch::Sender::new(false));
    let (body, opened) =
        (bytes::Bytes::from(format!("\"{}\"", "x".repeat((4 << 20) - 2))), gate.subscribe());
    upstream.handles("/part", move |_| Reply::json(body.clone()).held_until(opened.clone()));
    let domain = DomainFile::of("customer").head("cache: {ttl: 1h}").source(
        "part",
        &upstream,
        "/part?of={key}",
        &[],
    );
    let setup =
        Setup::of(&[&domain]).insecure().args(&["--memory", "32MiB", "--memory-limit", "128MiB"]);
    let sidecar = setup.start().await;
    let idle = sidecar.resident_kib();
    let answers = join_all((0..64).map(|key| {
        let mut consumer = sidecar.consumer(HttpVersion::Http1);
        async move { consumer.get(&format!("/v2/customers/{key}")).await.unwrap() }
    }));
    // All are answered at once, after all were requested.
    let opening = async {
        upstream.requests(64).await;
        gate.send_replace(true);
    };
    let (answers, ()) = tokio::join!(answers, opening);
    assert!(
        answers.iter().all(is_honest),
        "{:?}",
        answers.iter().map(|got| got.status).collect::<Vec<_>>()
    );
    assert!(answers.iter().any(|got| got.status == 200));
    // The program itself is larger in a build without optimisation than the room that the limit
    // leaves for it. All at once would be 256 MiB, and as much again for their copies.
    let grown = sidecar.peak_resident_kib() - idle;
    assert!(grown < 128 * 1024, "{grown} KiB beyond {idle} KiB");
    sidecar.get("/v2/customers/1").await.dataset();
    let waits = sidecar.metric("bfb_memory_waits_total", &[]).await;
    assert!(waits > Some(0.0), "nothing had to wait: the test proves nothing");
}

#[tokio::test]
async fn a_memory_tier_that_does_not_fit_is_refused_by_name() {
    let upstream = Upstream::plain().await;
    let domain = DomainFile::of("customer").source("part", &upstream, "/part", &[]);
    let setup =
        Setup::of(&[&domain]).insecure().args(&["--memory", "300MiB", "--memory-limit", "256MiB"]);
    let refused = setup.refused().await;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(64), "{text}");
    assert!(
        text.contains("`--memory 300MiB` does not fit") && text.contains("`--memory-limit 340MiB`"),
        "{text}"
    );
}
