//! Domain files replaced under load, by themselves and on SIGHUP; broken ones change nothing.

use serde_json::json;
use tokio::sync::watch;

use super::Load;
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// How often the file is replaced.
const TIMES: usize = 20;
const IN_FORCE: &str = "the domain files have changed and are in force";

struct World {
    sidecar: Sidecar,
    upstream: Upstream,
}

impl World {
    async fn new() -> Self {
        let pki = Pki::new();
        let upstream = mutual(&pki).await;
        upstream.answers("/part", [Reply::json("{\"id\":42}")]);
        let domain = revision(&upstream, 0);
        let other = DomainFile::of("other").source("part", &upstream, "/part", &[]);
        let setup = Setup::of(&[&domain, &other]);
        let identity = setup.dir().join("identity");
        pki.client().write(&identity, pki.authority.ca_pem()).unwrap();
        Self { sidecar: setup.arg("--identity").arg(identity).start().await, upstream }
    }

    async fn shown(&self) -> serde_json::Value {
        self.sidecar.get("/v1/customers/42").await.dataset()["revision"].clone()
    }
}

/// The domain file at a revision: its shape shows the revision, and every other revision changes
/// the source too.
fn revision(upstream: &Upstream, revision: usize) -> DomainFile {
    let retries = format!("retries: {}", revision % 2);
    DomainFile::of("customer")
        .source("part", upstream, "/part", &[&retries])
        .version(
            "v1",
            &["path: /v1/customers/{key}", &format!("shape: '{{revision: {revision}}}'")],
        )
        .version("v2", &["path: /v2/customers/{key}"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_file_replaced_twenty_times_fails_no_request() {
    let world = World::new().await;
    let load = Load::begin(&world.sidecar, 2, "/v2/customers/42");
    load.answers(20).await;
    for times in 1..=TIMES {
        world.sidecar.replace("customer", &revision(&world.upstream, times).text());
        if times % 2 == 0 {
            world.sidecar.signal("HUP");
        }
        world.sidecar.logged_times(IN_FORCE, times).await;
        assert_eq!(world.shown().await, times);
        load.answers(10).await;
    }
    load.end().await;
    assert_eq!(world.sidecar.metric("bfb_reloads_total", &[]).await, Some(20.0));
    assert_eq!(world.sidecar.metric("bfb_reload_failures_total", &[]).await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_keeps_its_old_version_and_stops_no_other() {
    let world = World::new().await;
    let sidecar = &world.sidecar;
    let load = Load::begin(sidecar, 1, "/v2/customers/42");
    let broken = revision(&world.upstream, 1).head("deadlin: 1s").text();
    sidecar.replace("customer", &broken);
    sidecar.logged("the old version stays").await;
    let other = DomainFile::of("other").source("renamed", &world.upstream, "/part", &[]);
    sidecar.replace("other", &other.text());
    sidecar.logged(IN_FORCE).await;
    assert_eq!(sidecar.get("/v2/others/1").await.dataset(), json!({"renamed": {"id": 42}}));
    assert_eq!(world.shown().await, 0);
    assert!(sidecar.metric("bfb_reload_failures_total", &[]).await >= Some(1.0));
    let status = sidecar.admin("/status").await.json();
    assert!(status["reloads"]["problems"].to_string().contains("deadlin"), "{status}");
    assert_eq!(sidecar.admin("/readyz").await.status, 200);
    sidecar.replace("customer", &revision(&world.upstream, 2).text());
    sidecar.logged_times(IN_FORCE, 2).await;
    assert_eq!(world.shown().await, 2);
    let status = sidecar.admin("/status").await.json();
    assert_eq!(status["reloads"]["problems"], json!([]), "{status}");
    load.end().await;
}

#[tokio::test]
async fn a_broken_file_at_the_start_is_refused_with_its_problems() {
    let domain = DomainFile::of("customer").source_at(
        "part",
        "https://part.example/{key}",
        &["retris: 1", "timeout: soon"],
    );
    let refused = Setup::of(&[&domain]).refused().await;
    assert_eq!(refused.status.code(), Some(64));
    let problems = String::from_utf8_lossy(&refused.stderr);
    assert!(problems.contains("retris") && problems.contains("soon"), "both at once: {problems}");
}

#[tokio::test]
async fn a_new_file_is_published_and_its_version_described() {
    let world = World::new().await;
    let new = DomainFile::of("account").source("part", &world.upstream, "/part", &[]);
    world.sidecar.get("/v2/accounts/1").await.problem("no-such-path", 404);
    world.sidecar.replace("account", &new.text());
    world.sidecar.logged(IN_FORCE).await;
    world.sidecar.get("/v2/accounts/1").await.dataset();
    assert!(
        world.sidecar.get("/openapi.json").await.json()["paths"]["/v2/accounts/{key}"].is_object()
    );
}

#[tokio::test]
async fn a_request_that_is_under_way_finishes_on_the_old_file() {
    let world = World::new().await;
    let gate = watch::Sender::new(false);
    world
        .upstream
        .answers("/part", [Reply::json("1").held_until(gate.subscribe()), Reply::json("2")]);
    let (old, ()) = tokio::join!(world.sidecar.get("/v1/customers/42"), async {
        world.upstream.requests(1).await;
        world.sidecar.replace("customer", &revision(&world.upstream, 1).text());
        world.sidecar.signal("HUP");
        world.sidecar.logged(IN_FORCE).await;
        assert_eq!(world.shown().await, 1);
        gate.send_replace(true);
    });
    assert_eq!(old.dataset()["revision"], 0);
}

#[tokio::test]
async fn a_source_over_tls_without_an_identity_is_refused_at_a_reload_as_at_the_start() {
    let upstream = Upstream::plain().await;
    upstream.answers("/part", [Reply::json("{\"id\":42}")]);
    let plain = DomainFile::of("customer").source("part", &upstream, "/part", &[]);
    let over_tls = DomainFile::of("customer").source_at("part", "https://part.example/{key}", &[]);
    let refused = Setup::of(&[&over_tls]).insecure().refused().await;
    assert_eq!(refused.status.code(), Some(64));
    let words = "this source is asked over TLS, which needs `--identity`";
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(stderr.contains(words) && stderr.contains("customer.yaml:"), "{stderr}");

    let other = DomainFile::of("other").source("part", &upstream, "/part", &[]);
    let sidecar = Setup::of(&[&plain, &other]).insecure().start().await;
    sidecar.replace("customer", &over_tls.text());
    sidecar.logged(words).await;
    assert_eq!(sidecar.metric("bfb_reload_failures_total", &[]).await, Some(1.0));
    sidecar.get("/v2/customers/42").await.dataset();
    // A reload refuses the same files as the start.
    let twice = DomainFile::of("customer").source("other", &upstream, "/part", &[]);
    sidecar.replace("other", &twice.text());
    sidecar.logged("the domain `customer` is already in").await;
    let clash = DomainFile::of("other").source("part", &upstream, "/part", &[]);
    sidecar.replace("other", &clash.version("v2", &["path: /v2/customers/{key}"]).text());
    sidecar.logged("this path overlaps with").await;
    sidecar.get("/v2/customers/42").await.dataset();
    sidecar.get("/v2/others/42").await.dataset();
}

#[tokio::test]
async fn an_http_source_that_is_not_allowed_is_refused_at_a_reload_as_at_the_start() {
    let world = World::new().await;
    let plain = DomainFile::of("customer").source_at("part", "http://part.example/{key}", &[]);
    world.sidecar.replace("customer", &plain.text());
    world.sidecar.logged("`http://` proves nobody's identity").await;
    assert_eq!(world.shown().await, 0);
}

#[tokio::test]
async fn a_broken_file_is_counted_once_for_each_change_of_its_own() {
    let world = World::new().await;
    let sidecar = &world.sidecar;
    let failures = async || sidecar.metric("bfb_reload_failures_total", &[]).await;
    let broken = |line: &str| revision(&world.upstream, 1).head(line).text();
    sidecar.replace("customer", &broken("deadlin: 1s"));
    sidecar.logged("deadlin").await;
    assert_eq!(failures().await, Some(1.0));
    for (times, name) in (1..).zip(["renamed", "again", "once-more"]) {
        let other = DomainFile::of("other").source(name, &world.upstream, "/part", &[]);
        sidecar.replace("other", &other.text());
        sidecar.logged_times(IN_FORCE, times).await;
    }
    assert_eq!(failures().await, Some(1.0), "the broken file is as it was");
    let refusals = sidecar.log().matches("the old version stays").count();
    assert_eq!(refusals, 1, "{}", sidecar.log());
    sidecar.replace("customer", &broken("deadlie: 1s"));
    sidecar.logged("deadlie").await;
    assert_eq!(failures().await, Some(2.0));
    let status = sidecar.admin("/status").await.json();
    assert_eq!(status["reloads"]["failed"], 2, "{status}");
    assert!(status["reloads"]["problems"].to_string().contains("deadlie"), "{status}");
}
