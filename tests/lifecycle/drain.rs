//! The shutdown of a sidecar: it is not ready, still answers, then ends.

use tokio::sync::watch;

use super::Load;
use crate::support::client::{Connection, Endpoint, HttpVersion, SendError, get};
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

async fn over_one(args: &[&str]) -> (Sidecar, Upstream) {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.answers("/part", [Reply::json("{\"id\":42}")]);
    let domain = DomainFile::of("customer").source("part", &upstream, "/part", &[]);
    let setup = Setup::of(&[&domain]).args(args);
    let identity = setup.dir().join("identity");
    pki.client().write(&identity, pki.authority.ca_pem()).unwrap();
    (setup.arg("--identity").arg(identity).start().await, upstream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_fails_no_request_and_ends_with_zero() {
    let (sidecar, _upstream) = over_one(&[]).await;
    let load = Load::begin(&sidecar, 4, "/v2/customers/42");
    load.answers(100).await;
    sidecar.signal("TERM");
    sidecar.logged("draining").await;
    assert_eq!(sidecar.admin("/readyz").await.status, 503);
    assert_eq!(sidecar.admin("/livez").await.status, 200);
    load.answers(500).await;
    assert_eq!(sidecar.admin("/readyz").await.json()["status"], "draining");
    load.end().await;
    assert_eq!(sidecar.exit_status().await.code(), Some(0));
}

#[tokio::test]
async fn while_it_drains_every_answer_says_that_the_connection_ends() {
    let (sidecar, _upstream) = over_one(&[]).await;
    let to = Endpoint::Tcp(sidecar.listen());
    let mut connection = Connection::open(&to, HttpVersion::Http1).await.unwrap();
    let before = connection.send(get("/v2/customers/42")).await.unwrap();
    assert_eq!(before.header("connection"), "");
    sidecar.signal("TERM");
    sidecar.logged("draining").await;
    let after = connection.send(get("/v2/customers/42")).await.unwrap();
    after.dataset();
    assert_eq!(after.header("connection"), "close");
    assert!(
        matches!(connection.send(get("/v2/customers/42")).await, Err(SendError::Unsent(_))),
        "the connection has ended"
    );
    let problem = sidecar.get("/nowhere").await;
    assert_eq!((problem.status, problem.header("connection")), (404, "close"));
    assert_eq!(sidecar.exit_status().await.code(), Some(0));
}

#[tokio::test]
async fn what_is_in_flight_at_sigterm_is_answered() {
    let (sidecar, upstream) = over_one(&[]).await;
    for http in [HttpVersion::Http1, HttpVersion::Http2] {
        let gate = watch::Sender::new(false);
        upstream.answers("/part", [Reply::json("1").held_until(gate.subscribe())]);
        let mut consumer = sidecar.consumer(http);
        let requests = upstream.received().len();
        let (got, ()) = tokio::join!(consumer.get("/v2/customers/42"), async {
            upstream.requests(requests + 1).await;
            if http == HttpVersion::Http2 {
                sidecar.signal("INT");
                sidecar.logged("draining").await;
            }
            gate.send_replace(true);
        });
        got.unwrap().dataset();
    }
    assert_eq!(sidecar.exit_status().await.code(), Some(0));
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_end_up() {
    let (sidecar, _upstream) = over_one(&["--drain", "50s"]).await;
    let to = Endpoint::Tcp(sidecar.listen());
    let mut idle = Vec::new();
    for http in [HttpVersion::Http1, HttpVersion::Http2] {
        let mut used = Connection::open(&to, http).await.unwrap();
        used.send(get("/v2/customers/42")).await.unwrap().dataset();
        idle.push(used);
        idle.push(Connection::open(&to, http).await.unwrap());
    }
    sidecar.signal("TERM");
    assert_eq!(sidecar.exit_status().await.code(), Some(0));
    // The drain did not end at its bound, because it would have logged that.
    assert!(sidecar.log().contains("\"how\":\"quiet\""), "{}", sidecar.log());
}

#[tokio::test]
async fn a_drain_is_bounded() {
    let (sidecar, upstream) = over_one(&["--drain", "1s"]).await;
    upstream.answers("/part", [Reply::never()]);
    let mut consumer =
        Connection::open(&Endpoint::Tcp(sidecar.listen()), HttpVersion::Http1).await.unwrap();
    let (answer, ()) = tokio::join!(consumer.send(get("/v2/customers/42")), async {
        upstream.requests(1).await;
        sidecar.signal("TERM");
        assert_eq!(sidecar.exit_status().await.code(), Some(0));
    });
    assert!(matches!(answer, Err(SendError::Failed(_))), "its source never answered: {answer:?}");
    assert!(sidecar.log().contains("the drain took too long"), "{}", sidecar.log());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (sidecar, upstream) = over_one(&["--drain", "10m"]).await;
    upstream.answers("/part", [Reply::never()]);
    let mut consumer =
        Connection::open(&Endpoint::Tcp(sidecar.listen()), HttpVersion::Http1).await.unwrap();
    let (answer, ()) = tokio::join!(consumer.send(get("/v2/customers/42")), async {
        upstream.requests(1).await;
        sidecar.signal("TERM");
        sidecar.logged("draining").await;
        assert_eq!(sidecar.admin("/readyz").await.status, 503);
        sidecar.signal("TERM");
        sidecar.exit_status().await;
    });
    assert!(matches!(answer, Err(SendError::Failed(_))), "{answer:?}");
    assert!(sidecar.log().contains("told again"), "{}", sidecar.log());
}

#[tokio::test]
async fn an_idle_sidecar_ends_with_zero_and_takes_its_socket_along() {
    let pki = Pki::new();
    let domain = DomainFile::of("customer").source_at("part", "https://localhost:1/part", &[]);
    let setup = Setup::of(&[&domain]).identity(&pki);
    let socket = setup.dir().join("bfb.sock");
    let sidecar = setup.arg("--listen").arg(format!("unix:{}", socket.display())).start().await;
    sidecar.logged("unix:").await;
    assert!(socket.exists());
    sidecar.signal("TERM");
    assert_eq!(sidecar.exit_status().await.code(), Some(0));
    assert!(!socket.exists());
}
