//! A primary is lost and replaced: this begins another life, so a new epoch, and no dataset that
//! was read before stays valid.

use std::time::{Duration, Instant};

use bfb::bus::{BusConfig, BusEventKind};
use bfb::coherence::EmptyReason;
use tempfile::NamedTempFile;

use super::support::{LEASE, Member, TEST_TIMEOUT, keys};
use crate::support::redis::Redis;

/// A primary with a replica, and a sentinel that replaces the primary once it has been silent for
/// so long.
struct SentinelSetup {
    primary: Redis,
    replica: Redis,
    sentinel: Redis,
    auth: NamedTempFile,
}

const SILENT_FOR: Duration = Duration::from_millis(400);

impl SentinelSetup {
    fn start() -> Self {
        let primary = Redis::start();
        let replica = Redis::replica_of(&primary);
        let after = format!("sentinel down-after-milliseconds main {}", SILENT_FOR.as_millis());
        let sentinel =
            Redis::sentinel_of(primary.addr(), &[&after, "sentinel failover-timeout main 2000"]);
        let auth = NamedTempFile::new().unwrap();
        std::fs::write(auth.path(), "bfb:secret").unwrap();
        let watched = Self { primary, replica, sentinel, auth };
        // The sentinel cannot promote a replica before it has discovered it.
        let until = Instant::now() + Duration::from_secs(30);
        while !watched.sentinel.command::<String>(&["INFO", "sentinel"]).contains("slaves=1") {
            assert!(Instant::now() < until, "the sentinel never heard of the replica");
            std::thread::yield_now();
        }
        watched
    }

    fn settings(&self) -> BusConfig {
        let mut settings = BusConfig::new(
            format!("redis-sentinel://{}/main", self.sentinel.addr()).parse().unwrap(),
            LEASE,
        );
        settings.auth = Some(self.auth.path().to_owned());
        settings
    }
}

async fn joined(settings: BusConfig) -> Member {
    Member::begin(settings).joined().await
}

/// After a failover the fleet is complete on the new primary, and no dataset of before is valid.
async fn is_followed(
    watched: &SentinelSetup,
    how: impl FnOnce(&mut Redis),
    primary: &mut Redis,
) -> [Member; 2] {
    let mut one = joined(watched.settings()).await;
    let mut two = joined(watched.settings()).await;
    let sent = one.domain.invalidate(keys(&["1"])).await.unwrap();
    one.domain.wait_for_fleet(&sent, TEST_TIMEOUT).await.unwrap();
    let start = two.domain.start_point();
    let before = two.domain.applied_fence().unwrap();
    let mark = two.domain.may_store(start, "42", &[]).unwrap();
    assert!(two.domain.is_valid(mark, "42", &[]));

    how(primary);
    for member in [&mut one, &mut two] {
        member
            .until_it(|what| matches!(what, BusEventKind::MemoryEmptied(EmptyReason::Epoch)))
            .await;
        member.until("hold its lease", |member| member.domain.has_lease()).await;
    }
    assert_ne!(one.domain.applied_fence().unwrap().epoch, before.epoch);
    assert!(
        !two.domain.is_valid(mark, "42", &[]) && two.domain.may_store(start, "42", &[]).is_none()
    );
    let sent = one.domain.invalidate(keys(&["42"])).await.unwrap();
    let acknowledged = one.domain.wait_for_fleet(&sent, TEST_TIMEOUT).await.unwrap();
    assert_eq!((acknowledged.sidecars, acknowledged.silent_members), (2, vec![]));
    assert!(watched.replica.command::<String>(&["INFO", "replication"]).contains("role:master"));
    [one, two]
}

#[tokio::test]
async fn a_primary_that_dies_is_replaced_and_nothing_stale_is_believed() {
    let mut watched = SentinelSetup::start();
    let mut primary = std::mem::replace(&mut watched.primary, Redis::start());
    is_followed(&watched, Redis::kill, &mut primary).await;
}

#[tokio::test]
async fn a_primary_that_stands_still_is_replaced_and_left_for_good() {
    let mut watched = SentinelSetup::start();
    let mut primary = std::mem::replace(&mut watched.primary, Redis::start());
    let _fleet = is_followed(&watched, |primary| primary.pause(), &mut primary).await;
    // It wakes up as a primary, until the sentinel demotes it: clients that ask for the primary are
    // not sent there.
    primary.resume();
    let three = joined(watched.settings()).await;
    assert!(primary.command::<String>(&["INFO", "replication"]).contains("role:master"));
    let sent = three.domain.invalidate(keys(&["42"])).await.unwrap();
    let acknowledged = three.domain.wait_for_fleet(&sent, TEST_TIMEOUT).await.unwrap();
    assert_eq!(
        (acknowledged.token.epoch, acknowledged.sidecars),
        (three.domain.applied_fence().unwrap().epoch, 3)
    );
}
