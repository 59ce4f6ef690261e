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

/// The domain file at a revision: its shape shows it, and every other one changes the source too.
fn revision(upstream: &Upstream, revision: usize) -> DomainFile {
    let retries = format!("retries: {}", revision % 2);
    DomainFile::of("customer")
        .source("part", upstream, "/part", &[&retries])
        .version("v1", &["path: /v1/customers/{key}", &format!("shape: '{{revision: {revision}}}'")])
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
    let domain =
        DomainFile::of("customer").source_at("part", "https://part.example/{key}", &["retris: 1", "timeout: soon"]);
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
    assert!(world.sidecar.get("/openapi.json").await.json()["paths"]["/v2/accounts/{key}"].is_object());
}

#[tokio::test]
async fn a_request_that_is_under_way_finishes_on_the_old_file() {
    let world = World::new().await;
    let gate = watch::Sender::new(false);
    world.upstream.answers("/part", [Reply::json("1").behind(gate.subscribe()), Reply::json("2")]);
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
