//! `--seal-key`: datasets on a shared server cannot be read without a key, and keys change without
//! an interruption.

use super::redis_tier::until_kept;
use super::{PATH, member, until_lease};
use crate::cache::cache_status;
use crate::support::client::{ClientResponse, TEST_TIMEOUT, get, with_header};
use crate::support::redis::Redis;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

const SECRET: &str = "Ada Lovelace";

struct Sealed {
    redis: Redis,
    upstream: Upstream,
    dir: tempfile::TempDir,
}

impl Sealed {
    async fn new() -> Self {
        let upstream = Upstream::plain().await;
        upstream.answers("/42", [Reply::json(format!("\"{SECRET}\""))]);
        Self { redis: Redis::start(), upstream, dir: tempfile::tempdir().unwrap() }
    }

    fn keys(&self, name: &str, digits: &str) -> String {
        let file = self.dir.path().join(name);
        let keys: Vec<_> = digits.chars().map(|digit| digit.to_string().repeat(64)).collect();
        std::fs::write(&file, keys.join("\n")).unwrap();
        file.to_str().unwrap().to_owned()
    }

    async fn member(&self, keys: Option<&str>) -> Sidecar {
        let args = keys.map_or(vec![], |file| vec!["--seal-key", file]);
        let sidecar = member(&self.redis, &self.upstream, &args).await;
        until_lease(&sidecar, true).await;
        sidecar
    }
}

/// The answer from Redis. A read may take 50 ms, so on a busy machine the first ones may fail.
async fn from_redis(sidecar: &Sidecar) -> ClientResponse {
    let found = async {
        loop {
            let got = sidecar.send(with_header(get(PATH), "cache-control", "only-if-cached")).await;
            if got.status == 200 {
                return got;
            }
            got.problem("not-cached", 504);
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, found).await.expect("what is in Redis was never read")
}

/// Requests the dataset until it was found unreadable in Redis.
async fn until_unreadable(sidecar: &Sidecar) {
    let unreadable = async {
        while sidecar.metric("bfb_redis_unreadable_total", &[]).await < Some(1.0) {
            let got = sidecar.send(with_header(get(PATH), "cache-control", "only-if-cached")).await;
            got.problem("not-cached", 504);
        }
    };
    assert!(
        tokio::time::timeout(TEST_TIMEOUT, unreadable).await.is_ok(),
        "what is in Redis was never looked at"
    );
}

#[tokio::test]
async fn what_is_sealed_is_read_with_the_key_and_by_nobody_else() {
    let fleet = Sealed::new().await;
    let (one, other) = (fleet.keys("one", "a"), fleet.keys("other", "b"));
    let first = fleet.member(Some(&one)).await;
    first.get(PATH).await.dataset();
    until_kept(&first, 1).await;
    let places: Vec<String> = fleet.redis.command(&["KEYS", "bfb:{default/customer}:dataset:*"]);
    let body: Vec<u8> = fleet.redis.command(&["HGET", &places[0], "body"]);
    assert!(!body.windows(SECRET.len()).any(|text| text == SECRET.as_bytes()));
    let got = from_redis(&fleet.member(Some(&one)).await).await;
    assert!(
        cache_status(&got).ends_with("; detail=redis") && got.text().contains(SECRET),
        "{}",
        cache_status(&got)
    );
    let stranger = fleet.member(Some(&other)).await;
    until_unreadable(&stranger).await;
    assert_eq!(cache_status(&stranger.get(PATH).await), "bfb; fwd=miss; stored");
}

#[tokio::test]
async fn who_has_a_key_believes_nothing_that_nobody_sealed() {
    let fleet = Sealed::new().await;
    let open = fleet.member(None).await;
    open.get(PATH).await.dataset();
    until_kept(&open, 1).await;
    let sealing = fleet.member(Some(&fleet.keys("one", "a"))).await;
    until_unreadable(&sealing).await;
    assert_eq!(cache_status(&sealing.get(PATH).await), "bfb; fwd=miss; stored");
}

#[tokio::test]
async fn keys_are_changed_while_the_fleet_runs() {
    let fleet = Sealed::new().await;
    let file = fleet.keys("keys", "a");
    let sidecar = fleet.member(Some(&file)).await;
    fleet.keys("keys", "ba");
    sidecar.logged("new seal keys").await;
    std::fs::write(&file, "nonsense").unwrap();
    sidecar.logged("the old ones stay").await;
    assert_eq!(sidecar.metric("bfb_seal_reload_failures_total", &[]).await, Some(1.0));
    sidecar.get(PATH).await.dataset();
    until_kept(&sidecar, 1).await;
    let newer = fleet.member(Some(&fleet.keys("newer", "b"))).await;
    let got = from_redis(&newer).await;
    assert!(
        cache_status(&got).ends_with("; detail=redis"),
        "{}: it was sealed with the first key",
        cache_status(&got)
    );
}

#[tokio::test]
async fn a_file_without_a_key_is_refused_at_the_start() {
    let fleet = Sealed::new().await;
    let empty = fleet.keys("empty", "");
    let domain = crate::cache::file(&fleet.upstream, "{ttl: 60s}");
    let url = fleet.redis.url();
    let setup = Setup::of(&[&domain]).insecure().args(&["--redis", &url, "--seal-key", &empty]);
    let output = setup.refused().await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{stderr}");
    assert!(
        stderr.contains("expected a key, met none") && stderr.contains("openssl rand -hex 32"),
        "{stderr}"
    );
}
