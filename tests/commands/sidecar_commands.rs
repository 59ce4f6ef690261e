//! Commands that connect to a sidecar beside them, or collect without one: `get`, `status`, `log`;
//! recording and replaying.

use serde_json::{Value, json};

use super::{CommandOutput, run, run_with};
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::sidecar::{NO_AUTHORITIES, Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

struct World {
    pki: Pki,
    upstream: Upstream,
    sidecar: Sidecar,
    listen: String,
    admin: String,
}

impl World {
    async fn new() -> Self {
        Self::of(&[]).await
    }

    async fn of(args: &[&str]) -> Self {
        let pki = Pki::new();
        let upstream = mutual(&pki).await;
        upstream.handles("/profile", |_| Reply::json("{\"id\":42,\"price\":1.10}").etag("\"1\""));
        upstream.handles("/orders", |_| Reply::json("[1,2]").etag("\"1\""));
        let domain = DomainFile::of("customer")
            .head("atomicity: snapshot")
            .source("profile", &upstream, "/profile?key={key}", &["missing: not-found"])
            .source("orders", &upstream, "/orders?key={key}", &["retries: 0"])
            .version(
                "v1",
                &["path: /v1/customers/{key}", "shape: '.profile.id'", "deprecated: 2026-06-01"],
            )
            .version("v2", &["path: /v2/customers/{key}"]);
        let sidecar = Setup::of(&[&domain]).identity(&pki).args(args).start().await;
        let listen = sidecar.listen().to_string();
        let admin = sidecar.address("admin port").await.to_string();
        Self { pki, upstream, sidecar, listen, admin }
    }

    /// Runs a command with the sidecar's address.
    async fn run(&self, args: &[&str]) -> CommandOutput {
        let mut all = args.to_vec();
        if args[0] == "get" {
            all.extend(["--listen", self.listen.as_str()]);
        }
        all.extend(["--admin", self.admin.as_str()]);
        run(&all).await
    }

    /// Runs `get` without the sidecar, with its domain file.
    async fn alone(&self, args: &[&str]) -> CommandOutput {
        let file = self.sidecar.file("customer");
        let identity = self.pki.dir().to_str().unwrap();
        run(&[&["get", "--domain", file.to_str().unwrap(), "--identity", identity], args].concat())
            .await
    }
}

const WHOLE: &str = "{\"profile\":{\"id\":42,\"price\":1.10},\"orders\":[1,2]}";

#[tokio::test]
async fn get_prints_the_data_as_it_is() {
    let world = World::new().await;
    for output in
        [world.run(&["get", "customer", "42"]).await, world.alone(&["customer", "42"]).await]
    {
        let output = output.with_code(0);
        assert_eq!(output.out.trim_end(), WHOLE);
        assert_eq!(output.err, "");
    }
    let shaped = world.run(&["get", "customer", "42", "--version", "v1"]).await.with_code(0);
    assert_eq!(shaped.out.trim_end(), "42");
}

#[tokio::test]
async fn commands_need_no_authorities_of_the_machine() {
    let world = World::new().await;
    let (listen, admin) = (world.listen.as_str(), world.admin.as_str());
    run_with(&["get", "customer", "42", "--listen", listen, "--admin", admin], &NO_AUTHORITIES)
        .await
        .with_code(0);
    run_with(&["status", "--admin", admin], &NO_AUTHORITIES).await.with_code(0);
}

#[tokio::test]
async fn get_finds_the_sidecar_by_variables_too() {
    let world = World::new().await;
    let variables = [("BFB_LISTEN", world.listen.as_str()), ("BFB_ADMIN", world.admin.as_str())];
    let output = run_with(&["get", "customer", "42"], &variables).await.with_code(0);
    assert_eq!(output.out.trim_end(), WHOLE);
}

#[tokio::test]
async fn explain_draws_every_source_and_round_and_leaves_the_data_alone() {
    let world = World::new().await;
    let args = ["get", "customer", "42", "--explain"];
    for output in [world.run(&args).await, world.alone(&["customer", "42", "--explain"]).await] {
        let output = output.with_code(0);
        assert_eq!(output.out.trim_end(), WHOLE);
        for word in ["profile", "orders", "round 1", "round 2", "unchanged"] {
            assert!(output.err.contains(word), "no {word}: {}", output.err);
        }
        assert!(!output.err.contains('\u{1b}'), "no colour where there is no terminal");
    }
}

#[tokio::test]
async fn explain_says_that_a_cached_dataset_asked_no_source() {
    let world = World::of(&["--memory", "64MiB"]).await;
    for (flag, expected) in
        [("--explain", "stored"), ("--explain", "no source was asked"), ("--no-cache", "")]
    {
        let output = world.run(&["get", "customer", "42", flag]).await.with_code(0);
        assert_eq!(output.out.trim_end(), WHOLE);
        assert!(output.err.contains(expected), "{flag}: {}", output.err);
    }
    let requests = world.upstream.received();
    let of_profile =
        requests.iter().filter(|request| request.target.starts_with("/profile")).count();
    assert_eq!(
        of_profile, 4,
        "two rounds for the first answer, none for the second, two past the cache"
    );
}

#[tokio::test]
async fn json_is_one_object_for_programs() {
    let world = World::new().await;
    let args = ["customer", "42", "--format", "json", "--explain"];
    for output in [world.run(&[&["get"], &args[..]].concat()).await, world.alone(&args).await] {
        let whole: Value = serde_json::from_str(&output.with_code(0).out).unwrap();
        assert_eq!(whole["status"], 200);
        assert_eq!(whole["body"]["orders"], json!([1, 2]));
        assert_eq!(whole["headers"]["cache-status"], "bfb; fwd=bypass");
        let steps = whole["explain"]["steps"].as_array().unwrap();
        assert_eq!(steps.len(), 4, "two sources, two rounds: {whole}");
        assert!(
            steps.iter().all(|step| step["took_ms"].is_number() && step["source"].is_string()),
            "{whole}"
        );
    }
}

#[tokio::test]
async fn a_dataset_that_fails_is_1_and_names_the_source() {
    let world = World::new().await;
    world.upstream.answers("/orders", [Reply::status(500)]);
    for output in
        [world.run(&["get", "customer", "42"]).await, world.alone(&["customer", "42"]).await]
    {
        let output = output.with_code(1);
        assert_eq!(output.out, "");
        output.says("orders");
        output.says("urn:bfb:source-failed");
    }
    world.upstream.answers("/profile", [Reply::status(404)]);
    world.upstream.answers("/orders", [Reply::json("[]")]);
    world.run(&["get", "customer", "7"]).await.with_code(1).says("urn:bfb:not-found");
}

#[tokio::test]
async fn what_is_not_known_is_64_and_who_is_not_there_is_69() {
    let world = World::new().await;
    world.run(&["get", "account", "42"]).await.with_code(64).says("customer");
    world.run(&["get", "customer", "42", "--version", "v9"]).await.with_code(64).says("v1");
    world.alone(&["account", "42"]).await.with_code(64);
    run(&["get", "customer", "42", "--domain", "/no/such/file"]).await.with_code(64);
    // A Unix socket that does not exist. A port could belong to another program, and a command
    // would wait for its answer.
    let nobody = "unix:/no/such/socket";
    for args in
        [&["get", "customer", "42"][..], &["status"], &["log"], &["log", "--level", "debug"]]
    {
        run(&[args, &["--admin", nobody]].concat()).await.with_code(69).says(nobody);
    }
}

#[tokio::test]
async fn status_shows_domains_versions_and_sources() {
    let world = World::new().await;
    let output = world.run(&["status"]).await.with_code(0);
    for word in [
        "ready",
        "customer",
        "v1",
        "/v2/customers/{key}",
        "profile",
        "orders",
        "closed",
        "deprecated",
    ] {
        output.says(word);
    }
    let output = world.run(&["status", "--format", "json"]).await.with_code(0);
    let status: Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!(status["domains"][0]["name"], "customer");
}

#[tokio::test]
async fn log_shows_and_changes_the_level() {
    let world = World::new().await;
    assert_eq!(world.run(&["log"]).await.with_code(0).out, "info\n");
    world.run(&["log", "--level", "debug", "--for", "1m"]).await.with_code(0).says("debug");
    world.run(&["log"]).await.with_code(0).says("debug");
    world.run(&["log", "--level", "loud=very=much"]).await.with_code(64);
    world.run(&["log", "--level", "debug", "--for", "soon"]).await.with_code(64);
    assert_eq!(world.sidecar.admin("/log").await.json()["level"], "debug");
}

#[tokio::test]
async fn unknown_variables_are_warned_of_and_known_ones_obeyed() {
    let domain = DomainFile::of("customer").source_at("part", "https://localhost:1/part", &[]);
    let pki = Pki::new();
    let setup = Setup::of(&[&domain])
        .identity(&pki)
        .env("BFB_PORT", "tcp://10.0.0.1:7070")
        .env("BFB_LOG", "debug");
    let sidecar = setup.start().await;
    sidecar.logged("BFB_PORT").await;
    assert_eq!(sidecar.admin("/log").await.json()["level"], "debug");
}

#[tokio::test]
async fn what_was_recorded_is_replayed_without_asking_anybody() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.handles("/part", |_| Reply::json("{\"price\": 1.10}").etag("\"1\""));
    let domain = DomainFile::of("customer").source(
        "part",
        &upstream,
        "/part?key={key}",
        &["missing: not-found"],
    );
    let folder = tempfile::tempdir().unwrap();
    let tape = folder.path().join("tape");
    let recording = Setup::of(&[&domain]).identity(&pki).arg("--record").arg(&tape).start().await;
    let live = recording.get("/v2/customers/42").await;
    live.dataset();
    let requests = upstream.received().len();
    // There is no identity: replaying sends no request.
    let replaying = Setup::of(&[&domain]).arg("--replay").arg(&tape).start().await;
    let replayed = replaying.get("/v2/customers/42").await;
    assert_eq!(
        (replayed.status, &replayed.body, replayed.header("etag")),
        (200, &live.body, live.header("etag"))
    );
    assert!(replaying.get("/v2/customers/43").await.status >= 500, "it was not recorded");
    assert_eq!(upstream.received().len(), requests);
}

#[tokio::test]
async fn a_key_that_no_url_can_name_is_a_bad_key_and_not_another_path() {
    let world = World::new().await;
    for key in ["", ".", ".."] {
        for output in
            [world.run(&["get", "customer", key]).await, world.alone(&["customer", key]).await]
        {
            let output = output.with_code(64);
            output.says("400 urn:bfb:bad-key");
            assert_eq!(output.out, "");
        }
        let output = world.run(&["get", "customer", key, "--format", "json"]).await.with_code(64);
        assert_eq!(
            serde_json::from_str::<Value>(&output.out).unwrap()["body"]["type"],
            "urn:bfb:bad-key"
        );
    }
    assert!(world.upstream.received().is_empty());
    // The sidecar refuses the others, and a bad key is an error of usage.
    world
        .run(&["get", "customer", &"4".repeat(513)])
        .await
        .with_code(64)
        .says("400 urn:bfb:bad-key");
}
