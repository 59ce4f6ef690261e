//! Whatever a database sends, the sidecar stays within its bounds: rows by the megabyte, and a
//! server that only speaks the protocol to do harm.

use std::net::SocketAddr;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::client::{ClientResponse, HttpVersion};
use crate::support::domain::DomainFile;
use crate::support::pki::Pki;
use crate::support::postgres::{CERTIFIED, Postgres};
use crate::support::sidecar::Setup;

#[tokio::test]
async fn large_rows_wait_for_memory() {
    let pki = Pki::new();
    let server = Postgres::start(&pki).await;
    let url = format!("postgres://{CERTIFIED}@{}/postgres", server.addr());
    let query = "select repeat('x', 3000000) as x where {key} <> '0'";
    let domain = DomainFile::of("customer").postgres("a", &url, query, &["rows: one"]);
    let sidecar = Setup::of(&[&domain]).identity(&pki).args(&["--memory-limit", "64MiB"]);
    let sidecar = sidecar.start().await;
    sidecar.get("/v2/customers/0").await.failed_sources("source-failed", 502);
    let idle = sidecar.resident_kib();
    let consumers: Vec<_> = (0..48).map(|_| sidecar.consumer(HttpVersion::Http1)).collect();
    let answers = join_all(consumers.into_iter().enumerate().map(async |(key, mut consumer)| {
        consumer.get(&format!("/v2/customers/{}", key + 1)).await.unwrap()
    }))
    .await;
    let is_honest = |got: &ClientResponse| match got.status {
        200 => got.body.len() > 3_000_000,
        503 => got.problem("overloaded", 503).is_object(),
        _ => false,
    };
    for got in &answers {
        assert!(is_honest(got), "{} {:.300}", got.status, got.text());
    }
    assert!(answers.iter().any(|got| got.status == 200));
    // All at once would be 144 MiB in the driver alone, and twice as much in parts and datasets.
    let grown = sidecar.peak_resident_kib() - idle;
    assert!(grown < 160 * 1024, "{grown} KiB beyond {idle} KiB");
    let waits = sidecar.metric("bfb_memory_waits_total", &[]).await;
    assert!(waits > Some(0.0), "nothing had to wait: the test proves nothing");
}

/// A server that answers each connection with these messages, once it has been asked to begin.
async fn hostile_server(startup: Vec<u8>, answer: Vec<u8>, endless: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(speak(stream, startup.clone(), answer.clone(), endless));
        }
    });
    addr
}

async fn speak(
    mut stream: TcpStream,
    startup: Vec<u8>,
    answer: Vec<u8>,
    endless: bool,
) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    let _ = stream.read(&mut buffer).await?;
    stream.write_all(&startup).await?;
    let _ = stream.read(&mut buffer).await?;
    loop {
        stream.write_all(&answer).await?;
        if !endless {
            // Whatever is sent now is read, and not answered.
            while stream.read(&mut buffer).await? > 0 {}
            return Ok(());
        }
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind], &length[..], body].concat()
}

/// `AuthenticationOk` and `ReadyForQuery`.
fn welcome() -> Vec<u8> {
    [message(b'R', &[0; 4]), message(b'Z', b"I")].concat()
}

#[tokio::test]
async fn a_server_that_means_harm_is_given_up() {
    let notice = message(b'N', &[b"SNOTICE\0C00000\0M".as_slice(), &[b'x'; 900], b"\0\0"].concat());
    let parameter = message(b'S', b"a\0b\0");
    let row = message(b'D', &[&[0, 1, 0, 0, 0, 2][..], b"{}"].concat());
    let scram = message(b'R', b"\0\0\0\nSCRAM-SHA-256\0\0");
    let sasl = message(b'R', b"\0\0\0\x0br=x,s=c2FsdA==,i=4000000000");
    let huge = [b'D', 0x3f, 0xff, 0xff, 0xff].to_vec();
    for (name, startup, answer, endless) in [
        ("notices without end", welcome(), notice, true),
        ("parameters without end", welcome(), parameter.clone(), true),
        ("parameters before it is ready", parameter.repeat(100), parameter, true),
        ("rows that nobody asked for", welcome(), row, true),
        ("a row of a gigabyte", welcome(), huge, false),
        ("work without end for a password", scram, sasl, false),
        ("a length that is none", welcome(), vec![b'D', 0, 0, 0, 1], false),
        ("what is no message", welcome(), vec![0xff; 4096], false),
        ("nothing at all", vec![], vec![], false),
        ("HTTP", b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![], false),
    ] {
        let addr = hostile_server(startup, answer, endless).await;
        let url = format!("postgres://u:p@{addr}/x?sslmode=disable");
        let domain = DomainFile::of("customer").postgres(
            "a",
            &url,
            "select {key} as k",
            &["retries: 0", "timeout: 3s"],
        );
        let sidecar = Setup::of(&[&domain]).insecure().start().await;
        let before = sidecar.resident_kib();
        for _ in 0..5 {
            let got = sidecar.get("/v2/customers/1").await;
            assert!((502..=504).contains(&got.status), "{name}: {got:?}");
        }
        let grown = sidecar.peak_resident_kib() - before;
        assert!(grown < 64 * 1024, "{name}: {grown} KiB");
        assert!(sidecar.cpu_time().as_secs() < 10, "{name}: {:?}", sidecar.cpu_time());
    }
}
