//! The smallest ACL that works: the whole life of a sidecar needs every listed command, and no
//! other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bfb::bus::{BusConfig, BusEventKind, ClaimOutcome, LIMITS, PERMISSIONS, RedisKind, RedisNames};
use bfb::coherence::{DatasetPlace, InvalidationScope, TierDataset};
use tempfile::NamedTempFile;

use super::support::{DOMAIN, LEASE, Member, READY_BYTES, TEST_TIMEOUT, fetched, keys, patiently};
use crate::support::redis::{Redis, SEVEN, kind, version};

/// Every client sends this before it has a user: Redis requires no permission for it.
const GREETING: &str = "hello";

async fn acknowledged(one: &Member, scopes: Arc<[InvalidationScope]>) {
    let sent = one.domain.invalidate(scopes).await.unwrap();
    one.domain.wait_for_fleet(&sent, TEST_TIMEOUT).await.unwrap();
}

/// Two members, from the first heartbeat to the deregistration, with every request that they may
/// send in between.
async fn life(redis: &Redis, settings: &BusConfig) {
    let domains = [DOMAIN, "order"];
    let (mut one, mut two) =
        (Member::serving(settings.clone(), &domains), Member::serving(settings.clone(), &domains));
    for member in [&mut one, &mut two] {
        let order = member.bus.domain("order").unwrap();
        member
            .until("hold its leases", |member| member.domain.has_lease() && order.has_lease())
            .await;
    }
    acknowledged(&one, keys(&["42"])).await;
    datasets(&one, &two).await;

    // So many stamps that Redis forgets the oldest.
    fill_stamps(redis);
    acknowledged(&one, keys(&["one more"])).await;
    redis.command::<i64>(&[
        "PUBLISH",
        &RedisNames::new("default", DOMAIN).hints_channel(),
        r#"{"tags": ["gold"]}"#,
    ]);
    two.until_it(|what| *what == BusEventKind::HintHandled).await;

    // The members read entries that are published meanwhile from the log.
    let mut silenced = redis::pipe();
    silenced
        .cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("pubsub")
        .add_command(super::loss::foreign("43"));
    silenced.exec(&mut redis.control()).unwrap();
    two.until_it(|kind| {
        matches!(kind, BusEventKind::InvalidationApplied(entry)
            if *entry.scopes == [InvalidationScope::Key("43".into())])
    })
    .await;

    one.bus.set_domains([DOMAIN]);
    let left = Instant::now() + TEST_TIMEOUT;
    let order = RedisNames::new("default", "order").meta();
    while redis.command::<String>(&["HGET", &order, "leases"]) != format!("{}=1", LEASE.as_millis())
    {
        assert!(Instant::now() < left, "the domain that was dropped is still registered");
        tokio::task::yield_now().await;
    }
    two.leave().await;
    one.leave().await;
    let meta: Vec<String> = redis.command(&["HKEYS", &RedisNames::new("default", DOMAIN).meta()]);
    assert!(!meta.iter().any(|field| field.starts_with("r:")), "both said goodbye: {meta:?}");
}

/// Writes as many stamps as a log may have.
fn fill_stamps(redis: &Redis) {
    const FILL: &str =
        "for i = redis.call('ZCARD', KEYS[2]) + 1, ARGV[1] do redis.call('ZADD', KEYS[2], 1, \
         'k!' .. i) end
        redis.call('HSET', KEYS[1], 'stamps', redis.call('ZCARD', KEYS[2]))";
    let names = RedisNames::new("default", DOMAIN);
    redis.command::<()>(&[
        "EVAL",
        FILL,
        "2",
        &names.meta(),
        &names.stamps(),
        &LIMITS.stamps_max.to_string(),
    ]);
}

async fn datasets(one: &Member, two: &Member) {
    let place = DatasetPlace { key: "44".into(), plan: "p".into() };
    let fence = one.domain.applied_fence().unwrap();
    let holder = one.domain.new_claim_holder();
    let dataset = TierDataset { fence, tags: vec!["gold".into()], body: Arc::from(&b"{}"[..]) };
    assert_eq!(
        patiently(|| one.domain.claim(&place, &holder, fence, TEST_TIMEOUT, Some(READY_BYTES)))
            .await,
        Ok(ClaimOutcome::Acquired)
    );
    assert!(
        patiently(|| one.domain.store(
            place.clone(),
            dataset.clone(),
            Duration::ZERO,
            TEST_TIMEOUT
        ))
        .await
        .unwrap()
    );
    // On a repeated send there is nothing left to release.
    assert!(patiently(|| one.domain.release(place.clone(), holder.clone())).await.is_ok());
    assert_eq!(
        patiently(|| fetched(&two.domain, place.clone())).await.unwrap().unwrap().dataset,
        dataset
    );
}

/// The commands that ran since the counters were set to zero, including those that scripts called.
fn done(redis: &Redis) -> BTreeSet<String> {
    let stats: String = redis.command(&["INFO", "commandstats"]);
    let name = |line: &str| Some(line.strip_prefix("cmdstat_")?.split_once(':')?.0.to_owned());
    stats.lines().filter_map(name).collect()
}

async fn needs_exactly_what_is_listed(redis: Redis, settings: BusConfig, cluster: bool) {
    redis.command::<()>(&["CONFIG", "RESETSTAT"]);
    life(&redis, &settings).await;
    let refused: Vec<redis::Value> = redis.command(&["ACL", "LOG"]);
    assert_eq!(refused, [], "something was refused");
    let listed = PERMISSIONS.iter().filter(|permission| permission.is_needed_on(kind(cluster)));
    // Migrating a slot needs a second server; a test of its own does that.
    let listed: BTreeSet<_> = listed
        .map(|permission| permission.command)
        .filter(|command| *command != "asking")
        .collect();
    let done = done(&redis);
    let unused: Vec<_> = listed.iter().filter(|command| !done.contains(**command)).collect();
    // Before 7.0 Redis has no counters for subcommands.
    let unused: Vec<_> =
        unused.into_iter().filter(|command| version() >= SEVEN || !command.contains('|')).collect();
    assert_eq!(unused, Vec::<&&str>::new(), "listed, and not needed");
}

#[tokio::test]
async fn a_life_on_one_server_needs_every_listed_command_and_no_other() {
    let redis = Redis::start();
    let settings =
        BusConfig::new(format!("redis://bfb:secret@{}", redis.addr()).parse().unwrap(), LEASE);
    needs_exactly_what_is_listed(redis, settings, false).await;
}

#[tokio::test]
async fn a_life_on_a_cluster_needs_every_listed_command_and_no_other() {
    let redis = Redis::start_cluster();
    let auth = NamedTempFile::new().unwrap();
    std::fs::write(auth.path(), "bfb:secret").unwrap();
    let mut settings =
        BusConfig::new(format!("redis-cluster://{}", redis.addr()).parse().unwrap(), LEASE);
    settings.auth = Some(auth.path().to_owned());
    needs_exactly_what_is_listed(redis, settings, true).await;
}

#[tokio::test]
async fn a_greeting_needs_no_permission() {
    let redis = Redis::start();
    assert!(!bfb::bus::acl_rules("default", kind(false)).contains(GREETING));
    let client =
        redis::Client::open(format!("redis://bfb:secret@{}/?protocol=resp3", redis.addr()))
            .unwrap();
    assert!(client.get_connection().is_ok());
}

#[test]
fn the_page_names_what_is_needed() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/redis.md")).unwrap();
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for kind in [RedisKind::One, RedisKind::Cluster] {
        let rules = bfb::bus::acl_rules("default", kind);
        assert!(page.contains(&format!("{rules} ```")), "{kind:?}");
    }
}
