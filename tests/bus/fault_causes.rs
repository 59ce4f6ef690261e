//! Redis faults are logged with their cause: once when a fault begins, and once when it ends.

use std::time::Duration;

use serde_json::Value;

use super::cluster::{UNNOTICED, a_domain_each};
use crate::cache::file;
use crate::fleet::until_lease;
use crate::support::client::TEST_TIMEOUT;
use crate::support::cluster::Cluster;
use crate::support::domain::DomainFile;
use crate::support::redis::{Redis, kind};
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::Upstream;

/// A heartbeat's answer may take a quarter of the lease; two that a busy machine delays longer
/// would count as faults too.
const LEASE: &str = "4s";

async fn sidecar(url: &str) -> Sidecar {
    let upstream = Upstream::plain().await;
    let domain = file(&upstream, "{ttl: 60s}");
    Setup::of(&[&domain])
        .insecure()
        .args(&["--memory", "64MiB", "--redis", url, "--lease", LEASE])
        .start()
        .await
}

async fn faults(sidecar: &Sidecar, kind: &str) -> f64 {
    sidecar.metric("bfb_redis_faults_total", &[("kind", kind)]).await.unwrap_or_default()
}

/// Waits until so many faults of a kind have been counted, so that there were as many reasons to
/// log one.
async fn until_faults(sidecar: &Sidecar, kind: &str, many: f64) {
    let enough = async {
        while faults(sidecar, kind).await < many {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(TEST_TIMEOUT, enough).await.is_ok(), "{}", sidecar.log());
}

/// The log lines about Redis faults, and about their end.
fn fault_lines(sidecar: &Sidecar) -> Vec<String> {
    fault_lines_of(sidecar, |_| true)
}

/// The same lines, for the domains that match: a line's `domain`, if it has one.
fn fault_lines_of(sidecar: &Sidecar, is_wanted: impl Fn(Option<&str>) -> bool) -> Vec<String> {
    let lines = sidecar.lines();
    let of_redis = lines.iter().filter(|line| is_wanted(line["domain"].as_str())).filter(|line| {
        let message = line["message"].as_str().unwrap_or_default();
        line["level"] != "DEBUG" && (message.contains("redis") || line["fault"].is_string())
    });
    let text = |line: &Value| match line["fault"].as_str() {
        Some(fault) => format!("{}: {fault}", line["message"].as_str().unwrap()),
        None => line["message"].as_str().unwrap().to_owned(),
    };
    of_redis.map(text).collect()
}

async fn trouble(sidecar: &Sidecar) -> String {
    sidecar.admin("/readyz").await.json()["trouble"].to_string()
}

#[tokio::test]
async fn a_user_who_may_not_run_a_command_is_named_with_it_once() {
    let redis = Redis::start();
    let rules = bfb::bus::acl_rules("default", kind(false));
    let grant = |rules: &str| {
        let words = ["ACL", "SETUSER", "few", "on", ">secret"];
        redis.command::<()>(&words.into_iter().chain(rules.split(' ')).collect::<Vec<_>>());
    };
    grant(&rules.replace(" +hset", ""));
    let sidecar = sidecar(&format!("redis://few:secret@{}", redis.addr())).await;
    until_faults(&sidecar, "no_permission", 4.0).await;
    let cause = "redis refused with `NOPERM`: its user may not run `hset`";
    assert_eq!(fault_lines(&sidecar), [format!("trouble with redis: {cause}")]);
    assert!(trouble(&sidecar).await.contains(cause));
    grant("+hset");
    until_lease(&sidecar, true).await;
    sidecar.logged("connected to redis").await;
    assert_eq!(fault_lines(&sidecar)[1..], ["connected to redis: heartbeats are answered"]);
    assert_eq!(trouble(&sidecar).await, "[]");
}

#[tokio::test]
async fn a_replica_is_said_to_be_read_only_once() {
    let primary = Redis::start();
    let replica = Redis::replica_of(&primary);
    let sidecar = sidecar(&replica.url()).await;
    until_faults(&sidecar, "refused", 4.0).await;
    let cause = "redis refused with `READONLY`";
    assert_eq!(fault_lines(&sidecar), [format!("trouble with redis: {cause}")]);
    assert!(trouble(&sidecar).await.contains(cause));
    replica.command::<()>(&["REPLICAOF", "NO", "ONE"]);
    until_lease(&sidecar, true).await;
    sidecar.logged("connected to redis").await;
    assert_eq!(fault_lines(&sidecar)[1..], ["connected to redis: heartbeats are answered"]);
}

#[tokio::test]
async fn an_unknown_host_and_a_refused_connection_are_told_apart() {
    for (url, cause) in [
        ("redis://redis.invalid:6379", "redis cannot be reached: its host name cannot be resolved"),
        ("redis://127.0.0.1:1", "redis cannot be reached: the connection was refused"),
    ] {
        let sidecar = sidecar(url).await;
        until_faults(&sidecar, "unreachable", 4.0).await;
        assert_eq!(fault_lines(&sidecar), [format!("trouble with redis: {cause}")]);
        assert!(trouble(&sidecar).await.contains(cause), "{}", trouble(&sidecar).await);
    }
}

#[tokio::test]
async fn a_redis_that_goes_and_comes_back_is_said_twice() {
    let mut redis = Redis::start();
    let sidecar = sidecar(&redis.url()).await;
    until_lease(&sidecar, true).await;
    redis.kill();
    until_faults(&sidecar, "unreachable", 4.0).await;
    redis.revive();
    sidecar.logged_times("connected to redis", 2).await;
    let lines = fault_lines(&sidecar);
    assert_eq!(lines.first().unwrap(), "connected to redis: heartbeats are answered");
    assert_eq!(lines.last().unwrap(), "connected to redis: heartbeats are answered");
    let troubles: std::collections::BTreeSet<_> = lines[1..lines.len() - 1].iter().collect();
    assert_eq!(troubles.len(), lines.len() - 2, "a cause is said once: {lines:?}");
    assert!(lines.contains(
        &"trouble with redis: redis cannot be reached: the connection was refused".to_owned()
    ));
}

#[tokio::test]
async fn a_server_of_a_cluster_that_refuses_is_trouble_of_its_own_domains() {
    let cluster = Cluster::start(UNNOTICED);
    let upstream = Upstream::plain().await;
    let domains = a_domain_each(&cluster);
    let files: Vec<_> = domains
        .iter()
        .map(|name| DomainFile::of(name).source("part", &upstream, "/{key}", &[]))
        .collect();
    // Each server has its own users.
    let may_set = |sign: &str| {
        cluster.nodes[1].command::<()>(&["ACL", "SETUSER", "bfb", &format!("{sign}hset")]);
    };
    may_set("-");
    let url = format!("redis-cluster://bfb:secret@{}", cluster.nodes[0].addr());
    let setup = Setup::of(&files.iter().collect::<Vec<_>>()).insecure();
    let sidecar =
        setup.args(&["--memory", "64MiB", "--redis", &url, "--lease", LEASE]).start().await;
    until_faults(&sidecar, "no_permission", 4.0).await;
    sidecar.logged("connected to redis").await;

    let cause = "redis refused with `NOPERM`: its user may not run `hset`";
    let of_refused = |domain: Option<&str>| domain == Some(&domains[1]);
    assert_eq!(fault_lines_of(&sidecar, of_refused), [format!("trouble with redis: {cause}")]);
    let others = fault_lines_of(&sidecar, |domain| !of_refused(domain));
    assert_eq!(
        others,
        ["connected to redis: heartbeats are answered"],
        "two of the three servers are well"
    );
    assert!(trouble(&sidecar).await.contains(cause));

    may_set("+");
    sidecar.logged_times("connected to redis", 2).await;
    assert_eq!(
        fault_lines_of(&sidecar, of_refused)[1..],
        ["connected to redis: heartbeats are answered"]
    );
    assert_eq!(fault_lines_of(&sidecar, |domain| !of_refused(domain)), others);
    assert_eq!(trouble(&sidecar).await, "[]");
}
