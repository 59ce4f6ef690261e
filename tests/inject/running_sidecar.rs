//! The injected sidecar runs with its arguments and variables, and is probed, used and stopped as
//! in a pod.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::pod::Pod;
use crate::support::client::{Endpoint, HttpVersion, TEST_TIMEOUT, get, once};
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::upstream::Reply;

#[tokio::test]
async fn the_injected_container_runs_and_is_probed_asked_and_stopped() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.handles("/profile", |_| Reply::json(r#"{"name":"x"}"#));
    let domain = DomainFile::of("customer").source("profile", &upstream, "/profile?key={key}", &[]);
    let annotations = [
        ("unix-socket", "true"),
        ("memory", "32MiB"),
        ("log", "info,bfb::sources=debug"),
        ("trace-key", "$(HOME)"),
        ("explain", "true"),
        ("request-cache-control", "ignore"),
        ("drain", "20s"),
    ];
    let spec = json!({"containers": [{"name": "app", "image": "shop/app:1"}]});
    let pod = Pod::start(&pki, &domain, &annotations, &spec).await;
    let log = &pod.startup_log;
    assert!(!log.contains("unknown variable"), "{log}");
    assert!(log.contains("web-7c9f-x2k") && log.contains("shop"), "{log}");

    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let asked = &pod.container[probe]["httpGet"];
        assert_eq!(asked["port"], pod.probes.port());
        let path = asked["path"].as_str().unwrap();
        // As the kubelet does: until the probe succeeds, or its failure threshold is reached.
        let fine = async {
            while once(&Endpoint::Tcp(pod.probes), HttpVersion::Http1, get(path)).await.status
                != 200
            {}
        };
        assert!(tokio::time::timeout(TEST_TIMEOUT, fine).await.is_ok(), "{path}");
    }
    assert_eq!(
        once(&Endpoint::Tcp(pod.probes), HttpVersion::Http1, get("/metrics")).await.status,
        200
    );
    assert_eq!(fs::metadata(pod.socket()).unwrap().permissions().mode() & 0o777, 0o666);
    for (to, path) in [
        (Endpoint::Unix(pod.socket()), "/v2/customers/1"),
        (Endpoint::Tcp(pod.listen), "/v2/customers/2"),
    ] {
        let got = once(&to, HttpVersion::Http1, get(path)).await;
        assert_eq!(
            (got.status, got.header("server-timing").is_empty()),
            (200, false),
            "{}",
            got.text()
        );
    }
    let mut status = pod.exec();
    status.arg("status");
    let status = tokio::task::spawn_blocking(move || status.output().unwrap()).await.unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    assert!(String::from_utf8_lossy(&status.stdout).contains("customer"));

    pod.terminate();
    let (ended, rest) = pod.end().await;
    assert!(ended.success(), "{rest}");
}
