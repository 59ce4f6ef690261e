//! The counters of the contract and of issue 4, on a running member of a fleet: present from the
//! start, under exactly these names and labels, and raised by their events.

use bfb::bus::{RedisNames, invalidate_script};
use serde_json::json;

use super::PATH;
use crate::cache::write;
use crate::fleet::{fleet, until_lease};
use crate::support::client::TEST_TIMEOUT;
use crate::support::sidecar::Sidecar;

const DOMAIN: (&str, &str) = ("domain", "customer");

async fn until(sidecar: &Sidecar, name: &str, labels: &[(&str, &str)], so: impl Fn(f64) -> bool) {
    let reached = async { while !sidecar.metric(name, labels).await.is_some_and(&so) {} };
    assert!(
        tokio::time::timeout(TEST_TIMEOUT, reached).await.is_ok(),
        "{name}: {:?}",
        sidecar.metric(name, labels).await
    );
}

/// The command by which another program invalidates a key.
fn foreign(key: &str) -> redis::Cmd {
    let names = RedisNames::new("default", "customer");
    let mut command = redis::cmd("EVAL");
    command.arg(invalidate_script()).arg(3).arg(names.meta()).arg(names.log()).arg(names.stamps());
    command.arg(1).arg("00000000000000000000000000000001").arg("").arg("key").arg(key).take()
}

/// A metric, its labels, and its value where the test expects one.
type Expected<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<f64>);

#[tokio::test]
async fn every_counter_is_there_before_it_counts_anything() {
    let (_redis, _upstream, members) = fleet(1, &[]).await;
    let sidecar = &members[0];
    let plan =
        sidecar.admin("/status").await.json()["domains"][0]["plan"].as_str().unwrap().to_owned();
    let expected: &[Expected<'_>] = &[
        ("bfb_build_info", &[("version", env!("CARGO_PKG_VERSION"))], Some(1.0)),
        ("bfb_domain_info", &[DOMAIN, ("plan", &plan)], Some(1.0)),
        ("bfb_requests_total", &[DOMAIN, ("version", "v2"), ("status", "200")], Some(0.0)),
        ("bfb_request_duration_seconds_count", &[DOMAIN, ("version", "v2")], Some(0.0)),
        ("bfb_source_requests_total", &[("source", "part"), ("result", "ok")], Some(0.0)),
        ("bfb_reload_failures_total", &[], Some(0.0)),
        ("bfb_cache_hits_total", &[("tier", "memory")], Some(0.0)),
        ("bfb_cache_misses_total", &[], Some(0.0)),
        ("bfb_cache_fenced_total", &[], Some(0.0)),
        ("bfb_lease_held", &[DOMAIN], Some(1.0)),
        ("bfb_log_lag_entries", &[DOMAIN], Some(0.0)),
        ("bfb_lease_losses_total", &[DOMAIN], Some(0.0)),
        ("bfb_bypass_seconds_total", &[DOMAIN], None),
        ("bfb_bus_gaps_total", &[], Some(0.0)),
        ("bfb_bus_catch_ups_total", &[DOMAIN], None),
        ("bfb_invalidations_applied_total", &[DOMAIN], Some(0.0)),
        ("bfb_memory_emptied_total", &[DOMAIN, ("why", "stream_end")], Some(0.0)),
        ("bfb_invalidation_acknowledged_seconds_count", &[], Some(0.0)),
        ("bfb_redis_connected", &[], Some(1.0)),
        ("bfb_event_listeners", &[], Some(0.0)),
        ("bfb_events_missed_total", &[], Some(0.0)),
    ];
    for (name, labels, value) in expected {
        let found = sidecar.metric(name, labels).await;
        assert!(
            found.is_some() && (value.is_none() || found == *value),
            "{name} {labels:?}: {found:?}"
        );
    }
}

#[tokio::test]
async fn hits_acknowledgements_gaps_catch_ups_and_losses_are_counted() {
    let (mut redis, _upstream, members) = fleet(1, &["--lease", "1s"]).await;
    let sidecar = &members[0];
    let count = async |name: &str, labels: &[(&str, &str)]| sidecar.metric(name, labels).await;
    for _ in 0..3 {
        sidecar.get(PATH).await.dataset();
    }
    assert_eq!(count("bfb_cache_hits_total", &[("tier", "memory")]).await, Some(2.0));
    assert_eq!(count("bfb_cache_misses_total", &[]).await, Some(1.0));
    let request = json!({"domain": "customer", "keys": ["42"], "wait": "fleet"});
    assert_eq!(sidecar.send_admin(write("/invalidate", &request)).await.status, 200);
    assert_eq!(count("bfb_invalidation_acknowledged_seconds_count", &[]).await, Some(1.0));
    assert_eq!(count("bfb_invalidations_applied_total", &[DOMAIN]).await, Some(1.0));
    // A closed connection is a gap, and entries that are published meanwhile are read from the log.
    let catch_ups = count("bfb_bus_catch_ups_total", &[DOMAIN]).await.unwrap();
    let mut kill_then_invalidate = redis::pipe();
    kill_then_invalidate
        .cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("pubsub")
        .add_command(foreign("43"));
    kill_then_invalidate.exec(&mut redis.control()).unwrap();
    until(sidecar, "bfb_bus_gaps_total", &[], |gaps| gaps >= 1.0).await;
    until(sidecar, "bfb_bus_catch_ups_total", &[DOMAIN], |times| times > catch_ups).await;
    until(sidecar, "bfb_invalidations_applied_total", &[DOMAIN], |times| times >= 2.0).await;
    until(sidecar, "bfb_redis_connected", &[], |connected| connected >= 1.0).await;
    let bypassed = count("bfb_bypass_seconds_total", &[DOMAIN]).await.unwrap();
    redis.kill();
    until_lease(sidecar, false).await;
    until(sidecar, "bfb_bypass_seconds_total", &[DOMAIN], |seconds| seconds > bypassed + 0.5).await;
    assert_eq!(count("bfb_lease_losses_total", &[DOMAIN]).await, Some(1.0));
    assert_eq!(count("bfb_lease_held", &[DOMAIN]).await, Some(0.0));
    // The first log of the sidecar has counted as a new epoch as well.
    let epochs = count("bfb_memory_emptied_total", &[DOMAIN, ("why", "epoch")]).await.unwrap();
    redis.revive();
    until_lease(sidecar, true).await;
    until(sidecar, "bfb_memory_emptied_total", &[DOMAIN, ("why", "epoch")], |times| times > epochs)
        .await;
}
