//! Endless bytes of an upstream that are no answer: the work for one request is bounded, by
//! counting.

use tokio::task::JoinSet;

use super::Memory;
use crate::support::client::HttpVersion;
use crate::support::domain::{DomainFile, mutual, mutual_http2};
use crate::support::flood::{
    CONTINUATION, DATA, EARLY_HINTS, END_HEADERS, END_STREAM, Flood, GOAWAY, HEADERS, JSON, PING,
    PRIORITY, RST_STREAM, SETTINGS, Script, WINDOW_UPDATE, frame,
};
use crate::support::pki::Pki;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// More than an upstream may send on one connection: the bound itself, and the buffers of kernels.
const SENT_MAX: u64 = 4 * 1024 * 1024;

const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A sidecar over `part`, which will be a flood, and `well`, which is not; and the domain `other`
/// over `well` alone.
async fn over(flood: &Flood, pki: &Pki, lines: &[&str]) -> (Sidecar, Upstream) {
    let well = Upstream::plain().await;
    well.answers("/well", [Reply::json("\"well\"")]);
    let domain = DomainFile::of("customer").source_at("part", &flood.url("/part"), lines);
    let other = DomainFile::of("other").source("well", &well, "/well", &[]);
    (Setup::of(&[&domain, &other]).insecure().identity(pki).start().await, well)
}

/// Asserts that a request to `flood` is given up for `reason` after bounded work and not sent
/// again, that its connection ends, and that others are served meanwhile. Returns the number of
/// counted floods.
async fn ends(name: &str, flood: Flood, pki: &Pki, reason: &str) -> Option<f64> {
    let (sidecar, _well) = over(&flood, pki, &["timeout: 25s"]).await;
    let memory = Memory::of(&sidecar);
    let mut consumer = sidecar.consumer(HttpVersion::Http1);
    let mut flooded = JoinSet::new();
    flooded.spawn(async move { consumer.get("/v2/customers/42").await.unwrap() });
    for key in 0..20 {
        sidecar.get(&format!("/v2/others/{key}")).await.dataset();
    }
    let got = flooded.join_next().await.unwrap().unwrap();
    assert_eq!(
        got.failed_sources("source-failed", 502),
        [("part".to_owned(), reason.to_owned())],
        "{name}: {got:?}"
    );
    flood.ended(1).await;
    assert!(flood.sent() < SENT_MAX, "{name}: {} bytes were taken", flood.sent());
    memory.is_bounded(&sidecar);
    sidecar.metric("bfb_source_floods_total", &[("source", "part")]).await
}

/// The same, ended by the sidecar's own bound, which a metric counts.
async fn is_given_up(name: &str, flood: Flood, pki: &Pki) {
    assert!(ends(name, flood, pki, "incomplete").await > Some(0.0), "{name}");
}

#[tokio::test]
async fn informational_responses_without_end_are_given_up() {
    let pki = Pki::new();
    let crumb = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    is_given_up("HTTP/1.1", Flood::plain(Script::new("", crumb)), &pki).await;
    is_given_up("TLS", Flood::tls(&pki, Script::new("", crumb)), &pki).await;
    let crumb = frame(HEADERS, END_HEADERS, 1, EARLY_HINTS);
    is_given_up("HTTP/2", Flood::http2(&pki, Script::new("", crumb)), &pki).await;
    // Each byte after the status encodes a header of 60 bytes (`accept-encoding: gzip, deflate`).
    let crumb = frame(HEADERS, END_HEADERS, 1, &[EARLY_HINTS, &[0x90; 2_000]].concat());
    is_given_up("HTTP/2, many headers", Flood::http2(&pki, Script::new("", crumb)), &pki).await;
}

#[tokio::test]
async fn a_body_in_crumbs_is_given_up() {
    let pki = Pki::new();
    let redirect = "HTTP/1.1 302 Found\r\nLocation: /b\r\nTransfer-Encoding: chunked\r\n\r\n";
    ends("unwanted", Flood::plain(Script::new(redirect, "1\r\n \r\n")), &pki, "incomplete").await;
    is_given_up("chunks", Flood::plain(Script::new(CHUNKED, "1\r\n \r\n")), &pki).await;
    is_given_up("chunks over TLS", Flood::tls(&pki, Script::new(CHUNKED, "1\r\n \r\n")), &pki)
        .await;
    let head = frame(HEADERS, END_HEADERS, 1, JSON);
    let data = |payload| Script::new(head.clone(), frame(DATA, 0, 1, payload));
    is_given_up("frames", Flood::http2(&pki, data(b" ")), &pki).await;
    is_given_up("empty frames", Flood::http2(&pki, data(b"")), &pki).await;
}

#[tokio::test]
async fn a_body_in_tls_records_of_a_byte_is_given_up() {
    let pki = Pki::new();
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000000\r\n\r\n";
    is_given_up("records", Flood::tls(&pki, Script::new(head, " ").apart()), &pki).await;
    is_given_up("key updates", Flood::tls(&pki, Script::new(head, " ").rekeyed()), &pki).await;
}

#[tokio::test]
async fn trailers_and_chunk_extensions_without_end_are_given_up() {
    let pki = Pki::new();
    ends(
        "trailers",
        Flood::plain(Script::new(format!("{CHUNKED}0\r\n"), "X: y\r\n")),
        &pki,
        "incomplete",
    )
    .await;
    let extensions = Script::new(CHUNKED, "1;a=0123456789abcdef0123456789abcdef\r\n \r\n");
    ends("extensions", Flood::plain(extensions), &pki, "incomplete").await;
    ends("extension", Flood::plain(Script::new(format!("{CHUNKED}1;"), "a")), &pki, "incomplete")
        .await;
}

/// Frames that are allowed at any moment and carry no part of an answer.
fn idle_frames() -> [(&'static str, Vec<u8>); 7] {
    [
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("acknowledged PING", frame(PING, 1, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, b"")),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 15])),
        ("GOAWAY", frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])),
        ("unknown", frame(0x42, 0, 0, b"")),
    ]
}

#[tokio::test]
async fn frames_that_are_no_answer_are_given_up() {
    let pki = Pki::new();
    for (name, crumb) in idle_frames() {
        is_given_up(name, Flood::http2(&pki, Script::new("", crumb)), &pki).await;
    }
}

#[tokio::test]
async fn a_header_block_without_end_is_given_up() {
    let pki = Pki::new();
    let script = Script::new(frame(HEADERS, 0, 1, JSON), frame(CONTINUATION, 0, 1, b""));
    ends("CONTINUATION", Flood::http2(&pki, script), &pki, "status").await;
}

#[tokio::test]
async fn an_idle_connection_on_which_a_server_sends_for_ever_ends() {
    let pki = Pki::new();
    let answer = [frame(HEADERS, END_HEADERS, 1, JSON), frame(DATA, END_STREAM, 1, b"1")].concat();
    let crumbs = idle_frames().into_iter().chain([
        ("DATA of an answered stream", frame(DATA, 0, 1, b" ")),
        ("103 of an answered stream", frame(HEADERS, END_HEADERS, 1, EARLY_HINTS)),
        ("RST_STREAM of an answered stream", frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])),
    ]);
    let floods = crumbs.map(|(name, crumb)| {
        (name, Flood::http2(&pki, Script::new(answer.clone(), crumb).when_told()))
    });
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n1";
    let plain = Flood::plain(Script::new(answer, "HTTP/1.1 103 Early Hints\r\n\r\n").when_told());
    for (name, flood) in floods.chain([("HTTP/1.1", plain)]) {
        let (sidecar, _well) = over(&flood, &pki, &[]).await;
        sidecar.get("/v2/customers/42").await.dataset();
        flood.begin();
        flood.ended(1).await;
        assert!(flood.sent() < SENT_MAX, "{name}: {} bytes were taken", flood.sent());
    }
}

#[tokio::test]
async fn a_stream_that_was_given_up_and_goes_on_ends_its_connection() {
    let pki = Pki::new();
    let crumbs = [
        ("DATA", frame(DATA, 0, 1, b" ")),
        ("empty DATA", frame(DATA, 0, 1, b"")),
        ("103", frame(HEADERS, END_HEADERS, 1, EARLY_HINTS)),
        ("RST_STREAM", frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
    ];
    for (name, crumb) in crumbs {
        let flood = Flood::http2(&pki, Script::new("", crumb).after_reset());
        let (sidecar, _well) = over(&flood, &pki, &["timeout: 300ms", "retries: 0"]).await;
        let got = sidecar.get("/v2/customers/42").await;
        assert_eq!(
            got.failed_sources("source-failed", 502),
            [("part".to_owned(), "timeout".to_owned())],
            "{name}: {got:?}"
        );
        flood.ended(1).await;
        assert!(flood.sent() < SENT_MAX, "{name}: {} bytes were taken", flood.sent());
    }
}

#[tokio::test]
async fn a_body_of_some_thousand_small_pieces_is_a_part() {
    let (quote, body) = ("1\r\n\"\r\n", "1\r\n1\r\n".repeat(5_000));
    let upstream = Upstream::raw(format!("{CHUNKED}{quote}{body}{quote}0\r\n\r\n")).await;
    let domain = DomainFile::of("customer").source("part", &upstream, "/part", &[]);
    let sidecar = Setup::of(&[&domain]).insecure().start().await;
    let got = sidecar.get("/v2/customers/42").await;
    got.dataset();
    assert!(got.text().contains(&"1".repeat(5_000)), "{got:?}");
}

#[tokio::test]
async fn answers_pay_for_their_connection_for_as_long_as_it_lives() {
    let pki = Pki::new();
    for upstream in [mutual_http2(&pki).await, mutual(&pki).await] {
        upstream.answers("/part", [Reply::json("1")]);
        // With one request at a time a connection may cost little over 4 MiB more than the credit
        // of its answers, and each answer costs some KiB.
        let domain =
            DomainFile::of("customer").source("part", &upstream, "/part", &["concurrency: 1"]);
        let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
        let mut consumer = sidecar.consumer(HttpVersion::Http1);
        for key in 0..1_500 {
            consumer.get(&format!("/v2/customers/{key}")).await.unwrap().dataset();
        }
        assert_eq!(upstream.connections(), 1);
        assert_eq!(
            sidecar.metric("bfb_source_floods_total", &[("source", "part")]).await,
            Some(0.0)
        );
    }
}
