//! Attacks by a hostile, or only clumsy, consumer. Two of these take the ten seconds that a
//! request's head may take to arrive; they run side by side with the others.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Memory;
use crate::support::client::{Connection, Endpoint, HttpVersion, TEST_TIMEOUT, ask, get};
use crate::support::crowd::open_files_max;
use crate::support::domain::DomainFile;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

pub(super) async fn over_one() -> (Sidecar, Upstream) {
    let upstream = Upstream::plain().await;
    upstream.answers("/part", [Reply::json("{\"id\":42}")]);
    let domain = DomainFile::of("customer").source("part", &upstream, "/part", &[]);
    (Setup::of(&[&domain]).insecure().start().await, upstream)
}

/// Sends a byte a second of `request` and returns how many it could send before the sidecar ended
/// the connection.
async fn trickle(sidecar: &Sidecar, request: &[u8]) -> usize {
    let mut stream = TcpStream::connect(sidecar.listen()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut answer = Vec::new();
    let ended = read.read_to_end(&mut answer);
    tokio::pin!(ended);
    for (sent, byte) in request.iter().enumerate() {
        if write.write_all(&[*byte]).await.is_err() {
            return sent;
        }
        // The slow pace is the attack.
        if tokio::time::timeout(Duration::from_secs(1), &mut ended).await.is_ok() {
            return sent + 1;
        }
    }
    request.len()
}

#[tokio::test]
async fn a_request_that_comes_a_byte_a_second_is_cut_off() {
    let (sidecar, upstream) = over_one().await;
    let request = b"GET /v2/customers/42 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (sent, served) = tokio::join!(trickle(&sidecar, request), sidecar.get("/v2/customers/42"));
    served.dataset();
    assert!(sent < request.len(), "the whole request was taken, slow as it came");
    assert_eq!(upstream.received().len(), 1);
    assert_eq!(sidecar.metric("bfb_slow_requests_total", &[]).await, Some(1.0));
    sidecar.get("/v2/customers/42").await.dataset();
}

#[tokio::test]
async fn a_preface_of_http_2_that_comes_a_byte_a_second_is_cut_off() {
    let (sidecar, _upstream) = over_one().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    assert!(trickle(&sidecar, preface).await < preface.len());
    assert_eq!(sidecar.metric("bfb_slow_requests_total", &[]).await, Some(1.0));
    sidecar.get("/v2/customers/42").await.dataset();
}

/// How many connections a sidecar takes by default.
const CONNECTIONS_MAX: usize = 1024;

/// A connection, as soon as this process may open one more file: other tests need some too.
pub(super) async fn connected(address: SocketAddr) -> TcpStream {
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

#[tokio::test]
async fn two_thousand_idle_connections_cost_little_and_go_without_a_trace() {
    let (sidecar, _upstream) = over_one().await;
    let memory = Memory::of(&sidecar);
    let connections = 2_000.min(open_files_max() / 4);
    let mut idle = Vec::new();
    // One after the other: many at once overflow the kernel's queue, which then drops some
    // connections that their clients see as open.
    let connecting = async {
        for _ in 0..connections {
            idle.push(connected(sidecar.listen()).await);
        }
    };
    assert!(
        tokio::time::timeout(TEST_TIMEOUT * 2, connecting).await.is_ok(),
        "so many connections were never had"
    );
    let (name, expected) = if connections >= CONNECTIONS_MAX {
        ("bfb_connections_full_total", 1.0)
    } else {
        ("bfb_connections", f64::from(u32::try_from(connections).unwrap()))
    };
    let open = async { while sidecar.metric(name, &[]).await < Some(expected) {} };
    assert!(
        tokio::time::timeout(TEST_TIMEOUT, open).await.is_ok(),
        "the connections, or their bound, were never reached"
    );
    assert_eq!(sidecar.admin("/readyz").await.status, 200, "the admin port has bounds of its own");
    memory.is_bounded(&sidecar);
    // When all connections are in use, idle ones are closed to make room.
    sidecar.get("/v2/customers/42").await.dataset();
    drop(idle);
    sidecar.get("/v2/customers/42").await.dataset();
}

#[tokio::test]
async fn a_body_of_a_hundred_mib_is_not_kept() {
    let (sidecar, _upstream) = over_one().await;
    let memory = Memory::of(&sidecar);
    let mut stream = TcpStream::connect(sidecar.listen()).await.unwrap();
    let size = 100 * 1024 * 1024;
    let head = format!(
        "GET /v2/customers/42 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let flood = async {
        let chunk = vec![b'x'; 1024 * 1024];
        for _ in 0..size / chunk.len() {
            // The connection may be ended as soon as the answer is there.
            if write.write_all(&chunk).await.is_err() {
                return;
            }
        }
    };
    let mut status = [0; 15];
    let (answer, ()) = tokio::join!(read.read_exact(&mut status), flood);
    answer.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
    memory.is_bounded(&sidecar);
    sidecar.get("/v2/customers/42").await.dataset();
}

#[tokio::test]
async fn a_thousand_pipelined_requests_are_answered_in_order() {
    let (sidecar, _upstream) = over_one().await;
    let mut requests = String::new();
    for number in 0..1_000 {
        let path = if number % 2 == 0 { "/v2/customers/42" } else { "/nowhere" };
        write!(requests, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    requests += "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(sidecar.listen()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let mut answers = String::new();
    let (sent, got) =
        tokio::join!(write.write_all(requests.as_bytes()), read.read_to_string(&mut answers));
    sent.unwrap();
    got.unwrap();
    let statuses: Vec<_> =
        answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect();
    assert_eq!(statuses.len(), 1_001);
    assert!(
        statuses
            .iter()
            .enumerate()
            .all(|(i, status)| *status == if i % 2 == 0 { "200" } else { "404" }),
        "{statuses:?}"
    );
}

#[tokio::test]
async fn headers_without_end_over_http_2_are_refused() {
    let (sidecar, upstream) = over_one().await;
    let mut connection =
        Connection::open(&Endpoint::Tcp(sidecar.listen()), HttpVersion::Http2).await.unwrap();
    let mut request = get("/v2/customers/42");
    for number in 0..1_000 {
        let name = format!("x-{number}");
        let value = "x".repeat(100);
        request
            .headers_mut()
            .insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    if let Ok(got) = connection.send(request).await {
        assert_eq!(got.status, 431, "{got:?}");
    }
    assert!(upstream.received().is_empty());
    sidecar.get("/v2/customers/42").await.dataset();
}

#[tokio::test]
async fn streams_that_are_reset_at_once_cost_little() {
    let (sidecar, upstream) = over_one().await;
    upstream.answers("/part", [Reply::never()]);
    let memory = Memory::of(&sidecar);
    let mut connection =
        Connection::open(&Endpoint::Tcp(sidecar.listen()), HttpVersion::Http2).await.unwrap();
    for _ in 0..2_000 {
        // Dropping the answer's future resets the stream. After too many resets a server ends the
        // connection.
        let reset = tokio::time::timeout(
            Duration::from_micros(200),
            connection.send(get("/v2/customers/42")),
        )
        .await;
        if reset.is_ok() {
            connection = Connection::open(&Endpoint::Tcp(sidecar.listen()), HttpVersion::Http2)
                .await
                .unwrap();
        }
    }
    memory.is_bounded(&sidecar);
    upstream.answers("/part", [Reply::json("1")]);
    drop(connection);
    // Otherwise the request may join a flight that waits for the answer which never comes.
    sidecar.until_metric("bfb_flights", 0.0).await;
    sidecar.get("/v2/customers/42").await.dataset();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_requests_than_may_be_under_way_are_overloaded_and_later_ones_are_answered() {
    let (sidecar, upstream) = over_one().await;
    upstream.answers("/part", [Reply::never()]);
    let (answers, mut answered) = mpsc::unbounded_channel();
    let mut held = JoinSet::new();
    // 4 096 places, and 256 requests more; each connection carries as many streams as it may.
    for _ in 0..34 {
        let connection =
            Connection::open(&Endpoint::Tcp(sidecar.listen()), HttpVersion::Http2).await.unwrap();
        let answers = answers.clone();
        held.spawn(async move { connection.at_once("/v2/customers/42", 128, &answers).await });
    }
    for _ in 0..256 {
        answered.recv().await.unwrap().problem("overloaded", 503);
    }
    sidecar.get("/v2/customers/42").await.problem("overloaded", 503);
    assert_eq!(sidecar.get("/nowhere").await.status, 404);
    assert_eq!(sidecar.metric("bfb_overloaded_total", &[]).await, Some(257.0));
    // Their consumers go away, which frees their places.
    held.shutdown().await;
    sidecar.until_metric("bfb_flights", 0.0).await;
    upstream.answers("/part", [Reply::json("1")]);
    let served = async { while sidecar.get("/v2/customers/42").await.status != 200 {} };
    assert!(tokio::time::timeout(TEST_TIMEOUT, served).await.is_ok());
}

#[tokio::test]
async fn other_methods_with_bodies_are_refused_without_reading_them() {
    let (sidecar, upstream) = over_one().await;
    let request = ask(Method::POST, "/v2/customers/42")
        .map(|_| http_body_util::Full::from(vec![b'x'; 8 * 1024 * 1024]));
    let mut connection =
        Connection::open(&Endpoint::Tcp(sidecar.listen()), HttpVersion::Http1).await.unwrap();
    if let Ok(got) = connection.send(request).await {
        got.problem("method-not-allowed", 405);
    }
    assert!(upstream.received().is_empty());
    sidecar.get("/v2/customers/42").await.dataset();
}
