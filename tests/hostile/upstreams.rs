//! Attacks by a hostile upstream.

use std::fmt::Write as _;

use tokio::task::JoinSet;

use super::Memory;
use crate::support::client::HttpVersion;
use crate::support::domain::{DomainFile, mutual_http2};
use crate::support::pki::Pki;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// A sidecar over `part`, which will be hostile, and `well`, which is not; and the domain `other`
/// over `well` alone.
async fn over(hostile: &Upstream) -> (Sidecar, Upstream) {
    let well = Upstream::plain().await;
    well.answers("/well", [Reply::json("\"well\"")]);
    let lines = ["retries: 0", "max_body: 1MiB", "timeout: 10s"];
    let domain = DomainFile::of("customer")
        .source("well", &well, "/well", &[])
        .source("part", hostile, "/part", &lines);
    let other = DomainFile::of("other").source("well", &well, "/well", &[]);
    (Setup::of(&[&domain, &other]).insecure().start().await, well)
}

/// Asserts that `part` fails for `reason`, again and again at once, within bounded memory, and that
/// others are served on.
async fn is_refused(hostile: &Upstream, reason: &str) {
    let (sidecar, _well) = over(hostile).await;
    sidecar.get("/v2/others/1").await.dataset();
    let memory = Memory::of(&sidecar);
    let mut consumers = JoinSet::new();
    for _ in 0..16 {
        let mut consumer = sidecar.consumer(HttpVersion::Http1);
        consumers.spawn(async move { consumer.get("/v2/customers/42").await.unwrap() });
    }
    while let Some(got) = consumers.join_next().await {
        let got = got.unwrap();
        assert_eq!(
            got.failed_sources("source-failed", 502),
            [("part".to_owned(), reason.to_owned())],
            "{got:?}"
        );
        assert!(got.body.len() < 2_000, "{got:?}");
    }
    memory.is_bounded(&sidecar);
    sidecar.get("/v2/others/1").await.dataset();
}

async fn answering(reply: Reply) -> Upstream {
    let upstream = Upstream::plain().await;
    upstream.answers("/part", [reply]);
    upstream
}

#[tokio::test]
async fn a_body_that_never_ends_is_too_large() {
    is_refused(&answering(Reply::json("").endless()).await, "too-large").await;
}

#[tokio::test]
async fn a_body_of_100_mib_is_too_large() {
    is_refused(&answering(Reply::json(vec![b' '; 100 * 1024 * 1024])).await, "too-large").await;
}

#[tokio::test]
async fn a_length_of_petabytes_is_too_large_before_it_comes() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: \
                9000000000000000\r\n\r\n1";
    is_refused(&Upstream::raw(head).await, "too-large").await;
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_incomplete() {
    let answer =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n[1,2]";
    is_refused(&Upstream::raw(answer).await, "incomplete").await;
}

#[tokio::test]
async fn json_10_000_levels_deep_is_not_json() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        is_refused(&answering(Reply::json(deep)).await, "not-json").await;
    }
}

#[tokio::test]
async fn what_is_almost_json_is_not_json() {
    let almost: [&[u8]; 11] = [
        b"",
        b"   ",
        b"{\"a\":1,}",
        b"[1] x",
        b"NaN",
        b"{'a':1}",
        b"\xff\xfe[\x001\x00]\x00",
        b"\"\xff\"",
        b"[1,2",
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf\xef\xbb\xbf1",
    ];
    let upstream = answering(Reply::json("1")).await;
    let (sidecar, _well) = over(&upstream).await;
    for body in almost {
        upstream.answers("/part", [Reply::json(body)]);
        let got = sidecar.get("/v2/customers/42").await;
        let text = String::from_utf8_lossy(body);
        assert_eq!(
            got.failed_sources("source-failed", 502),
            [("part".to_owned(), "not-json".to_owned())],
            "{text}: {got:?}"
        );
    }
}

#[tokio::test]
async fn a_compressed_body_is_not_json_and_is_not_unpacked() {
    // A megabyte of zeros in 1 KiB of gzip would do as well: the sidecar decompresses no answer.
    let bomb: Vec<u8> = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 0xff]
        .into_iter()
        .chain([0xed, 0xc1].repeat(4_000))
        .collect();
    for coding in ["gzip", "br", "zstd", "deflate", "gzip, gzip"] {
        is_refused(
            &answering(Reply::json(bomb.clone()).header("content-encoding", coding)).await,
            "not-json",
        )
        .await;
    }
    is_refused(&answering(Reply::json(bomb)).await, "not-json").await;
}

#[tokio::test]
async fn headers_without_end_are_too_large() {
    let mut many = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n".to_owned();
    for number in 0..20_000 {
        write!(many, "X-{number}: {number}\r\n").unwrap();
    }
    let one = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(4 * 1024 * 1024));
    for bomb in [many + "\r\n", one] {
        is_refused(&Upstream::raw(bomb).await, "too-large").await;
    }
}

#[tokio::test]
async fn what_is_no_http_is_status() {
    let nonsense = [
        "",
        "\r\n\r\n",
        "220 mail.example ESMTP\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n1",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ];
    for answer in nonsense {
        let upstream = Upstream::raw(answer).await;
        let (sidecar, _well) = over(&upstream).await;
        let got = sidecar.get("/v2/customers/42").await;
        let failed = got.failed_sources("source-failed", 502);
        assert_eq!(failed, [("part".to_owned(), "status".to_owned())], "{answer:?}: {got:?}");
    }
}

#[tokio::test]
async fn a_body_that_stops_is_timeout_and_gives_its_slot_back() {
    let upstream = answering(Reply::json("[1,").stuck()).await;
    let well = Upstream::plain().await;
    well.answers("/well", [Reply::json("\"well\"")]);
    let lines = ["retries: 0", "timeout: 2s", "concurrency: 2"];
    let domain = DomainFile::of("customer").source("part", &upstream, "/part", &lines);
    let sidecar = Setup::of(&[&domain]).insecure().start().await;
    for _ in 0..3 {
        let got = sidecar.get("/v2/customers/42").await;
        assert_eq!(
            got.failed_sources("source-failed", 502),
            [("part".to_owned(), "timeout".to_owned())],
            "{got:?}"
        );
    }
    upstream.answers("/part", [Reply::json("1")]);
    sidecar.get("/v2/customers/42").await.dataset();
    assert_eq!(sidecar.metric("bfb_source_inflight", &[("source", "part")]).await, Some(0.0));
}

#[tokio::test]
async fn the_same_bounds_hold_over_http_2() {
    let pki = Pki::new();
    let cases = [
        (Reply::json("").endless(), "too-large"),
        (Reply::json("1").header("x-bomb", &"x".repeat(64 * 1024)), "too-large"),
        (Reply::json("[1,2").cut(), "incomplete"),
        (Reply::json("[1,2]").cut(), "incomplete"),
        (Reply::json("[1,2").stuck(), "timeout"),
        (Reply::json("[".repeat(10_000)), "not-json"),
    ];
    for (reply, reason) in cases {
        let upstream = mutual_http2(&pki).await;
        upstream.answers("/part", [reply]);
        let timeout = if reason == "timeout" { "timeout: 2s" } else { "timeout: 30s" };
        let lines = ["retries: 0", "max_body: 1MiB", timeout];
        let domain = DomainFile::of("customer").source("part", &upstream, "/part", &lines);
        let sidecar = Setup::of(&[&domain]).identity(&pki).start().await;
        let memory = Memory::of(&sidecar);
        let got = sidecar.get("/v2/customers/42").await;
        assert_eq!(
            got.failed_sources("source-failed", 502),
            [("part".to_owned(), reason.to_owned())],
            "{got:?}"
        );
        memory.is_bounded(&sidecar);
        upstream.answers("/part", [Reply::json("1")]);
        sidecar.get("/v2/customers/42").await.dataset();
    }
}
