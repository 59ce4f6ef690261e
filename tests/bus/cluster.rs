//! A Redis Cluster of three real servers: each domain's log is on one of them, moves with its slot,
//! and is lost and found with its server.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bfb::bus::{BusConfig, BusEventKind, DomainBus, RedisNames};
use bfb::coherence::EmptyReason;
use tempfile::NamedTempFile;

use super::support::{Member, TEST_TIMEOUT, keys};
use crate::support::cluster::Cluster;
use crate::support::redis::{SEVEN, version};

/// So long that within a test's timeout no heartbeat delivers an entry that pub/sub should deliver.
const LONG: Duration = Duration::from_mins(2);
const SHORT: Duration = Duration::from_millis(800);
/// The cluster detects unreachable nodes so late that no test waits for it.
pub(super) const UNNOTICED: Duration = Duration::from_mins(1);

fn settings(cluster: &Cluster, lease: Duration) -> (BusConfig, NamedTempFile) {
    let auth = NamedTempFile::new().unwrap();
    std::fs::write(auth.path(), "bfb:secret").unwrap();
    let mut settings = BusConfig::new(cluster.url().parse().unwrap(), lease);
    settings.auth = Some(auth.path().to_owned());
    (settings, auth)
}

fn meta(domain: &str) -> String {
    RedisNames::new("default", domain).meta()
}

/// The names of domains, one on each node.
pub(super) fn a_domain_each(cluster: &Cluster) -> Vec<String> {
    let on = |node: usize| {
        let names = (0..).map(|number| format!("domain-{number}"));
        names.into_iter().find(|name| cluster.holder(&meta(name)) == node).unwrap()
    };
    (0..cluster.nodes.len()).map(on).collect()
}

async fn hold(member: &mut Member, domains: &[String]) {
    let buses: Vec<_> = domains.iter().map(|name| member.bus.domain(name).unwrap()).collect();
    member.until("hold its leases", |_| buses.iter().all(DomainBus::has_lease)).await;
}

async fn pair(settings: &BusConfig, domains: &[String]) -> (Member, Member) {
    let names: Vec<_> = domains.iter().map(String::as_str).collect();
    let mut one = Member::serving(settings.clone(), &names);
    let mut two = Member::serving(settings.clone(), &names);
    hold(&mut one, domains).await;
    hold(&mut two, domains).await;
    (one, two)
}

/// An invalidation by one member reaches the other by pub/sub.
async fn receives(one: &Member, two: &mut Member, domain: &str) {
    let sent = one.bus.domain(domain).unwrap().invalidate(keys(&["42"])).await.unwrap();
    let other = two.bus.domain(domain).unwrap();
    two.until("hear of it", |_| other.has_applied(sent.token())).await;
}

/// Waits until all members have reported that they applied the first entry: after that there is no
/// report due for a long time.
async fn until_reported(cluster: &Cluster, domain: &str) {
    let until = Instant::now() + TEST_TIMEOUT;
    loop {
        let holder = &cluster.nodes[cluster.holder(&meta(domain))];
        let meta: HashMap<String, String> = holder.command(&["HGETALL", &meta(domain)]);
        let mut registry = meta.iter().filter(|(field, _)| field.starts_with("r:"));
        if registry.all(|(_, registration)| registration.split(' ').nth(1) == Some("1")) {
            return;
        }
        assert!(Instant::now() < until, "they never reported: {meta:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn domains_on_different_servers_are_logs_of_their_own_and_their_news_stay_there() {
    let cluster = Cluster::start(UNNOTICED);
    let domains = a_domain_each(&cluster);
    let (settings, _auth) = settings(&cluster, LONG);
    let (one, mut two) = pair(&settings, &domains).await;
    for (node, domain) in domains.iter().enumerate() {
        receives(&one, &mut two, domain).await;
        assert_eq!(cluster.nodes[node].command::<i64>(&["EXISTS", &meta(domain)]), 1);
        if version() >= SEVEN {
            let channel = RedisNames::new("default", domain).invalidations_channel();
            let listeners: Vec<String> =
                cluster.nodes[node].command(&["PUBSUB", "SHARDNUMSUB", &channel]);
            assert_eq!(listeners, [channel, "2".to_owned()]);
        }
    }
}

#[tokio::test]
async fn namespaces_share_a_cluster_and_nothing_else() {
    let cluster = Cluster::start(UNNOTICED);
    // The administrator may use every command in any namespace.
    let settings = |namespace: &str| {
        let mut settings = BusConfig::new(cluster.url().parse().unwrap(), LONG);
        namespace.clone_into(&mut settings.namespace);
        settings
    };
    let domain = ["customer".to_owned()];
    let (one, mut two) = pair(&settings("shop"), &domain).await;
    let (other, _) = pair(&settings("bank"), &domain).await;
    receives(&one, &mut two, "customer").await;
    let sent = other.domain.invalidate(keys(&["42"])).await.unwrap();
    assert_eq!((sent.token().seq, sent.sidecars()), (1, 2), "its own log, its own registry");
}

#[tokio::test]
async fn a_server_that_dies_takes_its_domains_with_it_and_no_other_until_it_is_back() {
    let mut cluster = Cluster::start_with(UNNOTICED, &["--cluster-require-full-coverage", "no"]);
    let domains = a_domain_each(&cluster);
    let (settings, _auth) = settings(&cluster, SHORT);
    let (mut one, mut two) = pair(&settings, &domains).await;
    let lost = one.bus.domain(&domains[1]).unwrap();
    let mark = lost.may_store(lost.start_point(), "42", &[]).unwrap();
    let before = lost.applied_fence().unwrap();

    cluster.nodes[1].kill();
    one.until("lose the lease of the one", |_| !lost.has_lease()).await;
    assert!(lost.invalidate(keys(&["42"])).await.is_err());
    for domain in [&domains[0], &domains[2]] {
        assert!(one.bus.domain(domain).unwrap().has_lease(), "the others are where they were");
        receives(&one, &mut two, domain).await;
    }

    cluster.nodes[1].revive();
    one.until_it(|what| matches!(what, BusEventKind::MemoryEmptied(EmptyReason::Epoch))).await;
    hold(&mut one, &domains).await;
    hold(&mut two, &domains).await;
    assert!(!lost.is_valid(mark, "42", &[]) && lost.applied_fence().unwrap().epoch != before.epoch);
    let sent = lost.invalidate(keys(&["42"])).await.unwrap();
    let acknowledged = lost.wait_for_fleet(&sent, TEST_TIMEOUT).await.unwrap();
    assert_eq!((acknowledged.sidecars, acknowledged.silent_members), (2, vec![]));
}

#[tokio::test]
async fn a_slot_that_moves_takes_its_domain_along() {
    let cluster = Cluster::start(UNNOTICED);
    let domain = [a_domain_each(&cluster).remove(0)];
    let (settings, _auth) = settings(&cluster, LONG);
    let (one, mut two) = pair(&settings, &domain).await;
    receives(&one, &mut two, &domain[0]).await;
    until_reported(&cluster, &domain[0]).await;
    let before = one.domain.applied_fence().unwrap();
    let mark = two.domain.may_store(two.domain.start_point(), "42", &[]).unwrap();

    cluster.begin_move(&meta(&domain[0]), 2);
    let first = one.domain.invalidate(keys(&["42"])).await.unwrap();
    assert_ne!(first.token().epoch, before.epoch, "another server is another life");
    cluster.finish_move(&meta(&domain[0]), 2);
    let moved = one.domain.invalidate(keys(&["42"])).await.unwrap();
    assert_eq!(
        (moved.token().epoch, moved.token().seq),
        (first.token().epoch, first.token().seq + 1)
    );
    two.until("follow", |member| member.domain.has_applied(moved.token())).await;
    assert!(!two.domain.is_valid(mark, "42", &[]));
    receives(&one, &mut two, &domain[0]).await;
}
