//! Several members on one Redis: the invalidations of one reach all, and the fleet's
//! acknowledgement is waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bfb::bus::{Bus, BusConfig, BusEventKind, BusMetrics, ClaimOutcome, RedisFault, RedisNames};
use bfb::coherence::{DatasetPlace, InvalidationScope, TierDataset};

use super::support::{
    DOMAIN, LEASE, Member, READY_BYTES, TEST_TIMEOUT, fetched, keys, patiently, settings,
};
use crate::support::redis::Redis;

fn place(key: &str) -> DatasetPlace {
    DatasetPlace { key: key.into(), plan: "p1".into() }
}

#[tokio::test]
async fn an_invalidation_is_applied_everywhere_when_it_is_acknowledged() {
    let redis = Redis::start();
    let one = Member::join(redis.addr()).await;
    let two = Member::join(redis.addr()).await;
    let start = two.domain.start_point();
    let mark = two.domain.may_store(start, "42", &[]).unwrap();
    assert!(two.domain.is_valid(mark, "42", &[]));

    let sent = one.domain.invalidate(keys(&["42"])).await.unwrap();
    let acknowledged = one.domain.wait_for_fleet(&sent, TEST_TIMEOUT).await.unwrap();

    assert!(two.domain.has_applied(sent.token()) && one.domain.has_applied(sent.token()));
    assert!(
        !two.domain.is_valid(mark, "42", &[]) && two.domain.may_store(start, "42", &[]).is_none()
    );
    assert!(
        !two.domain.may_join(start, "42") && two.domain.may_join(two.domain.start_point(), "42")
    );
    assert_eq!((acknowledged.sidecars, acknowledged.silent_members), (2, vec![]));
}

#[tokio::test]
async fn once_the_epoch_is_settled_an_acknowledgement_takes_round_trips_not_leases() {
    let redis = Redis::start();
    let one = Member::join(redis.addr()).await;
    let two = Member::join(redis.addr()).await;
    let young = one.domain.invalidate(keys(&["42"])).await.unwrap();
    one.domain.wait_for_fleet(&young, TEST_TIMEOUT).await.unwrap();
    for key in 0..20 {
        let sent = one.domain.invalidate(keys(&[&key.to_string()])).await.unwrap();
        let acknowledged = one.domain.wait_for_fleet(&sent, TEST_TIMEOUT).await.unwrap();
        assert!(
            acknowledged.took < LEASE / 4 && two.domain.has_applied(sent.token()),
            "{acknowledged:?}"
        );
    }
}

#[tokio::test]
async fn who_invalidates_at_the_same_moment_shares_an_entry() {
    let redis = Redis::start();
    let one = Member::join(redis.addr()).await;
    let all: Vec<_> = (0..100).map(|key| (one.domain.clone(), keys(&[&key.to_string()]))).collect();
    let sent = all
        .into_iter()
        .map(|(domain, scopes)| async move { domain.invalidate(scopes).await.unwrap().token() });
    let tokens = futures_util::future::join_all(sent).await;
    let entries = tokens.iter().map(|token| token.seq).max().unwrap();
    assert!(entries < 20, "{entries} entries for a burst of 100");
    let last = one.domain.invalidate(keys(&["0"])).await.unwrap();
    assert_eq!(last.token().seq, entries + 1);
}

#[tokio::test]
async fn a_hint_is_turned_into_one_entry_by_a_whole_fleet() {
    let redis = Redis::start();
    let mut fleet = vec![];
    for _ in 0..3 {
        fleet.push(Member::join(redis.addr()).await);
    }
    let sent = fleet[0].domain.invalidate(keys(&["1"])).await.unwrap();
    fleet[0].domain.wait_for_fleet(&sent, TEST_TIMEOUT).await.unwrap();
    fleet.iter_mut().for_each(Member::forget);

    let channel = RedisNames::new("default", DOMAIN).hints_channel();
    assert_eq!(redis.command::<i64>(&["PUBLISH", &channel, r#"{"keys": ["42"]}"#]), 3);
    for member in &mut fleet {
        member.until_it(|what| *what == BusEventKind::HintHandled).await;
    }
    let end = fleet[0].domain.invalidate(keys(&["1"])).await.unwrap();
    assert_eq!(end.token().seq, sent.token().seq + 2, "the hint was one entry");
}

#[tokio::test]
async fn any_program_can_invalidate_with_one_eval() {
    let redis = Redis::start();
    let mut one = Member::join(redis.addr()).await;
    let names = RedisNames::new("default", DOMAIN);
    let script = bfb::bus::invalidate_script();
    let fresh = "0123456789abcdef0123456789abcdef";
    let answer: Vec<String> = redis.command(&[
        "EVAL",
        script,
        "3",
        &names.meta(),
        &names.log(),
        &names.stamps(),
        "1",
        fresh,
        "",
        "key",
        "42",
        "tag",
        "gold",
    ]);
    assert_eq!((answer[0].as_str(), answer[2].as_str(), answer[5].as_str()), ("issued", "1", "1"));
    let named = [InvalidationScope::Key("42".into()), InvalidationScope::Tag("gold".into())];
    one.until_it(
        |what| matches!(what, BusEventKind::InvalidationApplied(entry) if *entry.scopes == named),
    )
    .await;
}

#[tokio::test]
async fn who_leaves_gives_up_its_lease_and_is_waited_for_no_more() {
    let redis = Redis::start();
    let one = Member::join(redis.addr()).await;
    let mut two = Member::join(redis.addr()).await;
    two.leave().await;
    assert!(!two.domain.has_lease());
    let sent = one.domain.invalidate(keys(&["42"])).await.unwrap();
    assert_eq!(sent.sidecars(), 1);
}

#[tokio::test]
async fn a_domain_that_comes_later_takes_part_and_one_that_goes_leaves() {
    let redis = Redis::start();
    let mut one = Member::join(redis.addr()).await;
    one.bus.set_domains([DOMAIN, "order"]);
    let order = one.bus.domain("order").unwrap();
    one.until("hold both leases", |_| order.has_lease()).await;
    let sent = order.invalidate(keys(&["7"])).await.unwrap();
    assert_eq!((sent.token().seq, sent.sidecars()), (1, 1));
    assert!(one.domain.has_lease(), "the one that stays keeps its lease");

    one.bus.set_domains([DOMAIN]);
    one.until("have left", |_| !order.has_lease()).await;
    assert!(one.bus.domain("order").is_none());
}

#[tokio::test]
async fn redis_keeps_datasets_until_they_are_invalidated() {
    let redis = Redis::start();
    let one = Member::join(redis.addr()).await;
    let two = Member::join(redis.addr()).await;
    let fence = one.domain.applied_fence().unwrap();
    let dataset =
        TierDataset { fence, tags: vec!["gold".into()], body: Arc::from(&b"{\"name\":\"x\"}"[..]) };
    let ttl = Duration::from_mins(1);
    assert!(
        patiently(|| one.domain.store(place("42"), dataset.clone(), Duration::ZERO, ttl))
            .await
            .unwrap()
    );
    let start = two.domain.start_point();
    let hit = patiently(|| fetched(&two.domain, place("42"))).await.unwrap().unwrap();
    assert_eq!(hit.dataset, dataset);
    assert!(two.domain.may_store_fetched(start, "42", &hit).is_some());
    let other = DatasetPlace { plan: "p2".into(), ..place("42") };
    assert_eq!(
        patiently(|| fetched(&two.domain, other.clone())).await.unwrap(),
        None,
        "another plan's dataset is another"
    );

    one.domain.invalidate(Arc::new([InvalidationScope::Tag("gold".into())])).await.unwrap();
    assert_eq!(patiently(|| fetched(&two.domain, place("42"))).await.unwrap(), None);
    assert!(
        !patiently(|| one.domain.store(place("42"), dataset.clone(), Duration::ZERO, ttl))
            .await
            .unwrap(),
        "its fence is older than the stamp"
    );
    let untagged = TierDataset { tags: vec![], ..dataset };
    assert!(
        patiently(|| one.domain.store(place("42"), untagged.clone(), Duration::ZERO, ttl))
            .await
            .unwrap(),
        "the stamp is of a tag that it does not have"
    );
}

#[tokio::test]
async fn one_flight_at_a_time_collects_a_place_until_it_lets_go_or_dies() {
    let redis = Redis::start();
    let one = Member::join(redis.addr()).await;
    let two = Member::join(redis.addr()).await;
    let fence = one.domain.applied_fence().unwrap();
    let long = Duration::from_mins(1);
    let place = place("42");
    let ann = one.domain.new_claim_holder();
    let bob = two.domain.new_claim_holder();
    assert_ne!(one.domain.new_claim_holder(), ann);
    assert_eq!(
        patiently(|| one.domain.claim(&place, &ann, fence, long, Some(READY_BYTES))).await,
        Ok(ClaimOutcome::Acquired)
    );
    assert_eq!(
        patiently(|| two.domain.claim(&place, &bob, fence, long, Some(READY_BYTES))).await,
        Ok(ClaimOutcome::HeldBy(ann.clone()))
    );
    assert_eq!(
        patiently(|| one.domain.claim(&place, &ann, fence, long, Some(READY_BYTES))).await,
        Ok(ClaimOutcome::Acquired),
        "it is renewed"
    );
    assert_eq!(patiently(|| two.domain.release(place.clone(), bob.clone())).await, Ok(false));
    // On a repeated send there is nothing left to release: the claim below shows that the first
    // send released it.
    assert!(patiently(|| one.domain.release(place.clone(), ann.clone())).await.is_ok());
    assert_eq!(
        patiently(|| two.domain.claim(
            &place,
            &bob,
            fence,
            Duration::from_millis(1),
            Some(READY_BYTES)
        ))
        .await,
        Ok(ClaimOutcome::Acquired)
    );
    let until = Instant::now() + TEST_TIMEOUT;
    while one.domain.claim(&place, &ann, fence, long, Some(READY_BYTES)).await
        != Ok(ClaimOutcome::Acquired)
    {
        assert!(Instant::now() < until, "a claim outlived its holder");
    }
}

#[tokio::test]
async fn who_claims_what_has_just_been_kept_is_given_it() {
    let redis = Redis::start();
    let one = Member::join(redis.addr()).await;
    let fence = one.domain.applied_fence().unwrap();
    let ttl = Duration::from_mins(1);
    let dataset = TierDataset { fence, tags: vec![], body: b"{}".as_slice().into() };
    assert!(
        patiently(|| one.domain.store(place("42"), dataset.clone(), Duration::ZERO, ttl))
            .await
            .unwrap()
    );
    let place = place("42");
    let claimant = one.domain.new_claim_holder();
    let claimed =
        patiently(|| one.domain.claim(&place, &claimant, fence, ttl, Some(READY_BYTES))).await;
    let Ok(ClaimOutcome::AlreadyStored(fetched)) = claimed else { panic!("{claimed:?}") };
    assert_eq!((fetched.dataset, fetched.valid_up_to), (dataset, fence));
    assert!(fetched.ttl_left <= ttl && fetched.ttl_left > ttl / 2, "{:?}", fetched.ttl_left);
}

#[tokio::test]
async fn a_fleet_of_one_needs_no_redis() {
    let bus = Bus::standalone([DOMAIN], BusMetrics::default());
    let domain = bus.domain(DOMAIN).unwrap();
    let start = domain.start_point();
    let mark = domain.may_store(start, "42", &[]).unwrap();
    assert!(domain.has_lease() && domain.is_valid(mark, "42", &[]));
    let sent = domain.invalidate(keys(&["42"])).await.unwrap();
    let acknowledged = domain.wait_for_fleet(&sent, Duration::ZERO).await.unwrap();
    assert_eq!((acknowledged.sidecars, acknowledged.silent_members), (1, vec![]));
    assert!(!domain.is_valid(mark, "42", &[]));
    assert_eq!(fetched(&domain, place("42")).await, Err(RedisFault::Lost));
    assert!(bus.status().is_standalone && bus.status().domains[0].lease_left.is_none());
}

/// Changes the password of the user that all members have, and closes the connections that used the
/// old one.
fn change_password(redis: &Redis, password: &str) {
    let mut change = redis::pipe();
    change
        .cmd("ACL")
        .arg("SETUSER")
        .arg("bfb")
        .arg("resetpass")
        .arg(format!(">{password}"))
        .ignore();
    change.cmd("CLIENT").arg("KILL").arg("USER").arg("bfb").ignore();
    change.exec(&mut redis.control()).unwrap();
}

#[tokio::test]
async fn a_password_that_is_changed_while_running_is_taken_from_its_file() {
    for cluster in [false, true] {
        let redis = if cluster { Redis::start_cluster() } else { Redis::start() };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "bfb:secret").unwrap();
        let scheme = if cluster { "redis-cluster" } else { "redis" };
        let mut settings =
            BusConfig::new(format!("{scheme}://{}", redis.addr()).parse().unwrap(), LEASE);
        settings.auth = Some(file.path().to_owned());
        let mut one = Member::begin(settings);
        one.until("hold its lease", |member| member.domain.has_lease()).await;
        let fence = one.domain.applied_fence().unwrap();

        // The file is written after the change, as Kubernetes updates a secret's file late.
        change_password(&redis, "another");
        one.until("lose its lease", |member| !member.domain.has_lease()).await;
        assert!(one.domain.invalidate(keys(&["42"])).await.is_err());
        std::fs::write(file.path(), "bfb:another\n").unwrap();
        one.until("hold its lease", |member| member.domain.has_lease()).await;
        assert_eq!(one.domain.applied_fence().unwrap(), fence, "it is the same log");

        // The file is written before the change: then only the connection is lost.
        std::fs::write(file.path(), "bfb:third").unwrap();
        change_password(&redis, "third");
        let sent = one.domain.invalidate(keys(&["42"])).await.unwrap();
        assert!(one.domain.has_lease());
        one.until("apply it", |member| member.domain.has_applied(sent.token())).await;
    }
}

#[tokio::test]
async fn the_password_is_read_again_at_each_connecting() {
    let redis = Redis::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "bfb:wrong").unwrap();
    let mut settings = settings(redis.addr());
    settings.auth = Some(file.path().to_owned());
    let mut one = Member::begin(settings);
    std::fs::write(file.path(), "bfb:secret\n").unwrap();
    one.until("hold its lease", |member| member.domain.has_lease()).await;
}
