//! The ways to reach a Redis: TLS with certificates of its own authority, a socket, Sentinel, a
//! Cluster.

use std::net::SocketAddr;

use bfb::bus::{BusConfig, BusEventKind, RedisNames};
use bfb::identity::issue::Leaf;
use tempfile::{NamedTempFile, TempDir};

use super::support::{DOMAIN, LEASE, Member, TEST_TIMEOUT, keys};
use crate::support::pki::Pki;
use crate::support::redis::{Redis, SEVEN, free, version};

fn settings(url: &str) -> BusConfig {
    BusConfig::new(url.parse().unwrap(), LEASE)
}

async fn joined(settings: BusConfig) -> Member {
    let mut member = Member::begin(settings);
    member.until("hold its lease", |member| member.domain.has_lease()).await;
    member
}

/// An invalidation of one member reaches the other.
async fn is_a_fleet(one: &Member, two: &Member) {
    let sent = one.domain.invalidate(keys(&["42"])).await.unwrap();
    let acknowledged = one.domain.wait_for_fleet(&sent, TEST_TIMEOUT).await.unwrap();
    assert_eq!((acknowledged.sidecars, acknowledged.silent_members), (2, vec![]));
    assert!(two.domain.has_applied(sent.token()));
}

/// The options with which a server accepts only TLS, and requires a client certificate; its files
/// are in `dir`.
fn tls_options(pki: &Pki, dir: &TempDir, port: u16) -> Vec<String> {
    let leaf = Leaf::new("redis").dns("localhost").ip([127, 0, 0, 1]);
    pki.authority.issue(&leaf).unwrap().write(dir.path(), pki.authority.ca_pem()).unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let pairs = [
        ("port", port.to_string()),
        ("cert-file", file("tls.crt")),
        ("key-file", file("tls.key")),
        ("ca-cert-file", file("ca.crt")),
    ];
    pairs.into_iter().flat_map(|(name, value)| [format!("--tls-{name}"), value]).collect()
}

fn with_certificates(settings: BusConfig, pki: &Pki) -> BusConfig {
    BusConfig {
        ca: Some(pki.dir().join("ca.crt")),
        identity: Some(pki.dir().to_owned()),
        ..settings
    }
}

#[tokio::test]
async fn a_redis_behind_mutual_tls_is_reached_with_certificates_of_ones_own() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let port = free().port();
    let options = tls_options(&pki, &dir, port);
    let _redis = Redis::start_with(&options.iter().map(String::as_str).collect::<Vec<_>>());
    let settings =
        with_certificates(settings(&format!("rediss://bfb:secret@localhost:{port}")), &pki);
    let one = joined(settings.clone()).await;
    let two = joined(settings.clone()).await;
    is_a_fleet(&one, &two).await;

    let mut nobody = settings.clone();
    nobody.identity = None;
    let mut strangers = settings;
    let stranger = dir.path().join("stranger.crt");
    std::fs::write(&stranger, pki.stranger.ca_pem()).unwrap();
    strangers.ca = Some(stranger);
    for wrong in [nobody, strangers] {
        let mut refused = Member::begin(wrong);
        refused.until("be refused", |member| member.bus.status().fault.is_some()).await;
        assert!(!refused.bus.status().connected);
    }
}

#[tokio::test]
async fn a_cluster_and_sentinels_behind_mutual_tls_are_reached_the_same_way() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let auth = NamedTempFile::new().unwrap();
    std::fs::write(auth.path(), "bfb:secret").unwrap();
    let of = |url: String| BusConfig {
        auth: Some(auth.path().to_owned()),
        ..with_certificates(settings(&url), &pki)
    };
    let port = free().port();
    let options = tls_options(&pki, &dir, port);
    let options: Vec<_> = options.iter().map(String::as_str).collect();

    let cluster = Redis::start_node(&[&options[..], &["--tls-cluster", "yes"]].concat());
    cluster.take_slots(0..16_384);
    let settings = of(format!("rediss-cluster://localhost:{port}"));
    let one = joined(settings.clone()).await;
    let two = joined(settings).await;
    is_a_fleet(&one, &two).await;
    drop(cluster);

    let primary = Redis::start_with(&options);
    let watch = free().port();
    let lines: Vec<_> = tls_options(&pki, &dir, watch)
        .chunks(2)
        .map(|pair| format!("{} {}", pair[0].trim_start_matches("--"), pair[1]))
        .chain(["tls-replication yes".to_owned(), "requirepass watchword".to_owned()])
        .collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let _sentinel = Redis::sentinel_of(SocketAddr::new(primary.addr().ip(), port), &lines);
    let settings = of(format!("rediss-sentinel://:watchword@localhost:{watch}/main"));
    let one = joined(settings.clone()).await;
    let two = joined(settings).await;
    is_a_fleet(&one, &two).await;
}

#[tokio::test]
async fn a_redis_is_reached_by_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("redis.sock");
    let _redis = Redis::start_with(&["--unixsocket", socket.to_str().unwrap()]);
    let url = format!("unix://{}?user=bfb&pass=secret", socket.display());
    let one = joined(settings(&url)).await;
    let two = joined(settings(&url)).await;
    is_a_fleet(&one, &two).await;
}

#[tokio::test]
async fn the_primary_is_found_through_a_sentinel() {
    let redis = Redis::start();
    let sentinel = Redis::sentinel_of(redis.addr(), &[]);
    let auth = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(auth.path(), "bfb:secret").unwrap();
    let mut settings = settings(&format!("redis-sentinel://{}/main", sentinel.addr()));
    settings.auth = Some(auth.path().to_owned());
    let one = joined(settings.clone()).await;
    let two = joined(settings).await;
    is_a_fleet(&one, &two).await;
}

#[tokio::test]
async fn a_cluster_brings_news_by_sharded_pub_sub_and_hints_both_ways() {
    let redis = Redis::start_cluster();
    let auth = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(auth.path(), "bfb:secret").unwrap();
    let mut settings = settings(&format!("redis-cluster://{}", redis.addr()));
    settings.auth = Some(auth.path().to_owned());
    let one = joined(settings.clone()).await;
    let mut two = joined(settings).await;
    is_a_fleet(&one, &two).await;
    let names = RedisNames::new("default", DOMAIN);
    // Before 7.0 there is no sharded pub/sub, so all messages use classic channels.
    let ways = if version() >= SEVEN { &["PUBLISH", "SPUBLISH"][..] } else { &["PUBLISH"] };
    if version() >= SEVEN {
        let listeners: Vec<String> =
            redis.command(&["PUBSUB", "SHARDNUMSUB", &names.invalidations_channel()]);
        assert_eq!(listeners, [names.invalidations_channel(), "2".to_owned()]);
    }
    for publish in ways {
        two.forget();
        redis.command::<i64>(&[*publish, &names.hints_channel(), r#"{"keys": ["43"]}"#]);
        two.until_it(|what| *what == BusEventKind::HintHandled).await;
    }
}
