//! `bfb doctor --redis`, the real binary on real servers: its findings for servers that fit and for
//! those that do not, each missing permission by its name, and that it leaves nothing behind.

use std::path::PathBuf;
use std::time::Duration;

use bfb::bus::{LIMITS, PERMISSIONS, RedisKind, RedisNames, Scripts};
use bfb::coherence::{Epoch, Heartbeat, MemberName, PROTOCOL, ScriptCall, ScriptRequest};
use bfb::identity::issue::{Leaf, Validity};
use serde_json::Value;
use tempfile::TempDir;

use super::{doctor, findings, parsed, text};
use crate::support::cluster::Cluster;
use crate::support::pki::Pki;
use crate::support::redis::{Redis, SEVEN, free, kind, version};

const LEASE: Duration = Duration::from_secs(3);

/// A folder with a domain file whose source gets no request, and a user's password.
struct DoctorSetup {
    dir: TempDir,
}

impl DoctorSetup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = "domain: customer\nkey: '[0-9]+'\nsources:\n  none:\n\
                    \x20   url: http://127.0.0.1:1/{key}\n\
                    versions:\n  v1:\n    path: /v1/customers/{key}\n";
        std::fs::write(dir.path().join("customer.yaml"), file).unwrap();
        std::fs::write(dir.path().join("auth"), "bfb:secret").unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its report on a Redis, as the sidecars' user if `as_user`, else as the administrator.
    async fn finds(&self, url: &str, as_user: bool, more: &[&str]) -> Value {
        let auth = self.path("auth");
        let auth = if as_user { vec!["--redis-auth", auth.to_str().unwrap()] } else { vec![] };
        let args = [&["--insecure-upstreams", "--format", "json", "--redis", url][..], &auth, more]
            .concat();
        let (report, code) = parsed(&doctor(self.path("customer.yaml"), &args).await);
        assert_eq!((code, &report["ok"]), (1, &false.into()), "its source is not there");
        report["redis"].clone()
    }
}

/// Level and name of each finding for the first server, except the note on settings that it does
/// not show.
fn of_server(redis: &Value) -> Vec<String> {
    findings(&redis["servers"][0])
        .into_iter()
        .filter(|finding| finding != "note settings-unknown")
        .collect()
}

fn is_empty(redis: &Redis) -> bool {
    redis.command::<i64>(&["DBSIZE"]) == 0
}

#[tokio::test]
async fn a_server_that_will_do_has_no_findings_and_keeps_nothing() {
    let clinic = DoctorSetup::new();
    let redis = Redis::start();
    let found = clinic.finds(&redis.url(), true, &[]).await;
    assert_eq!((of_server(&found), findings(&found)), (vec![], vec![]), "{found}");
    let server = &found["servers"][0];
    assert!(
        server["round_trip_ms"].as_f64().unwrap() > 0.0
            && server["script_ms"].as_f64().unwrap() > 0.0
    );
    assert_eq!((&found["kind"], &server["eviction"]), (&"server".into(), &"noeviction".into()));
    assert_eq!((&server["settings"], &found["logs"][0]["state"]), (&Value::Null, &Value::Null));
    assert!(is_empty(&redis));

    let found = clinic.finds(&redis.url(), false, &[]).await;
    assert_eq!(found["servers"][0]["settings"]["subscriber_hard_limit_bytes"], 33_554_432);
    assert!(is_empty(&redis));
}

#[tokio::test]
async fn each_permission_that_is_missing_is_named() {
    let clinic = DoctorSetup::new();
    let redis = Redis::start();
    for permission in
        PERMISSIONS.iter().filter(|permission| permission.is_needed_on(RedisKind::One))
    {
        redis.command::<()>(&["ACL", "SETUSER", "bfb", &format!("-{}", permission.command)]);
        let found = clinic.finds(&redis.url(), true, &[]).await;
        assert_eq!(
            of_server(&found),
            ["error no-permission"],
            "without {}: {found}",
            permission.command
        );
        let reason = found["servers"][0]["findings"][0]["met"].as_str().unwrap();
        assert!(reason.ends_with(&format!("it lacks `+{}`", permission.command)), "{reason}");
        redis.command::<()>(&["ACL", "SETUSER", "bfb", &format!("+{}", permission.command)]);
        assert!(is_empty(&redis), "without {}", permission.command);
    }
}

#[tokio::test]
async fn each_permission_that_is_missing_on_a_cluster_is_named() {
    let clinic = DoctorSetup::new();
    let redis = Redis::start_cluster();
    let url = format!("redis-cluster://{}", redis.addr());
    let only_here = |kind: RedisKind| {
        move |permission: &&bfb::bus::Permission| {
            permission.is_needed_on(kind) && !permission.is_needed_on(RedisKind::One)
        }
    };
    for permission in PERMISSIONS.iter().filter(only_here(kind(true))) {
        // Before 7.0 a subcommand can be permitted, and denied only together with its command.
        let taken = permission.command.split('|').next().filter(|_| version() < SEVEN);
        redis.command::<()>(&[
            "ACL",
            "SETUSER",
            "bfb",
            &format!("-{}", taken.unwrap_or(permission.command)),
        ]);
        let found = clinic.finds(&url, true, &[]).await;
        let all = [&found["findings"], &found["servers"][0]["findings"]]
            .map(ToString::to_string)
            .concat();
        assert!(all.contains(&format!("it lacks `+{}`", permission.command)), "{all}");
        redis.command::<()>(&["ACL", "SETUSER", "bfb", &format!("+{}", permission.command)]);
        assert!(is_empty(&redis), "without {}", permission.command);
    }
    assert_eq!(of_server(&clinic.finds(&url, true, &[]).await), Vec::<String>::new());
}

#[tokio::test]
async fn keys_and_channels_of_another_namespace_are_named() {
    let clinic = DoctorSetup::new();
    let redis = Redis::start();
    let found = clinic.finds(&redis.url(), true, &["--namespace", "bank"]).await;
    assert_eq!(of_server(&found), ["error no-permission-keys", "error no-permission-channels"]);
    redis.command::<()>(&["ACL", "SETUSER", "bfb", "resetchannels"]);
    let found = clinic.finds(&redis.url(), true, &[]).await;
    assert_eq!(of_server(&found), ["error no-permission-channels"]);
    redis.command::<()>(&["ACL", "SETUSER", "bfb", "resetkeys", "allchannels"]);
    let found = clinic.finds(&redis.url(), true, &[]).await;
    assert_eq!(of_server(&found), ["error no-permission-keys"]);
    assert!(is_empty(&redis));
}

#[tokio::test]
async fn settings_that_harm_are_found_where_they_are_told() {
    let clinic = DoctorSetup::new();
    let redis = Redis::start();
    for (setting, harmful, harmless, finding) in [
        ("maxmemory-policy", "allkeys-lru", "volatile-ttl", "error evicts"),
        ("timeout", "300", "0", "warning idle-timeout"),
        (
            "client-output-buffer-limit",
            "pubsub 0 0 0",
            "pubsub 33554432 8388608 60",
            "warning subscriber-limit",
        ),
        ("maxmemory", "1", "0", "error refuses-writes"),
    ] {
        redis.command::<()>(&["CONFIG", "SET", setting, harmful]);
        let found = of_server(&clinic.finds(&redis.url(), false, &[]).await);
        assert!(found.contains(&finding.to_owned()), "{setting} {harmful}: {found:?}");
        redis.command::<()>(&["CONFIG", "SET", setting, harmless]);
        let found = of_server(&clinic.finds(&redis.url(), false, &[]).await);
        assert_eq!(found, Vec::<String>::new(), "{setting} {harmless}");
    }
    // The eviction of the log is found without reading the settings, which a managed Redis does not
    // show.
    redis.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    assert_eq!(of_server(&clinic.finds(&redis.url(), true, &[]).await), ["error evicts"]);
    assert!(is_empty(&redis));
}

#[tokio::test]
async fn replicas_without_a_bound_on_two_primaries_are_a_warning_and_a_replica_is_an_error() {
    let clinic = DoctorSetup::new();
    let primary = Redis::start();
    let replica = Redis::replica_of(&primary);
    let found = clinic.finds(&primary.url(), false, &[]).await;
    assert_eq!(
        (of_server(&found), &found["servers"][0]["replicas"]),
        (vec!["warning split-brain".into()], &1.into())
    );
    primary.command::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let found = clinic.finds(&primary.url(), false, &[]).await;
    assert_eq!(of_server(&found), ["warning failover-grace"], "{found}");
    let patient = ["--failover-grace", "10s"];
    assert_eq!(
        of_server(&clinic.finds(&primary.url(), false, &patient).await),
        Vec::<String>::new()
    );
    let found = of_server(&clinic.finds(&replica.url(), false, &[]).await);
    assert!(found.contains(&"error read-only".to_owned()), "{found:?}");
}

#[tokio::test]
async fn every_server_of_a_cluster_is_looked_at_and_what_follows_from_its_timeout_is_said() {
    let (clinic, cluster) = (DoctorSetup::new(), Cluster::start(Duration::from_secs(15)));
    cluster.nodes[1].command::<()>(&["ACL", "SETUSER", "bfb", "-xadd"]);
    let found = clinic.finds(&cluster.url(), true, &[]).await;
    assert_eq!(
        (&found["kind"], found["servers"].as_array().unwrap().len()),
        (&"cluster".into(), 3)
    );
    for server in found["servers"].as_array().unwrap() {
        let lacking = server["address"] == cluster.nodes[1].addr().to_string();
        let refused = findings(server).contains(&"error no-permission".to_owned());
        assert_eq!(refused, lacking, "users are each server's own: {server}");
    }
    let found = clinic.finds(&cluster.url(), false, &[]).await;
    assert_eq!(of_server(&found), ["note failover-outlasts-lease", "note full-coverage"]);
    assert!(cluster.nodes.iter().all(is_empty));
}

fn register(redis: &Redis, name: &str, lease: Duration) {
    let (scripts, names) = (Scripts::new(LIMITS), RedisNames::new("default", "customer"));
    let beat = Heartbeat {
        name: MemberName(name.into()),
        lease,
        applied: None,
        marks_settled: false,
        store: None,
    };
    let request = ScriptRequest {
        protocol: PROTOCOL,
        fresh_epoch: Epoch(7),
        call: ScriptCall::Heartbeat(beat),
    };
    scripts.prepare(&names, &request, Duration::ZERO).eval().exec(&mut redis.control()).unwrap();
}

#[tokio::test]
async fn the_log_of_each_domain_is_shown_and_leases_that_differ_are_a_warning() {
    let (clinic, redis) = (DoctorSetup::new(), Redis::start());
    register(&redis, "ann", LEASE);
    let found = clinic.finds(&redis.url(), true, &[]).await;
    let log = &found["logs"][0];
    assert_eq!((findings(log), &log["domain"]), (vec![], &"customer".into()));
    assert_eq!((&log["state"]["seq"], &log["state"]["sidecars"]), (&0.into(), &1.into()));
    register(&redis, "bob", 2 * LEASE);
    let found = clinic.finds(&redis.url(), true, &[]).await;
    assert_eq!(findings(&found["logs"][0]), ["warning leases-differ"]);
    let leases =
        serde_json::json!([{"lease_ms": 3000, "sidecars": 1}, {"lease_ms": 6000, "sidecars": 1}]);
    assert_eq!(found["logs"][0]["state"]["leases"], leases);

    redis.command::<()>(&["DEBUG", "CHANGE-REPL-ID"]);
    assert_eq!(
        findings(&clinic.finds(&redis.url(), true, &[]).await["logs"][0]),
        ["note other-life"]
    );
    redis.command::<i64>(&[
        "HSET",
        &RedisNames::new("default", "customer").meta(),
        "protocol",
        "99",
    ]);
    let found = findings(&clinic.finds(&redis.url(), true, &[]).await["logs"][0]);
    assert_eq!(found, ["error newer-protocol", "note other-life"]);
    assert_eq!(redis.command::<i64>(&["DBSIZE"]), 1, "the log, and nothing else");
}

#[tokio::test]
async fn a_redis_that_cannot_be_had_says_why() {
    let clinic = DoctorSetup::new();
    for url in
        ["redis://127.0.0.1:1", "redis-cluster://127.0.0.1:1", "redis-sentinel://127.0.0.1:1/main"]
    {
        let found = clinic.finds(url, true, &[]).await;
        let of = if found["servers"][0].is_null() {
            findings(&found)
        } else {
            findings(&found["servers"][0])
        };
        assert_eq!(of, ["error unreachable"], "{url}: {found}");
    }
    let redis = Redis::start();
    std::fs::write(clinic.path("auth"), "bfb:wrong").unwrap();
    assert_eq!(
        of_server(&clinic.finds(&redis.url(), true, &[]).await),
        ["error not-authenticated"]
    );
    let sentinel = Redis::sentinel_of(redis.addr(), &[]);
    let url = format!("redis-sentinel://{}/other", sentinel.addr());
    assert_eq!(findings(&clinic.finds(&url, false, &[]).await), ["error no-primary"]);
}

#[tokio::test]
async fn tls_is_looked_at_as_it_is_with_upstreams() {
    let clinic = DoctorSetup::new();
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let ends = Validity { not_before: Validity::expired().not_before, ..Validity::days(8) };
    let leaf = Leaf::new("redis").dns("localhost").valid(ends);
    pki.authority.issue(&leaf).unwrap().write(dir.path(), pki.authority.ca_pem()).unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let port = free().port().to_string();
    let cert = file("tls.crt");
    let key = file("tls.key");
    let ca = file("ca.crt");
    let tls = [
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
    ];
    let redis = Redis::start_with(&tls);
    let url = format!("rediss://localhost:{port}");

    let identity = pki.dir().to_str().unwrap();
    let flags = ["--redis-ca", &ca, "--redis-identity", identity];
    let found = clinic.finds(&url, true, &flags).await;
    assert_eq!(of_server(&found), ["warning expires-soon"], "{found}");
    let tls_report = &found["servers"][0]["tls"];
    assert_eq!(
        (&tls_report["certificate"]["names"][0], &tls_report["asks_for_certificate"]),
        (&"localhost".into(), &true.into())
    );
    assert_eq!(tls_report["protocol"], "TLS 1.3");

    let nobody = clinic.finds(&url, true, &["--redis-ca", &ca]).await;
    assert!(of_server(&nobody).contains(&"error no-certificate".to_owned()), "{nobody}");
    let stranger = clinic.path("stranger.crt");
    std::fs::write(&stranger, pki.stranger.ca_pem()).unwrap();
    let wrong = ["--redis-ca", stranger.to_str().unwrap(), "--redis-identity", identity];
    let wrong = clinic.finds(&url, true, &wrong).await;
    assert!(of_server(&wrong).contains(&"error tls".to_owned()), "{wrong}");
    let address = clinic.finds(&format!("rediss://127.0.0.1:{port}"), true, &flags).await;
    let reason = address["servers"][0]["findings"][0]["met"].as_str().unwrap().to_owned();
    assert!(
        of_server(&address).contains(&"error tls".to_owned()) && reason.contains("localhost"),
        "{address}"
    );
    assert!(is_empty(&redis));
}

#[tokio::test]
async fn the_report_for_people_shows_servers_and_logs() {
    let (clinic, redis) = (DoctorSetup::new(), Redis::start());
    register(&redis, "ann", LEASE);
    redis.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    let url = redis.url();
    let output =
        doctor(clinic.path("customer.yaml"), &["--insecure-upstreams", "--redis", &url]).await;
    let drawn = text(&output);
    insta::with_settings!({filters => vec![
        (r"127\.0\.0\.1:[0-9]{2,5}", "127.0.0.1:PORT"),
        (r"[0-9]+\.[0-9]+ ms", "TIME"),
        (r"(Redis|Valkey) [0-9.]+", "VERSION"),
        (r"([^ \n]) {2,}", "$1  "),
        (r"customer \S+/customer.yaml", "customer FOLDER/customer.yaml"),
    ]}, { insta::assert_snapshot!(drawn) });
}
