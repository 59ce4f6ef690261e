//! Certificates replaced under load, file by file and as a kubelet does it.

use std::fs;

use super::Load;
use crate::support::domain::{DomainFile, mutual, mutual_http2};
use crate::support::pki::Pki;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// How often the certificates are replaced.
const TIMES: usize = 20;

async fn over_two(pki: &Pki) -> (Sidecar, Vec<Upstream>) {
    let mut domain = DomainFile::of("customer").head("atomicity: snapshot");
    let mut upstreams = Vec::new();
    // One over HTTP/1.1, one over HTTP/2: connections of both are retired.
    for (name, upstream) in [("profile", mutual(pki).await), ("orders", mutual_http2(pki).await)] {
        upstream.answers("/part", [Reply::json("{\"id\":42}").etag("\"1\"")]);
        domain = domain.source(name, &upstream, "/part", &["retries: 0"]);
        upstreams.push(upstream);
    }
    (Setup::of(&[&domain]).identity(pki).start().await, upstreams)
}

/// Replaces the certificates under load: each is taken over, old connections are retired, and no
/// request fails.
async fn replace_under_load(pki: Pki, replace: impl Fn(&Pki, u32)) {
    let (sidecar, upstreams) = over_two(&pki).await;
    let load = Load::begin(&sidecar, 2, "/v2/customers/42");
    load.answers(20).await;
    for times in 1..=TIMES {
        replace(&pki, u32::try_from(times).unwrap());
        sidecar.logged_times("new identity", times).await;
        load.answers(10).await;
    }
    let answered = load.end().await;
    assert!(answered > TIMES * 10);
    assert_eq!(sidecar.metric("bfb_identity_reloads_total", &[]).await, Some(20.0));
    for upstream in &upstreams {
        assert!(
            upstream.connections() > TIMES,
            "{} connections: old ones live on",
            upstream.connections()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_replaced_twenty_times_file_by_file_fail_no_request() {
    replace_under_load(Pki::new(), |pki, _| pki.rotate()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_replaced_twenty_times_as_a_kubelet_does_fail_no_request() {
    let pki = Pki::new();
    pki.rotate_like_kubernetes(1);
    replace_under_load(pki, |pki, times| pki.rotate_like_kubernetes(times + 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_new_pair_is_reported_and_the_old_one_stays() {
    let pki = Pki::new();
    let (sidecar, _upstreams) = over_two(&pki).await;
    let load = Load::begin(&sidecar, 1, "/v2/customers/42");
    let key = fs::read(pki.dir().join("tls.key")).unwrap();
    fs::write(pki.dir().join("tls.key"), "no key at all").unwrap();
    sidecar.logged("the old identity stays").await;
    load.answers(20).await;
    assert_eq!(sidecar.metric("bfb_identity_reload_failures_total", &[]).await, Some(1.0));
    fs::write(pki.dir().join("tls.key"), key).unwrap();
    pki.rotate();
    sidecar.logged("new identity").await;
    load.answers(20).await;
    load.end().await;
}
