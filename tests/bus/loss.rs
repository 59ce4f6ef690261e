//! Messages that are lost on the way are noticed, and no outdated dataset is valid meanwhile.

use std::time::{Duration, Instant};

use bfb::bus::{BusEventKind, RedisFault, RedisNames, invalidate_script};
use bfb::coherence::{DatasetPlace, EmptyReason};
use futures_util::FutureExt as _;

use super::support::{DOMAIN, LEASE, Member, TEST_TIMEOUT, fetched, keys};
use crate::support::link::{Cut, Direction, Link};
use crate::support::redis::Redis;

/// The command by which another program invalidates a key.
pub(super) fn foreign(key: &str) -> redis::Cmd {
    let names = RedisNames::new("default", DOMAIN);
    let mut command = redis::cmd("EVAL");
    command.arg(invalidate_script()).arg(3).arg(names.meta()).arg(names.log()).arg(names.stamps());
    command.arg(1).arg("00000000000000000000000000000001").arg("").arg("key").arg(key).take()
}

#[tokio::test]
async fn one_that_is_cut_off_is_waited_for_as_long_as_it_may_serve() {
    let redis = Redis::start();
    let link = Link::to(redis.addr()).await;
    let one = Member::join(redis.addr()).await;
    let two = Member::join(link.addr()).await;
    let young = one.domain.invalidate(keys(&["1"])).await.unwrap();
    one.domain.wait_for_fleet(&young, TEST_TIMEOUT).await.unwrap();

    link.black_hole(Direction::Up);
    link.black_hole(Direction::Down);
    let sent = one.domain.invalidate(keys(&["42"])).await.unwrap();
    let hurried = one.domain.wait_for_fleet(&sent, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(hurried.laggards, [two.name()]);
    let acknowledged = one.domain.wait_for_fleet(&sent, TEST_TIMEOUT).await.unwrap();
    assert!(!two.domain.has_lease() && one.domain.has_lease());
    assert_eq!(acknowledged.silent_members, [two.name()]);
    assert!(acknowledged.took >= LEASE);

    let next = one.domain.invalidate(keys(&["42"])).await.unwrap();
    let acknowledged = one.domain.wait_for_fleet(&next, TEST_TIMEOUT).await.unwrap();
    assert_eq!(
        (acknowledged.sidecars, acknowledged.silent_members),
        (1, vec![]),
        "the silent one was removed"
    );
}

#[tokio::test]
async fn one_that_comes_back_catches_up_and_serves_again_at_its_first_attempt() {
    let redis = Redis::start();
    let link = Link::to(redis.addr()).await;
    let one = Member::join(redis.addr()).await;
    let mut two = Member::join(link.addr()).await;
    let connections = link.counts().accepted;
    let mark = two.domain.may_store(two.domain.start_point(), "43", &[]).unwrap();
    link.cut(Cut::Reset);
    let sent = one.domain.invalidate(keys(&["42"])).await.unwrap();
    two.until("lose its lease", |member| !member.domain.has_lease()).await;
    link.heal();
    let before = link.counts().accepted;
    two.until("hold its lease", |member| member.domain.has_lease()).await;
    let needed = link.counts().accepted - before;
    // One attempt may have been running when the link was healed.
    assert!(needed <= 2 * connections, "{needed} connections where {connections} do");
    assert!(two.domain.has_applied(sent.token()));
    assert!(two.domain.is_valid(mark, "43", &[]), "what nobody invalidated is still there");
}

#[tokio::test]
async fn what_was_published_while_a_connection_was_dead_is_read_from_the_log() {
    let redis = Redis::start();
    let mut one = Member::join(redis.addr()).await;
    let mark = one.domain.may_store(one.domain.start_point(), "42", &[]).unwrap();
    let mut kill_then_invalidate = redis::pipe();
    kill_then_invalidate
        .cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("pubsub")
        .add_command(foreign("42"));
    let (killed, _): (i64, Vec<String>) = kill_then_invalidate.query(&mut redis.control()).unwrap();
    assert_eq!(killed, 1);
    one.until_it(|what| matches!(what, BusEventKind::InvalidationApplied(_))).await;
    assert!(!one.domain.is_valid(mark, "42", &[]));
}

#[tokio::test]
async fn where_the_log_no_longer_reaches_back_memory_is_emptied() {
    let redis = Redis::start();
    let link = Link::to(redis.addr()).await;
    let mut one = Member::join(link.addr()).await;
    let mark = one.domain.may_store(one.domain.start_point(), "untouched", &[]).unwrap();
    link.cut(Cut::Reset);
    foreign("42").exec(&mut redis.control()).unwrap();
    foreign("43").exec(&mut redis.control()).unwrap();
    redis.command::<i64>(&["XTRIM", &RedisNames::new("default", DOMAIN).log(), "MAXLEN", "1"]);
    link.heal();
    one.until_it(|what| *what == BusEventKind::MemoryEmptied(EmptyReason::StreamEnd)).await;
    assert!(!one.domain.is_valid(mark, "untouched", &[]));
}

#[tokio::test]
async fn a_redis_that_restarts_begins_a_new_epoch_and_what_was_read_before_is_outdated() {
    for keeps_data in [false, true] {
        let mut redis = Redis::start();
        let mut one = Member::join(redis.addr()).await;
        let start = one.domain.start_point();
        let before = one.domain.applied_fence().unwrap();
        let mark = one.domain.may_store(start, "42", &[]).unwrap();
        if keeps_data {
            redis.restart_with_data();
        } else {
            redis.restart_without_data();
        }
        one.until_it(|what| matches!(what, BusEventKind::MemoryEmptied(EmptyReason::Epoch))).await;
        assert!(
            !one.domain.is_valid(mark, "42", &[])
                && one.domain.may_store(start, "42", &[]).is_none()
        );
        one.until("hold its lease", |member| member.domain.has_lease()).await;
        assert_ne!(
            one.domain.applied_fence().unwrap().epoch,
            before.epoch,
            "keeps data: {keeps_data}"
        );
    }
}

#[tokio::test]
async fn a_redis_that_was_flushed_has_another_log() {
    let redis = Redis::start();
    let mut one = Member::join(redis.addr()).await;
    let mark = one.domain.may_store(one.domain.start_point(), "42", &[]).unwrap();
    one.forget();
    redis.flush();
    one.until_it(|what| matches!(what, BusEventKind::MemoryEmptied(EmptyReason::Epoch))).await;
    assert!(!one.domain.is_valid(mark, "42", &[]));
}

#[tokio::test]
async fn a_newer_protocol_is_a_lost_bus() {
    let redis = Redis::start();
    let mut one = Member::join(redis.addr()).await;
    redis.command::<i64>(&["HSET", &RedisNames::new("default", DOMAIN).meta(), "protocol", "99"]);
    one.until("lose its lease", |member| !member.domain.has_lease()).await;
    assert_eq!(one.bus.status().domains[0].newer_protocol, Some(99));
    let place = DatasetPlace { key: "42".into(), plan: "p".into() };
    assert_eq!(fetched(&one.domain, place).await, Err(RedisFault::NewerProtocol(99)));
    assert_eq!(
        one.domain.invalidate(keys(&["42"])).await.unwrap_err(),
        RedisFault::NewerProtocol(99)
    );
}

#[tokio::test]
async fn a_redis_that_stands_still_holds_nobody_up() {
    let redis = Redis::start();
    let mut one = Member::join(redis.addr()).await;
    let place = DatasetPlace { key: "42".into(), plan: "p".into() };
    redis.pause();
    let reads = 100;
    let mut waited = 0;
    for _ in 0..reads {
        let mut fetching = std::pin::pin!(fetched(&one.domain, place.clone()));
        // A read that is refused at once has not waited for Redis.
        let answer = if let Some(answer) = fetching.as_mut().now_or_never() {
            answer
        } else {
            waited += 1;
            fetching.await
        };
        assert!(answer.is_err());
    }
    assert!(waited < reads / 4, "{waited} of {reads} reads waited");
    one.until("lose its lease", |member| !member.domain.has_lease()).await;
    redis.resume();
    one.until("hold its lease", |member| member.domain.has_lease()).await;
    // A late answer may have prolonged the lease while the connections are still being made anew.
    let until = Instant::now() + TEST_TIMEOUT;
    while fetched(&one.domain, place.clone()).await != Ok(None) {
        assert!(Instant::now() < until, "Redis is never asked again");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_redis_that_comes_late_is_found() {
    let mut redis = Redis::start();
    redis.kill();
    let mut one = Member::begin(super::support::settings(redis.addr()));
    let fault = one.domain.invalidate(keys(&["42"])).await.unwrap_err();
    assert!(matches!(fault, RedisFault::Lost | RedisFault::ConnectionRefused), "{fault}");
    assert!(!one.domain.has_lease() && !one.bus.status().connected);
    redis.revive();
    one.until("hold its lease", |member| member.domain.has_lease()).await;
}
