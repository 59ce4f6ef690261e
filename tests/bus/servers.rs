//! The ways to reach a Redis: TLS with certificates of one's own, a socket, Sentinel, a Cluster.

use bfb::bus::{Names, Settings, What};
use bfb::identity::issue::Leaf;

use super::support::{DOMAIN, LEASE, Member, PATIENCE, keys};
use crate::support::pki::Pki;
use crate::support::redis::{Redis, SEVEN, free, version};

fn settings(url: &str) -> Settings {
    Settings::new(url.parse().unwrap(), LEASE)
}

async fn joined(settings: Settings) -> Member {
    let mut member = Member::begin(settings);
    member.until("hold its lease", |member| member.domain.lease_held()).await;
    member
}

/// What one says reaches the other, and datasets are kept.
async fn is_a_fleet(one: &Member, two: &Member) {
    let sent = one.domain.invalidate(keys(&["42"])).await.unwrap();
    let acknowledged = one.domain.wait_fleet(&sent, PATIENCE).await.unwrap();
    assert_eq!((acknowledged.sidecars, acknowledged.silent), (2, vec![]));
    assert!(two.domain.has_applied(sent.token()));
}

#[tokio::test]
async fn a_redis_behind_mutual_tls_is_reached_with_certificates_of_ones_own() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let leaf = Leaf::new("redis").dns("localhost");
    pki.authority.issue(&leaf).unwrap().write(dir.path(), pki.authority.ca_pem()).unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (port, cert, key, ca) = (free().port().to_string(), file("tls.crt"), file("tls.key"), file("ca.crt"));
    let tls = ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let _redis = Redis::start_with(&tls);
    let mut settings = settings(&format!("rediss://bfb:secret@localhost:{port}"));
    settings.ca = Some(pki.dir().join("ca.crt"));
    settings.identity = Some(pki.dir().to_owned());
    let (one, two) = (joined(settings.clone()).await, joined(settings.clone()).await);
    is_a_fleet(&one, &two).await;

    let mut nobody = settings.clone();
    nobody.identity = None;
    let mut strangers = settings;
    let stranger = dir.path().join("stranger.crt");
    std::fs::write(&stranger, pki.stranger.ca_pem()).unwrap();
    strangers.ca = Some(stranger);
    for wrong in [nobody, strangers] {
        let mut refused = Member::begin(wrong);
        refused.until("be refused", |member| member.bus.standing().trouble.is_some()).await;
        assert!(!refused.bus.standing().connected);
    }
}

#[tokio::test]
async fn a_redis_is_reached_by_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("redis.sock");
    let _redis = Redis::start_with(&["--unixsocket", socket.to_str().unwrap()]);
    let url = format!("unix://{}?user=bfb&pass=secret", socket.display());
    let (one, two) = (joined(settings(&url)).await, joined(settings(&url)).await);
    is_a_fleet(&one, &two).await;
}

#[tokio::test]
async fn the_primary_is_found_through_a_sentinel() {
    let redis = Redis::start();
    let sentinel = Redis::sentinel_of(redis.addr());
    let auth = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(auth.path(), "bfb:secret").unwrap();
    let mut settings = settings(&format!("redis-sentinel://{}/main", sentinel.addr()));
    settings.auth = Some(auth.path().to_owned());
    let (one, two) = (joined(settings.clone()).await, joined(settings).await);
    is_a_fleet(&one, &two).await;
}

#[tokio::test]
async fn a_cluster_brings_news_by_sharded_pub_sub_and_hints_both_ways() {
    let redis = Redis::start_cluster();
    let auth = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(auth.path(), "bfb:secret").unwrap();
    let mut settings = settings(&format!("redis-cluster://{}", redis.addr()));
    settings.auth = Some(auth.path().to_owned());
    let (one, mut two) = (joined(settings.clone()).await, joined(settings).await);
    is_a_fleet(&one, &two).await;
    let names = Names::new("default", DOMAIN);
    // Before 7.0 there is no sharded pub/sub, and everything goes the classic way.
    let ways = if version() >= SEVEN { &["PUBLISH", "SPUBLISH"][..] } else { &["PUBLISH"] };
    if version() >= SEVEN {
        let listeners: Vec<String> = redis.command(&["PUBSUB", "SHARDNUMSUB", &names.news()]);
        assert_eq!(listeners, [names.news(), "2".to_owned()]);
    }
    for publish in ways {
        two.forget();
        redis.command::<i64>(&[*publish, &names.hints(), r#"{"keys": ["43"]}"#]);
        two.until_it(|what| *what == What::Hinted).await;
    }
}
