//! All kinds of load at once, in a container of the size that `bfb inject` writes: 256 MiB, 64 of
//! them for datasets.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{SOURCES, is_honest, of_four_sources};
use crate::support::client::HttpVersion;
use crate::support::domain::DomainFile;
use crate::support::redis::Redis;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

const CONTAINER_BYTES: u64 = 256 << 20;

/// A cgroup with a limit on memory, where this machine lets us make one (root, and a memory
/// controller that is mounted and writable). Elsewhere the test compares the limit with the
/// process's `VmHWM`, which counts the same pages.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make() -> Option<Self> {
        let name = format!("bfb-test-{}", std::process::id());
        let places =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        places.into_iter().find_map(|(root, file)| {
            let group = Self(PathBuf::from(root).join(&name));
            fs::create_dir(&group.0).ok()?;
            // A process that may swap is not ended at its limit, but this test is not about swap.
            fs::write(group.0.join(file), CONTAINER_BYTES.to_string()).ok()?;
            Some(group)
        })
    }

    fn processes(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The group can be removed once its process is gone, which received its signal a moment
        // ago.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

/// Counts of the answers to honest callers.
#[derive(Default)]
struct AnswerCounts {
    datasets: AtomicU64,
    overloaded: AtomicU64,
    other_answers: AtomicU64,
}

/// Requests small datasets until the attack is over; an answer that is no dataset must be
/// `overloaded` with a `Retry-After`.
async fn ask_honestly(sidecar: &Sidecar, part: usize, over: &AtomicBool, counts: &AnswerCounts) {
    let mut consumer = sidecar.consumer(HttpVersion::Http1);
    let mut key = part;
    while !over.load(Ordering::Relaxed) {
        key += 8;
        // Every second key was requested before.
        let got = consumer
            .get(&format!("/v2/customers/{}", key % 4_000))
            .await
            .expect("an answer, never a reset");
        let count = match got.status {
            200 => &counts.datasets,
            503 if is_honest(&got) => &counts.overloaded,
            _ => &counts.other_answers,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn hang_up(sidecar: &Sidecar, keys: std::ops::Range<usize>) {
    for key in keys {
        let Ok(mut stream) = TcpStream::connect(sidecar.listen()).await else { continue };
        let request = format!("GET /v2/customers/gone-{key} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let _ = stream.write_all(request.as_bytes()).await;
    }
}

/// Requests keys of a domain over several connections; any answer will do.
async fn take(sidecar: &Sidecar, domain: &str, keys: std::ops::Range<usize>) {
    join_all((0..8).map(|part| {
        let mut consumer = sidecar.consumer(HttpVersion::Http1);
        let keys = keys.clone();
        async move {
            for key in keys.skip(part).step_by(8) {
                consumer
                    .get(&format!("/v2/{domain}s/{key}"))
                    .await
                    .expect("an answer, never a reset");
            }
        }
    }))
    .await;
}

async fn upstream() -> Upstream {
    let upstream = Upstream::plain().await;
    upstream.forget();
    for name in SOURCES {
        let body = format!("\"{}\"", "x".repeat(500));
        let etag = format!("\"{}\"", "e".repeat(7_000));
        upstream.handles(&format!("/{name}"), move |_| Reply::json(body.clone()).etag(&etag));
    }
    let large = format!("\"{}\"", "x".repeat(4 << 20 >> 1));
    upstream.handles("/large", move |_| Reply::json(large.clone()));
    let objects = format!("[{}]", vec!["{\"a\":1}"; 200_000].join(","));
    upstream.handles("/objects", move |_| Reply::json(objects.clone()));
    upstream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_parts_and_trees_lost_callers_and_a_planted_redis_do_not_end_a_small_container() {
    let redis = Redis::start();
    let upstream = upstream().await;
    let shaped = |name: &str, path: &str, shape: &str| {
        let domain = DomainFile::of(name).head("cache: {ttl: 1h}").head("deadline: 5s");
        let domain = domain.source("part", &upstream, &format!("/{path}?of={{key}}"), &[]);
        domain
            .version("v2", &[&format!("path: '/v2/{name}s/{{key}}'"), &format!("shape: '{shape}'")])
    };
    let customers = of_four_sources(&upstream).head("deadline: 10s");
    let large = shaped("large", "large", ".part | length");
    let trees = shaped("tree", "objects", "[range(200000)] | map({a: .}) | length");
    let objects = shaped("object", "objects", ".part | length");
    let url = redis.url();
    let mut setup = Setup::of(&[&customers, &large, &trees, &objects]).insecure();
    setup = setup.args(&["--memory", "64MiB", "--redis", &url]);
    let cgroup = Cgroup::make();
    setup = match &cgroup {
        Some(cgroup) => setup.in_cgroup(&cgroup.processes()),
        None => setup.args(&["--memory-limit", "224MiB"]),
    };
    let sidecar = setup.start().await;
    let idle = sidecar.resident_kib();
    let status = sidecar.admin("/status").await.json();
    let limit = status["memory"]["limit_bytes"].as_u64().unwrap();
    assert!(limit < CONTAINER_BYTES * 7 / 8, "the container's limit was not seen: {limit}");

    let (over, counts) = (AtomicBool::new(false), AnswerCounts::default());
    let attack = async {
        tokio::join!(
            take(&sidecar, "large", 0..96),
            take(&sidecar, "tree", 0..24),
            take(&sidecar, "object", 0..24),
            take(&sidecar, "customer", 10_000..14_000),
            hang_up(&sidecar, 0..2_000),
        );
        over.store(true, Ordering::Relaxed);
    };
    let honest = join_all((0..8).map(|part| ask_honestly(&sidecar, part, &over, &counts)));
    tokio::join!(attack, honest);
    let counts = [&counts.datasets, &counts.overloaded, &counts.other_answers]
        .map(|count| count.load(Ordering::Relaxed));
    assert!(counts[0] > 0 && counts[2] == 0, "datasets, overloaded, others: {counts:?}");
    // In the cgroup this is shown already by the process being alive. The pages of its files do not
    // count there, and a build without optimisation has many.
    let grown = sidecar.peak_resident_kib() - idle;
    assert!(grown < CONTAINER_BYTES / 1024, "{grown} KiB beyond {idle} KiB");
    assert_eq!(sidecar.admin("/livez").await.status, 200);
    sidecar.get("/v2/customers/afterwards").await.dataset();
    drop(sidecar);
}
