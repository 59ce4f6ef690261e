//! The listeners to events: bounded in number, never waited for, ended only by the drain, and none
//! from a web page.

use std::convert::Infallible;

use bfb::http::{
    Activity, DrainPhase, Handler, Listener as Socket, Port, PortLimits, PortMetrics, RequestBody,
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::{PATH, invalidate, single_sidecar};
use crate::cache::counting;
use crate::support::client::{
    Consumer, Endpoint, HttpVersion, TEST_TIMEOUT, ask, get, with_header,
};
use crate::support::events::Listener;

/// The bound on listeners in the code.
const LISTENERS_MAX: u8 = 16;
/// More than the sidecar and the kernel buffer for a client that does not read.
const FLOOD: u64 = 2_500;

#[tokio::test]
async fn who_is_too_slow_is_told_how_many_events_it_missed() {
    let (sidecar, _upstream) = single_sidecar("{ttl: 60s}").await;
    let mut slow = Listener::narrow(sidecar.admin_address(), "?keys=1").await;
    let mut admin = Consumer::new(Endpoint::Tcp(sidecar.admin_address()), HttpVersion::Http1);
    let keys: Vec<String> = (0..100).map(|n| format!("{n:0100}")).collect();
    let flood = crate::cache::write("/invalidate", &json!({"domain": "customer", "keys": keys}));
    for _ in 0..FLOOD {
        assert_eq!(admin.send(flood.clone()).await.unwrap().status, 202);
    }
    invalidate(&sidecar, "all", &json!(true)).await;
    let mut received = 0;
    let mut missed = 0;
    loop {
        let event = slow.next().await.unwrap();
        match event["event"].as_str().unwrap() {
            "missed" => missed += event["count"].as_u64().unwrap(),
            "invalidated" if event["all"] == true => break,
            "invalidated" => received += 1,
            other => panic!("{other}"),
        }
    }
    assert!(missed > 0, "it missed nothing: {received} came");
    assert_eq!(received + missed, FLOOD, "every event came or is counted");
    assert_eq!(
        sidecar.metric("bfb_events_missed_total", &[]).await,
        Some(f64::from(u32::try_from(missed).unwrap()))
    );
}

#[tokio::test]
async fn listeners_are_bounded_and_a_place_is_free_again_when_one_goes() {
    let (sidecar, upstream) = single_sidecar("{ttl: 60s}").await;
    counting(&upstream, "/42");
    let mut listeners = Vec::new();
    for _ in 0..LISTENERS_MAX {
        listeners.push(Listener::to(sidecar.admin_address(), "").await);
    }
    sidecar.admin("/events").await.problem("overloaded", 503);
    let metric = async |name| sidecar.metric(name, &[]).await;
    assert_eq!(metric("bfb_event_listeners").await, Some(f64::from(LISTENERS_MAX)));
    assert_eq!(metric("bfb_event_listeners_refused_total").await, Some(1.0));
    sidecar.get(PATH).await.dataset();
    for listener in &mut listeners {
        assert_eq!(listener.next().await.unwrap()["event"], "filled");
    }
    listeners.pop();
    let freed =
        async { while metric("bfb_event_listeners").await == Some(f64::from(LISTENERS_MAX)) {} };
    assert!(
        tokio::time::timeout(TEST_TIMEOUT, freed).await.is_ok(),
        "a listener that went away holds its place"
    );
    Listener::to(sidecar.admin_address(), "").await;
}

#[tokio::test]
async fn a_stream_on_which_nothing_happens_shows_that_it_lives() {
    let (sidecar, _upstream) = single_sidecar("{ttl: 60s}").await;
    Listener::to(sidecar.admin_address(), "").await.until_comment().await;
}

#[tokio::test]
async fn a_drain_ends_every_stream_with_a_word_and_waits_for_none() {
    let (sidecar, _upstream) = single_sidecar("{ttl: 60s}").await;
    let mut listener = Listener::to(sidecar.admin_address(), "").await;
    // A listener that never reads: it only sends its request.
    let mut deaf = TcpStream::connect(sidecar.admin_address()).await.unwrap();
    deaf.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    deaf.read_u8().await.unwrap();
    sidecar.signal("TERM");
    assert_eq!(listener.until("ends").await["because"], "the sidecar drains");
    assert_eq!(listener.next().await, None);
    assert_eq!(sidecar.exit_status().await.code(), Some(0));
    assert!(sidecar.log().contains(r#""how":"quiet""#), "{}", sidecar.log());
    assert_eq!(sidecar.lines().iter().filter(|line| line["level"] == "ERROR").count(), 0);
}

/// Answers with a body that neither ends nor has any content.
#[derive(Clone)]
struct Endless;

impl Handler for Endless {
    type Body = StreamBody<stream::Pending<Result<Frame<Bytes>, Infallible>>>;

    async fn handle(&self, _: Request<RequestBody>, _: bool) -> Response<Self::Body> {
        Response::new(StreamBody::new(stream::pending()))
    }

    fn refuse(&self, _: &HeaderMap, _: String) -> Response<Self::Body> {
        Response::new(StreamBody::new(stream::pending()))
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut_off_when_connections_are_closed() {
    let listener = Socket::bind(&"127.0.0.1:0".parse().unwrap(), 0o600).await.unwrap();
    let address = listener.address().to_string();
    let (drain, drained) = watch::channel(DrainPhase::Serving);
    let tasks = TaskTracker::new();
    let port = Port {
        activity: Activity::default(),
        drain: drained,
        metrics: PortMetrics::default(),
        tasks: tasks.clone(),
    };
    let accepting = tokio::spawn(bfb::http::accept(listener, Endless, PortLimits::default(), port));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    stream.read_u8().await.unwrap();
    drain.send_replace(DrainPhase::Draining);
    accepting.abort();
    tasks.close();
    drain.send_replace(DrainPhase::Closing);
    assert!(
        tokio::time::timeout(TEST_TIMEOUT, tasks.wait()).await.is_ok(),
        "the connection outlived the close"
    );
}

#[tokio::test]
async fn a_web_page_listens_to_nothing_and_nobody_writes() {
    let (sidecar, _upstream) = single_sidecar("{ttl: 60s}").await;
    sidecar
        .send_admin(with_header(get("/events"), "origin", "http://localhost:7071"))
        .await
        .problem("forbidden", 403);
    sidecar
        .send_admin(with_header(get("/events"), "host", "example.com"))
        .await
        .problem("misdirected", 421);
    sidecar.send_admin(ask(Method::POST, "/events")).await.problem("unsupported-media-type", 415);
    sidecar.send_admin(ask(Method::PUT, "/events")).await.problem("method-not-allowed", 405);
    for wrong in ["?key=1", "?keys=yes", "?x"] {
        sidecar.admin(&format!("/events{wrong}")).await.problem("bad-request", 400);
    }
    let head = sidecar.send_admin(ask(Method::HEAD, "/events")).await;
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
    assert_eq!(
        sidecar.metric("bfb_event_listeners", &[]).await,
        Some(0.0),
        "a HEAD keeps no place"
    );
}
