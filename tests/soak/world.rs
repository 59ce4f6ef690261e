//! The parts of a run: a sidecar with a few domains, the sources behind them, good and bad, and the
//! Redis that it shares.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::support::domain::DomainFile;
use crate::support::link::{Link, LinkSpeed};
use crate::support::redis::Redis;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{ReceivedRequest, Reply, Upstream};

/// Small, so that the first quarter of a minute fills it.
const MEMORY: &str = "8MiB";
/// The kinds of bad sources: domains of these names.
pub(super) const BAD: [&str; 9] =
    ["hang", "stuck", "cut", "endless", "closed", "nested", "status", "large", "validator"];
const PART_BYTES: usize = 1_500;
/// Almost as large as a part may be.
const LARGE_BYTES: usize = 4 << 20;
/// Longer than an `ETag` may be.
const VALIDATOR_BYTES: usize = 30_000;

/// The parts of a run, which live until it is dropped.
pub(super) struct World {
    pub(super) sidecar: Arc<Sidecar>,
    pub(super) redis: Arc<Mutex<Redis>>,
    _upstreams: Vec<Upstream>,
    _drip: Link,
}

impl World {
    pub(super) async fn start() -> Self {
        let good = Upstream::plain().await;
        let bad = Upstream::plain().await;
        for upstream in [&good, &bad] {
            upstream.forget();
        }
        good.handles("/part", |_| {
            Reply::json(format!("\"{}\"", "x".repeat(PART_BYTES))).etag("\"always\"")
        });
        bad.handles("/part", badly);
        let drip =
            Link::to(good.origin().authority().unwrap().as_str().parse::<SocketAddr>().unwrap())
                .await;
        drip.slow(LinkSpeed { bytes_per_second: NonZeroU32::new(40), ..LinkSpeed::default() });
        let redis = Redis::start();
        let mut domains = vec![
            domain("customer", "10s").source("profile", &good, "/part?of={key}", &[]).source(
                "orders",
                &good,
                "/part?of={key}",
                &[],
            ),
            domain("drip", "1s").source_at(
                "part",
                &format!("http://{}/part?of={{key}}", drip.addr()),
                &[],
            ),
        ];
        // A source of its own for each, so that an open breaker of one does not stop requests to
        // another.
        for way in BAD {
            let path = format!("/part?way={way}&of={{key}}");
            domains.push(domain(way, "1s").source("part", &bad, &path, &["timeout: 300ms"]));
        }
        let domains: Vec<_> = domains.iter().collect();
        let args = ["--memory", MEMORY, "--redis", &redis.url(), "--lease", "1s"];
        let sidecar = Setup::of(&domains).insecure().args(&args).start().await;
        let sidecar = Arc::new(sidecar);
        let redis = Arc::new(Mutex::new(redis));
        Self { sidecar, redis, _upstreams: vec![good, bad], _drip: drip }
    }

    /// Waits until nothing is under way, once no requests come.
    pub(super) async fn comes_to_rest(&self) {
        self.sidecar.until_metric("bfb_flights", 0.0).await;
        self.sidecar.until_metric("bfb_connections", 0.0).await;
    }
}

fn domain(name: &str, deadline: &str) -> DomainFile {
    DomainFile::of(name)
        .head(&format!("deadline: {deadline}"))
        .head("cache: {ttl: 5s, missing_ttl: 1s}")
}

/// The answer of a bad source, by the kind that its URL names.
fn badly(seen: &ReceivedRequest) -> Reply {
    let way = seen.target.trim_start_matches("/part?way=").split('&').next().unwrap_or_default();
    match way {
        "hang" => Reply::never(),
        "stuck" => Reply::json("[1,").stuck(),
        "cut" => Reply::json("[1,").cut(),
        "endless" => Reply::json("").endless(),
        "closed" => Reply::hang_up(),
        "large" => Reply::json(format!("\"{}\"", "x".repeat(LARGE_BYTES - 2))),
        "validator" => Reply::json("1").etag(&format!("\"{}\"", "v".repeat(VALIDATOR_BYTES))),
        "nested" => Reply::json("[".repeat(100_000)),
        _ => Reply::status(500),
    }
}

/// The outcomes of one kind of load, counted.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally(BTreeMap<String, u64>);

impl Tally {
    pub(super) fn count(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(what, times)| (what.as_str(), *times))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<_> = self.all().map(|(what, times)| format!("{what} {times}")).collect();
        f.write_str(&counts.join(", "))
    }
}

/// Waits for a pause; returns false if the load is to stop meanwhile.
pub(super) async fn goes_on(stop: &mut watch::Receiver<bool>, pause: Duration) -> bool {
    // This is not a wait for an event: a load has a pace of its own.
    tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_err()
}
