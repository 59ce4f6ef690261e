//! A subscriber that does not keep up with pub/sub loses messages and notices it: messages that
//! Redis drops and messages that the queue drops are gaps.

use std::time::Duration;

use bfb::bus::{BusEventKind, BusMetrics, RedisNames};
use prometheus_client::registry::Registry;

use super::loss::foreign;
use super::support::{DOMAIN, Member, keys, settings};
use crate::support::link::{Direction, Link};
use crate::support::redis::Redis;

/// A lease so long that no heartbeat delivers the entries that the gap must.
const LONG: Duration = Duration::from_mins(2);

fn counter(registry: &Registry, name: &str) -> u64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}_total ")))
        .unwrap()
        .to_owned();
    line.parse().unwrap()
}

#[tokio::test]
async fn a_subscriber_that_redis_cuts_off_catches_up_from_the_log() {
    let redis = Redis::start();
    let link = Link::to(redis.addr()).await;
    let mut settings = settings(link.addr());
    settings.lease = LONG;
    let mut one = Member::begin(settings);
    one.until("hold its lease", |member| member.domain.has_lease()).await;
    let mark = one.domain.may_store(one.domain.start_point(), "last", &[]).unwrap();

    link.black_hole(Direction::Down);
    redis.command::<()>(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 65536 0 0"]);
    // More unread messages than the buffers of both sockets hold: then Redis closes the connection.
    let filler = "x".repeat(256 * 1024);
    let channel = RedisNames::new("default", DOMAIN).hints_channel();
    let mut control = redis.control();
    while redis::cmd("PUBLISH").arg(&channel).arg(&filler).query::<i64>(&mut control).unwrap() == 1
    {
    }
    foreign("last").exec(&mut control).unwrap();
    link.heal();
    one.until_it(|what| matches!(what, BusEventKind::InvalidationApplied(_))).await;
    assert!(!one.domain.is_valid(mark, "last", &[]));
}

#[tokio::test]
async fn a_queue_that_overflows_is_a_gap_that_the_log_fills() {
    let redis = Redis::start();
    let mut registry = Registry::default();
    let mut settings = settings(redis.addr());
    settings.lease = LONG;
    let mut one = Member::counting(settings, BusMetrics::register(&mut registry));
    one.until("hold its lease", |member| member.domain.has_lease()).await;
    let mark = one.domain.may_store(one.domain.start_point(), "last", &[]).unwrap();
    // This thread sends for a while without reading: messages pile up in the socket, and come at
    // once.
    let mut burst = redis::pipe();
    for key in 0..4_000 {
        burst.add_command(foreign(&key.to_string())).ignore();
    }
    burst.add_command(foreign("last")).ignore();
    burst.exec(&mut redis.control()).unwrap();
    let end = one.domain.invalidate(keys(&["end"])).await.unwrap();
    one.until("apply it", |member| member.domain.has_applied(end.token())).await;
    assert!(counter(&registry, "bus_queue_full") > 0, "all of it fitted");
    // An invalidation that Redis answered too slowly is sent again.
    assert!(end.token().seq >= 4_002);
    assert!(!one.domain.is_valid(mark, "last", &[]));
}
