//! The admin port, `docs/operations.md`: probes, metrics, status, log level; nothing for web pages,
//! no key anywhere.

use http::Method;
use http_body_util::Full;
use serde_json::json;

use crate::support::client::{
    ClientRequest, ClientResponse, Endpoint, HttpVersion, ask, get, once, with_header,
};
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::{CLIENT, Pki};
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// Stands for personal data: no log line, metric or status may contain it.
const KEY: &str = "anna-s3cret-key";

struct World {
    pki: Pki,
    upstream: Upstream,
    domain: DomainFile,
}

impl World {
    async fn new() -> Self {
        let pki = Pki::new();
        let upstream = mutual(&pki).await;
        upstream.handles("/profile", |_| Reply::json(r#"{"account":"s3cret-account"}"#));
        upstream.handles("/orders", |_| Reply::json(r#"["s3cret-order"]"#));
        let domain = DomainFile::of("customer")
            .source("profile", &upstream, "/profile?key={key}", &["retries: 0"])
            .source("orders", &upstream, "/orders?account={profile.account}", &["retries: 0"])
            .version(
                "v1",
                &[
                    "path: /v1/customers/{key}",
                    "shape: '.profile.account | tonumber'",
                    "deprecated: 2026-06-01",
                ],
            )
            .version("v2", &["path: /v2/customers/{key}"]);
        Self { pki, upstream, domain }
    }

    fn setup(&self) -> Setup {
        Setup::of(&[&self.domain]).identity(&self.pki)
    }

    async fn start(&self) -> Sidecar {
        self.setup().start().await
    }
}

fn put(path: &str, content_type: &str, body: &str) -> ClientRequest {
    let request = ask(Method::PUT, path).map(|_| Full::from(body.to_owned()));
    if content_type.is_empty() {
        request
    } else {
        with_header(request, "content-type", content_type)
    }
}

#[tokio::test]
async fn a_running_sidecar_is_live_started_and_ready() {
    let world = World::new().await;
    let sidecar = world.start().await;
    for probe in ["/livez", "/startupz", "/readyz"] {
        assert_eq!(sidecar.admin(probe).await.status, 200, "{probe}");
    }
    assert_eq!(sidecar.admin("/readyz").await.json()["status"], "ready");
}

#[tokio::test]
async fn trouble_with_a_source_is_in_the_body_of_readyz_and_not_in_its_status() {
    let world = World::new().await;
    let sidecar = world.start().await;
    world.upstream.answers("/profile", [Reply::status(500)]);
    while sidecar.get("/v2/customers/42").await.status != 503 {}
    let ready = sidecar.admin("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("profile"), "{ready:?}");
    assert!(sidecar.admin("/status").await.json()["trouble"].to_string().contains("profile"));
}

#[tokio::test]
async fn metrics_have_the_names_of_the_contract() {
    let world = World::new().await;
    let sidecar = world.start().await;
    sidecar.get("/v2/customers/42").await.dataset();
    sidecar.get("/nowhere").await.problem("no-such-path", 404);
    world.upstream.answers("/orders", [Reply::status(500)]);
    sidecar.get("/v2/customers/42").await.failed_sources("source-failed", 502);
    let count = async |name, labels: &[(&str, &str)]| sidecar.metric(name, labels).await;
    assert_eq!(count("bfb_build_info", &[("version", env!("CARGO_PKG_VERSION"))]).await, Some(1.0));
    assert_eq!(count("bfb_domain_info", &[("domain", "customer")]).await, Some(1.0));
    let v2 = [("domain", "customer"), ("version", "v2")];
    assert_eq!(count("bfb_requests_total", &[v2[0], v2[1], ("status", "200")]).await, Some(1.0));
    assert_eq!(count("bfb_requests_total", &[v2[0], v2[1], ("status", "502")]).await, Some(1.0));
    assert_eq!(count("bfb_requests_total", &[("status", "404")]).await, Some(1.0));
    assert_eq!(count("bfb_request_duration_seconds_count", &v2).await, Some(2.0));
    assert_eq!(
        count("bfb_source_requests_total", &[("source", "profile"), ("result", "ok")]).await,
        Some(2.0)
    );
    assert_eq!(
        count("bfb_source_failures_total", &[("source", "orders"), ("reason", "status")]).await,
        Some(1.0)
    );
    assert!(count("bfb_certificate_expiry_timestamp_seconds", &[]).await > Some(1e9));
    assert_eq!(count("bfb_reload_failures_total", &[]).await, Some(0.0));
}

#[tokio::test]
async fn metrics_come_in_the_format_that_was_asked_for_and_as_text_where_none_was() {
    let world = World::new().await;
    let setup = world.setup().args(&["--probes", "127.0.0.1:0"]);
    let sidecar = setup.start().await;
    let probes = sidecar.address("probes and metrics").await;
    let ask = async |accept: Option<&str>| {
        let request = accept.map_or_else(
            || get("/metrics"),
            |accept| with_header(get("/metrics"), "accept", accept),
        );
        let probes = once(&Endpoint::Tcp(probes), HttpVersion::Http1, request.clone()).await;
        let admin = sidecar.send_admin(request).await;
        assert_eq!(probes.header("content-type"), admin.header("content-type"), "{accept:?}");
        admin
    };
    let open_metrics =
        "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let metrics = ask(Some(open_metrics)).await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(metrics.header("content-type"), kind);
    assert!(metrics.text().contains("# TYPE bfb_build info\n"), "{}", metrics.text());
    assert!(metrics.text().ends_with("# EOF\n"));
    for accept in [None, Some("*/*"), Some("text/plain;version=0.0.4;q=0.5,*/*;q=0.1")] {
        let metrics = ask(accept).await;
        assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        let text = metrics.text();
        assert!(
            text.contains("# TYPE bfb_build_info gauge\n") && !text.contains("# EOF"),
            "{text}"
        );
        assert!(text.contains("# TYPE bfb_reload_failures_total counter\n"), "{text}");
    }
}

#[tokio::test]
async fn the_plan_in_the_metrics_follows_what_the_dataset_holds() {
    let world = World::new().await;
    let plan = async |domain: &DomainFile| {
        let sidecar = Setup::of(&[domain]).identity(&world.pki).start().await;
        sidecar.admin("/status").await.json()["domains"][0]["plan"].as_str().unwrap().to_owned()
    };
    let usual = plan(&world.domain).await;
    assert_eq!(
        plan(&world.domain.clone().head("cache: {ttl: 7s}")).await,
        usual,
        "shapes, paths and ttl do not count"
    );
    assert_ne!(plan(&world.domain.clone().head("atomicity: snapshot")).await, usual);
    let another = world.domain.clone().source("more", &world.upstream, "/more", &[]);
    assert_ne!(plan(&another).await, usual);
}

#[tokio::test]
async fn status_tells_the_sidecars_state() {
    let world = World::new().await;
    let sidecar = world.start().await;
    let status = sidecar.admin("/status").await.json();
    assert_eq!((&status["phase"], &status["pid"]), (&json!("ready"), &json!(sidecar.pid())));
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["domains"][0]["name"], "customer");
    let names = |list: &str| -> Vec<_> {
        status["domains"][0][list]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].clone())
            .collect()
    };
    assert_eq!(
        (names("sources"), names("versions")),
        (vec![json!("profile"), json!("orders")], vec![json!("v1"), json!("v2")])
    );
    assert!(status["identity"]["names"].to_string().contains(CLIENT), "{status}");
}

#[tokio::test]
async fn no_key_and_no_data_is_in_the_log_the_metrics_or_the_status() {
    let world = World::new().await;
    let sidecar = world.setup().args(&["--log", "trace"]).start().await;
    let ask = async || sidecar.get(&format!("/v2/customers/{KEY}")).await;
    let path = format!("/v1/customers/{KEY}");
    ask().await.dataset();
    sidecar.get(&path).await.problem("shape-failed", 502);
    let failures = [
        Reply::status(500),
        Reply::status(302).header("location", KEY),
        Reply::json("s3cret{").cut(),
        Reply::json("s3cret"),
    ];
    for failure in failures {
        world.upstream.answers("/orders", [failure]);
        ask().await.failed_sources("source-failed", 502);
    }
    world.upstream.answers("/profile", [Reply::status(404), Reply::json(r#"{"other":"s3cret"}"#)]);
    ask().await.failed_sources("source-failed", 502);
    ask().await.failed_sources("source-failed", 502);
    let status = sidecar.admin("/status").await;
    let metrics = sidecar.admin("/metrics").await;
    sidecar.logged("missing-reference").await;
    for (place, text) in
        [("log", sidecar.log().as_str()), ("status", status.text()), ("metrics", metrics.text())]
    {
        let found = text.lines().find(|line| line.contains("s3cret"));
        assert_eq!(found, None, "personal data in the {place}");
    }
}

#[tokio::test]
async fn keys_are_logged_only_where_the_operator_asks_for_it() {
    let world = World::new().await;
    let traced = world.setup().args(&["--trace-key", "42"]).start().await;
    traced.get(&format!("/v2/customers/{KEY}")).await.dataset();
    traced.get("/v2/customers/42").await.dataset();
    traced.logged("asked a source").await;
    assert!(!traced.log().contains(KEY));
    let all = world.setup().args(&["--log-keys", "--log", "debug"]).start().await;
    all.get(&format!("/v2/customers/{KEY}")).await.dataset();
    all.logged(KEY).await;
}

#[tokio::test]
async fn the_hosts_of_others_are_misdirected() {
    let world = World::new().await;
    let sidecar = world.start().await;
    for path in ["/readyz", "/metrics", "/status", "/log"] {
        sidecar
            .send_admin(with_header(get(path), "host", "example.com"))
            .await
            .problem("misdirected", 421);
    }
    assert_eq!(
        sidecar.send_admin(with_header(get("/readyz"), "host", "127.0.0.1:7071")).await.status,
        200
    );
}

#[tokio::test]
async fn a_request_with_origin_is_forbidden() {
    let world = World::new().await;
    let sidecar = world.start().await;
    for origin in ["https://example.com", "null", "http://localhost:7071"] {
        for path in ["/readyz", "/status", "/metrics"] {
            assert_eq!(
                sidecar.send_admin(with_header(get(path), "origin", origin)).await.status,
                403,
                "{origin} {path}"
            );
        }
        let change =
            with_header(put("/log", "application/json", r#"{"level":"debug"}"#), "origin", origin);
        assert_eq!(sidecar.send_admin(change).await.status, 403, "{origin}");
    }
    assert_eq!(sidecar.admin("/log").await.json(), json!({"level": "info"}));
}

#[tokio::test]
async fn a_write_that_is_not_declared_as_json_is_415() {
    let world = World::new().await;
    let sidecar = world.start().await;
    for content_type in [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonx",
    ] {
        let got = sidecar.send_admin(put("/log", content_type, r#"{"level":"debug"}"#)).await;
        assert_eq!(
            (got.status, got.header("content-type")),
            (415, "application/problem+json"),
            "{content_type}"
        );
    }
    assert_eq!(sidecar.admin("/log").await.json(), json!({"level": "info"}));
}

#[tokio::test]
async fn the_log_level_changes_while_it_runs_and_returns() {
    let world = World::new().await;
    let sidecar = world.start().await;
    let change = async |body: &str| {
        sidecar.send_admin(put("/log", "application/json; charset=utf-8", body)).await
    };
    for wrong in [
        "",
        "{}",
        r#"{"level":"loud=very=much"}"#,
        r#"{"level":"debug","for":"soon"}"#,
        r#"{"level":"debug","x":1}"#,
    ] {
        change(wrong).await.problem("bad-request", 400);
    }
    assert_eq!(change(r#"{"level":"debug"}"#).await.status, 200);
    sidecar.logged("the log level has changed").await;
    sidecar.get("/v2/customers/42").await.dataset();
    sidecar.logged("\"level\":\"DEBUG\"").await;
    assert_eq!(change(r#"{"level":"trace","for":"1s"}"#).await.json()["level"], "trace");
    sidecar.logged_times("the log level has changed", 3).await;
    assert_eq!(
        sidecar.admin("/log").await.json(),
        json!({"level": "info"}),
        "it returns to where it began"
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let world = World::new().await;
    let sidecar = world.start().await;
    for path in ["/", "/v2/customers/42", "/openapi.json", "/readyz/", "/debug/pprof"] {
        sidecar.admin(path).await.problem("no-such-path", 404);
    }
    for (method, path) in
        [(Method::POST, "/readyz"), (Method::DELETE, "/metrics"), (Method::POST, "/log")]
    {
        let got = sidecar
            .send_admin(with_header(ask(method, path), "content-type", "application/json"))
            .await;
        got.problem("method-not-allowed", 405);
        assert!(!got.header("allow").is_empty(), "{path}");
    }
}

#[tokio::test]
async fn probes_for_others_hold_no_key_no_data_and_no_write() {
    let world = World::new().await;
    let sidecar = world.setup().args(&["--probes", "127.0.0.1:0"]).start().await;
    let probes = Endpoint::Tcp(sidecar.address("probes and metrics").await);
    let ask = async |request: ClientRequest| -> ClientResponse {
        once(&probes, HttpVersion::Http1, request).await
    };
    for path in ["/livez", "/readyz", "/startupz", "/metrics"] {
        // A kubelet and Prometheus address the pod by its own IP address.
        assert_eq!(
            ask(with_header(get(path), "host", "10.1.2.3:7072")).await.status,
            200,
            "{path}"
        );
    }
    for path in
        ["/status", "/log", "/datasets/customer/42", "/events", "/v2/customers/42", "/openapi.json"]
    {
        ask(get(path)).await.problem("no-such-path", 404);
    }
    assert_eq!(ask(put("/log", "application/json", r#"{"level":"debug"}"#)).await.status, 404);
}
