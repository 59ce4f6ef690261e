//! jq programs that use all the steps, memory and output that they may.

use std::time::Duration;

use futures_util::future::join_all;

use super::is_honest;
use crate::support::client::HttpVersion;
use crate::support::domain::DomainFile;
use crate::support::sidecar::Setup;
use crate::support::upstream::{Reply, Upstream};

/// A program that runs until its budget of steps is spent.
const ENDLESS: &str = "[range(100000000) | tostring | length] | add";
/// More processor time than one request uses before its program runs.
const AT_WORK: Duration = Duration::from_millis(15);

fn of_shape(name: &str, upstream: &Upstream, shape: &str) -> DomainFile {
    let domain = DomainFile::of(name).head("cache: {ttl: 1h}").source(
        "part",
        upstream,
        "/part?of={key}",
        &[],
    );
    domain.version("v2", &[&format!("path: '/v2/{name}s/{{key}}'"), &format!("shape: '{shape}'")])
}

#[tokio::test]
async fn shapes_that_build_large_trees_stay_within_the_limit_together() {
    let upstream = Upstream::plain().await;
    upstream.forget();
    let objects = format!("[{}]", vec!["{\"a\":1}"; 400_000].join(","));
    upstream.handles("/part", move |_| Reply::json(objects.clone()));
    let trees = of_shape("tree", &upstream, "[range(300000)] | map({a: .}) | length");
    let lengths = of_shape("length", &upstream, ".part | length");
    let setup = Setup::of(&[&trees, &lengths]).insecure().args(&[
        "--memory",
        "32MiB",
        "--memory-limit",
        "256MiB",
    ]);
    let sidecar = setup.start().await;
    let idle = sidecar.resident_kib();
    let answers = join_all((0..16).map(|nth| {
        let mut consumer = sidecar.consumer(HttpVersion::Http1);
        let path =
            if nth % 2 == 0 { format!("/v2/trees/{nth}") } else { format!("/v2/lengths/{nth}") };
        async move { consumer.get(&path).await.unwrap() }
    }));
    for got in answers.await {
        // In a build without optimisation a run may also exceed its second.
        assert!(is_honest(&got) || got.status == 502, "{} {}", got.status, got.text());
    }
    // The program itself is larger in a build without optimisation than the room that the limit
    // leaves for it.
    let grown = sidecar.peak_resident_kib() - idle;
    assert!(grown < 256 * 1024, "{grown} KiB beyond {idle} KiB");
}

#[tokio::test]
async fn one_domains_endless_shapes_leave_a_way_through_to_anothers() {
    let upstream = Upstream::plain().await;
    upstream.answers("/part", [Reply::json("{\"id\":42}")]);
    let endless = of_shape("hog", &upstream, ENDLESS).head("deadline: 5s");
    let quick = of_shape("customer", &upstream, "{id: .part.id}");
    let sidecar =
        Setup::of(&[&endless, &quick]).insecure().args(&["--memory", "32MiB"]).start().await;
    let hogs = join_all((0..32).map(|nth| {
        let mut consumer = sidecar.consumer(HttpVersion::Http1);
        async move { consumer.get(&format!("/v2/hogs/{nth}")).await.unwrap() }
    }));
    let honest = async {
        let mut consumer = sidecar.consumer(HttpVersion::Http1);
        for key in 0..20 {
            let got = consumer.get(&format!("/v2/customers/{key}")).await.unwrap();
            assert_eq!((got.status, got.text()), (200, "{\"id\":42}"));
        }
    };
    let (hogs, ()) = tokio::join!(hogs, honest);
    for got in hogs {
        assert!(matches!(got.status, 502 | 503), "{} {}", got.status, got.text());
    }
}

#[tokio::test]
async fn a_process_that_is_told_to_stop_ends_while_shapes_still_run() {
    let upstream = Upstream::plain().await;
    upstream.answers("/part", [Reply::json("{\"id\":42}")]);
    let endless = of_shape("hog", &upstream, ENDLESS);
    let setup = Setup::of(&[&endless]).insecure().args(&["--memory", "32MiB", "--drain", "1s"]);
    let sidecar = setup.start().await;
    let hogs: Vec<_> = (0..8)
        .map(|nth| {
            let mut consumer = sidecar.consumer(HttpVersion::Http1);
            tokio::spawn(async move { consumer.get(&format!("/v2/hogs/{nth}")).await })
        })
        .collect();
    upstream.requests(8).await;
    sidecar.signal("TERM");
    assert!(sidecar.exit_status().await.success());
    for hog in hogs {
        hog.abort();
    }
}

#[tokio::test]
async fn a_program_that_was_held_up_with_its_whole_process_is_run_again() {
    let upstream = Upstream::plain().await;
    upstream.answers("/part", [Reply::json("1")]);
    // This takes from some hundredths of a second to a few tenths, depending on the build.
    let domain = of_shape("customer", &upstream, "[range(60000) | tostring | length] | add");
    let sidecar = Setup::of(&[&domain]).insecure().args(&["--memory", "32MiB"]).start().await;
    for key in 0..5 {
        let mut consumer = sidecar.consumer(HttpVersion::Http1);
        let path = format!("/v2/customers/{key}");
        let response = tokio::spawn(async move { consumer.get(&path).await.unwrap() });
        upstream.requests(key + 1).await;
        // All else that one request costs is less, so from here on the program is running.
        let busy = sidecar.cpu_time() + AT_WORK;
        while sidecar.cpu_time() < busy && !response.is_finished() {
            tokio::task::yield_now().await;
        }
        sidecar.signal("STOP");
        // No event signals that a process was paused for longer than a run may take.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        sidecar.signal("CONT");
        let got = response.await.unwrap();
        assert_eq!(got.status, 200, "{}", got.text());
    }
}
