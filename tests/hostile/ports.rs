//! Crowds of connections that only occupy places: the next request is answered all the same, on
//! every port.

use std::time::Duration;

use http::Method;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::consumers::over_one;
use crate::support::client::{Connection, Endpoint, HttpVersion, TEST_TIMEOUT, ask, get};
use crate::support::crowd::{Crowd, Script, probe};
use crate::support::domain::DomainFile;
use crate::support::flood::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PING, frame};
use crate::support::frames;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};
use crate::support::wire::{self, Wire};

const DATASET: &str = "/v2/customers/42";
/// At least as many as showed the attack.
const PROBES: usize = 20;

/// A sidecar that has its dataset in memory: repeated requests cost no upstream anything.
async fn cached() -> (Sidecar, Upstream) {
    let upstream = Upstream::plain().await;
    upstream.answers("/part", [Reply::json("{\"id\":42}")]);
    let domain =
        DomainFile::of("customer").head("cache: {ttl: 1h}").source("part", &upstream, "/part", &[]);
    let sidecar = Setup::of(&[&domain]).insecure().args(&["--memory", "8MiB"]).start().await;
    sidecar.get(DATASET).await.dataset();
    (sidecar, upstream)
}

/// Heads of HTTP/2 that never end, each in its own way, and connections that never send a request.
fn endless_heads() -> Vec<Script> {
    let opening = frames::opening();
    let half = frame(HEADERS, END_STREAM, 1, &frames::get(DATASET)[..1]);
    let request = frames::request(1, DATASET);
    // A frame whose payload arrives byte by byte.
    let dribbled = frames::head(CONTINUATION, END_HEADERS, 1, 16_000);
    let half_of_second = frame(HEADERS, END_STREAM, 3, &frames::get(DATASET)[..1]);
    vec![
        Script::new([&opening[..], &half].concat(), ""),
        Script::new([&opening[..], &half, &dribbled].concat(), "x"),
        Script::new([&opening[..], &request, &half_of_second].concat(), ""),
        Script::new(frames::PREFACE, ""),
        Script::new(opening, frame(PING, 0, 0, &[0; 8])),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_are_answered_while_others_send_a_byte_now_and_then() {
    let upstream = Upstream::plain().await;
    let domain = DomainFile::of("customer").source("part", &upstream, "/part", &[]);
    let sidecar = Setup::of(&[&domain]).insecure().args(&["--probes", "127.0.0.1:0"]).start().await;
    let probes = sidecar.address("probes and metrics").await;
    let _crowd = Crowd::at(probes, &[Script::new("G", "E")]).await;
    let failed = probe(probes, "/livez", PROBES).await;
    assert!(failed.is_empty(), "{} of {PROBES} probes failed: {failed:?}", failed.len());
    let full = sidecar.metric("bfb_probes_connections_full_total", &[]).await;
    assert!(full >= Some(1.0), "the port was never full: {full:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_are_answered_while_others_hold_endless_heads_of_http_2() {
    let (sidecar, _upstream) = cached().await;
    let _crowd = Crowd::at(sidecar.listen(), &endless_heads()).await;
    let failed = probe(sidecar.listen(), DATASET, PROBES).await;
    assert!(failed.is_empty(), "{} of {PROBES} requests failed: {failed:?}", failed.len());
    let over_http_2 = async {
        let mut connection =
            Connection::open(&Endpoint::Tcp(sidecar.listen()), HttpVersion::Http2).await.unwrap();
        connection.send(get(DATASET)).await.unwrap().dataset();
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(5), over_http_2).await.is_ok(),
        "no answer over HTTP/2"
    );
}

/// An honest consumer that keeps its connection, beside a crowd, loses no request: its place is not
/// the one that has waited longest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_keeps_its_connection_keeps_it_beside_a_crowd() {
    let (sidecar, _upstream) = cached().await;
    let request = wire::get(DATASET, "");
    let _crowd = Crowd::at(sidecar.listen(), &[Script::new("G", "E")]).await;
    let mut consumer = Wire::open(sidecar.listen()).await.unwrap();
    for number in 0..50 {
        consumer.ask(&request).await.unwrap();
        let answered = tokio::time::timeout(Duration::from_secs(2), consumer.answer()).await;
        let answer = answered.unwrap_or_else(|_| panic!("request {number} was not answered"));
        let answer = answer.unwrap_or_else(|error| panic!("request {number} was lost: {error}"));
        assert_eq!(answer.status, 200);
        if answer.closes() {
            consumer = Wire::open(sidecar.listen()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads until the other side ends the connection.
async fn ended(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(TEST_TIMEOUT, stream.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "the connection was not ended");
}

#[tokio::test]
async fn a_head_of_http_2_that_never_ends_is_cut_off_after_ten_seconds_also_after_a_first_request()
{
    let (sidecar, _upstream) = cached().await;
    let mut waiting = Vec::new();
    // All but the last never end a frame or a head; the last only never sends a request.
    let scripts = endless_heads();
    let endless = &scripts[..scripts.len() - 1];
    for script in endless {
        let mut stream = TcpStream::connect(sidecar.listen()).await.unwrap();
        stream.write_all(&script.opening).await.unwrap();
        waiting.push(tokio::spawn(ended(stream)));
    }
    for connection in waiting {
        connection.await.unwrap();
    }
    let slow = f64::from(u32::try_from(endless.len()).unwrap());
    assert_eq!(sidecar.metric("bfb_slow_requests_total", &[]).await, Some(slow));
    sidecar.get(DATASET).await.dataset();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_port_answers_while_others_post_without_a_body() {
    let (sidecar, _upstream) = cached().await;
    let post = "POST /invalidate HTTP/1.1\r\nhost: localhost\r\ncontent-type: \
                application/json\r\ncontent-length: 60000\r\n\r\n";
    let _crowd = Crowd::at(sidecar.admin_address(), &[Script::new(post, "x")]).await;
    let failed = probe(sidecar.admin_address(), "/livez", PROBES).await;
    assert!(failed.is_empty(), "{} of {PROBES} probes failed: {failed:?}", failed.len());
    let full = sidecar.metric("bfb_admin_connections_full_total", &[]).await;
    assert!(full >= Some(1.0), "the port was never full: {full:?}");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_a_408_on_the_admin_port() {
    let (sidecar, _upstream) = cached().await;
    let head = "POST /invalidate HTTP/1.1\r\nhost: localhost\r\ncontent-type: \
                application/json\r\ncontent-length: 10\r\n\r\n{";
    let mut wire = Wire::open(sidecar.admin_address()).await.unwrap();
    wire.ask(head).await.unwrap();
    let answer =
        tokio::time::timeout(TEST_TIMEOUT, wire.answer()).await.expect("an answer").unwrap();
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert!(
        answer.text().contains("urn:bfb:request-timeout") && answer.text().contains("5s"),
        "{}",
        answer.text()
    );
    // After a partial body the next request cannot be found: the connection ends.
    assert!(tokio::time::timeout(TEST_TIMEOUT, wire.answer()).await.expect("an end").is_err());
    assert_eq!(sidecar.metric("bfb_admin_slow_bodies_total", &[]).await, Some(1.0));
}

#[tokio::test]
async fn a_body_that_dribbles_on_after_the_answer_holds_no_place() {
    let (sidecar, _upstream) = cached().await;
    let mut stream = TcpStream::connect(sidecar.listen()).await.unwrap();
    let head =
        format!("GET {DATASET} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(TEST_TIMEOUT, stream.read_to_end(&mut answer)).await;
    read.expect("the connection ends").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&answer));
}

/// Only 16 of these may listen; the others are refused, and keep their connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_port_answers_while_others_listen_to_events() {
    let (sidecar, _upstream) = cached().await;
    let listen = Script::new(wire::get("/events", ""), "");
    let _crowd = Crowd::at(sidecar.admin_address(), &[listen]).await;
    let failed = probe(sidecar.admin_address(), "/livez", PROBES).await;
    assert!(failed.is_empty(), "{} of {PROBES} probes failed: {failed:?}", failed.len());
}

/// HTTP/2 with a window of zero: the client never takes the answer's body.
fn unread() -> Script {
    let opening = frames::opening_with(&[(frames::SETTINGS_INITIAL_WINDOW_SIZE, 0)]);
    Script::new([&opening[..], &frames::request(1, DATASET)].concat(), "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_are_answered_while_others_do_not_read_their_answers() {
    let (sidecar, _upstream) = cached().await;
    let _crowd = Crowd::at(sidecar.listen(), &[unread()]).await;
    let failed = probe(sidecar.listen(), DATASET, PROBES).await;
    assert!(failed.is_empty(), "{} of {PROBES} requests failed: {failed:?}", failed.len());
}

/// A sidecar with one dataset of 8 MiB: more than the kernel buffers for a client that does not
/// read.
async fn over_much() -> (Sidecar, Upstream) {
    let upstream = Upstream::plain().await;
    upstream.answers("/part", [Reply::json(format!("\"{}\"", "x".repeat(8 * 1024 * 1024)))]);
    let domain =
        DomainFile::of("customer").source("part", &upstream, "/part", &["max_body: 16MiB"]);
    (Setup::of(&[&domain]).insecure().start().await, upstream)
}

#[tokio::test]
async fn an_answer_that_is_not_read_ends_its_connection_in_time() {
    let (sidecar, _upstream) = over_much().await;
    let mut one = TcpStream::connect(sidecar.listen()).await.unwrap();
    one.write_all(wire::get(DATASET, "").as_bytes()).await.unwrap();
    let mut two = TcpStream::connect(sidecar.listen()).await.unwrap();
    two.write_all(&unread().opening).await.unwrap();
    let both = async { while sidecar.metric("bfb_slow_readers_total", &[]).await < Some(2.0) {} };
    assert!(
        tokio::time::timeout(TEST_TIMEOUT, both).await.is_ok(),
        "who does not read was never cut off"
    );
    ended(one).await;
    ended(two).await;
}

/// Streams times connections: each may hold little, and all together are bounded, with great heads
/// as well as with answers of which the first byte is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_with_great_heads_and_unread_answers_hold_little() {
    // Literals without indexing: `x: yyy…` of 120 bytes each.
    let field = [&[0, 1, b'x', 120][..], &[b'y'; 120]].concat();
    for (fields, window) in [(50, 0), (0, 1)] {
        let (sidecar, _upstream) = over_one().await;
        let memory = super::Memory::of(&sidecar);
        let block = [frames::get(DATASET), field.repeat(fields)].concat();
        let mut bytes = frames::opening_with(&[(frames::SETTINGS_INITIAL_WINDOW_SIZE, window)]);
        for stream in 0..128 {
            bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 2 * stream + 1, &block));
        }
        let mut held = Vec::new();
        for _ in 0..400 {
            let mut stream = super::consumers::connected(sidecar.listen()).await;
            // The connection may be cut off meanwhile.
            let _ = tokio::time::timeout(Duration::from_secs(5), stream.write_all(&bytes)).await;
            held.push(stream);
        }
        let failed = probe(sidecar.listen(), "/openapi.json", PROBES).await;
        memory.grew_by_less_than(UNREAD_GROWTH_MAX_KIB, &sidecar);
        assert!(failed.is_empty(), "{failed:?}");
        let refused = sidecar.metric("bfb_request_bytes_refused_total", &[]).await;
        let ended = sidecar.metric("bfb_request_bytes_evicted_total", &[]).await;
        assert!(refused > Some(0.0) || ended > Some(0.0), "it was never too much");
        drop(held);
        let served = async { while sidecar.get(DATASET).await.status != 200 {} };
        assert!(tokio::time::timeout(TEST_TIMEOUT, served).await.is_ok());
        let post = ask(Method::POST, DATASET);
        sidecar.send(post).await.problem("method-not-allowed", 405);
    }
}

/// The growth that 51 200 unread answers may cause: without a bound on open streams 220 to 500 MiB.
const UNREAD_GROWTH_MAX_KIB: u64 = 128 * 1024;

/// The body of a refusal could be held for ever where the peer gives no credit for it: over HTTP/2
/// it has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_refused_ends_with_the_head_of_its_answer() {
    let (sidecar, _upstream) = over_one().await;
    let field = [&[0, 1, b'x', 120][..], &[b'y'; 120]].concat();
    let block = [frames::get(DATASET), field.repeat(90)].concat();
    let mut bytes = frames::opening_with(&[(frames::SETTINGS_INITIAL_WINDOW_SIZE, 0)]);
    for stream in 0..100 {
        bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 2 * stream + 1, &block));
    }
    let refused = async {
        // If it takes longer than half a second to send too many requests, connections that do not
        // read are cut off, and none is refused.
        loop {
            let asking = (0..40).map(|_| async {
                let mut stream = super::consumers::connected(sidecar.listen()).await;
                // A connection that is refused or slowed down cannot send all, and is answered all
                // the same.
                let (read, mut write) = stream.split();
                let write = tokio::time::timeout(Duration::from_secs(5), write.write_all(&bytes));
                let (ended, _) = tokio::join!(ends_a_stream(read), write);
                ended
            });
            let ended = futures_util::future::join_all(asking).await;
            let refused: Vec<_> = ended.into_iter().flatten().collect();
            if !refused.is_empty() {
                return refused;
            }
        }
    };
    let refused = tokio::time::timeout(TEST_TIMEOUT, refused).await.expect("nobody was refused");
    // The first header of a connection is a literal that goes into the dynamic table (RFC 7541
    // section 6.2.1), name 8 of the static one, and `503` in Huffman codes.
    let is_503 = |block: &Vec<u8>| block.starts_with(&[0x48, 0x83, 0x6c, 0x0c, 0xff]);
    assert!(refused.iter().any(is_503), "{refused:x?}");
}

/// The header block of the next answer that ends its stream at once, among those that arrive within
/// a second.
async fn ends_a_stream(mut stream: impl AsyncRead + Unpin) -> Option<Vec<u8>> {
    let next = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.ok()?;
            if head[3] == HEADERS && head[4] & END_STREAM != 0 {
                return Some(payload);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(1), next).await.ok().flatten()
}
