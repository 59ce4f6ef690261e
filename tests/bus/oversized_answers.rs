//! A server that is no Redis, or a hostile one: whatever it answers, the connection ends before the
//! sidecar holds much of the answer. The test counts the bytes that the server could send until
//! then.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use bfb::bus::{BusConfig, BusMetrics, ClaimOutcome, Lookup, RedisFault, RedisNames};
use bfb::coherence::{DatasetPlace, Epoch, Fence, MemberName};
use prometheus_client::registry::Registry;

use super::support::{DOMAIN, LEASE, Member, patiently};

/// How many bytes a server tries to send in answer to one script.
const TRIED_BYTES: usize = 200_000_000;
/// How many of them it may send: the bound on a reply, and the buffers of both sockets (on Linux
/// `tcp_rmem` and `tcp_wmem` let them grow to 6 and 4 MiB, and a machine's settings may allow
/// more).
const SENT_BYTES_MAX: usize = 4 * 1024 * 1024 + 16 * 1024 * 1024;

/// A server that behaves well until it gets a script to run, or a request for the primary, and then
/// sends `first`, and `rest` over and over.
fn serve(first: &'static [u8], rest: &'static [u8]) -> (SocketAddr, mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (addr, (sent, counted)) = (listener.local_addr().unwrap(), mpsc::channel());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let sent = sent.clone();
            std::thread::spawn(move || {
                if greet(&mut stream).is_ok() && stream.write_all(first).is_ok() {
                    let _ = sent.send(first.len() + flood(&mut stream, rest));
                }
            });
        }
    });
    (addr, counted)
}

/// Answers requests until a script is to be run, or a primary to be named.
fn greet(stream: &mut TcpStream) -> std::io::Result<()> {
    let names = RedisNames::new("default", DOMAIN);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = stream.read(&mut buffer)?;
        let request = String::from_utf8_lossy(&buffer[..read]).into_owned();
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        } else if request.contains("EVAL") || request.contains("SENTINEL") {
            return Ok(());
        } else if request.contains("SUBSCRIBE") {
            for channel in [names.invalidations_channel(), names.hints_channel()] {
                write!(stream, ">3\r\n+subscribe\r\n${}\r\n{channel}\r\n:1\r\n", channel.len())?;
            }
        } else {
            stream.write_all(b"%1\r\n+server\r\n+redis\r\n")?;
        }
    }
}

/// The number of bytes that it sends before the other end closes the connection.
fn flood(stream: &mut TcpStream, rest: &[u8]) -> usize {
    let piece = rest.repeat((256 * 1024 / rest.len()).max(1));
    let mut sent = 0;
    while sent < TRIED_BYTES && stream.write_all(&piece).is_ok() {
        sent += piece.len();
    }
    sent
}

async fn ends(first: &'static [u8], rest: &'static [u8], cause: &str) {
    reached(|addr| format!("redis://{addr}"), first, rest, cause).await;
}

async fn reached(
    url: impl Fn(SocketAddr) -> String,
    first: &'static [u8],
    rest: &'static [u8],
    cause: &str,
) {
    let (addr, counted) = serve(first, rest);
    let mut registry = Registry::default();
    let settings = BusConfig::new(url(addr).parse().unwrap(), LEASE);
    let mut member = Member::counting(settings, BusMetrics::register(&mut registry));
    let sent = tokio::task::spawn_blocking(move || counted.recv().unwrap()).await.unwrap();
    assert!(sent < SENT_BYTES_MAX, "it could send {sent} bytes of what should be {cause}");
    let is_reported = |member: &Member| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let shown_fault =
            member.bus.status().fault.map(|fault| fault.to_string()).unwrap_or_default();
        text.contains("redis_faults_total{kind=\"outgrown\"}") && shown_fault.contains(cause)
    };
    member.until(cause, is_reported).await;
}

/// A server that behaves well, and answers each script with a dataset of so many bytes.
fn serve_datasets(bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let texts = ["hit", &"0".repeat(32), "7", "7", "60000", &"x".repeat(bytes)];
    let hit = texts.iter().fold(format!("*{}\r\n", texts.len()), |hit, text| {
        format!("{hit}${}\r\n{text}\r\n", text.len())
    });
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let hit = hit.clone();
            std::thread::spawn(move || {
                while greet(&mut stream).and_then(|()| stream.write_all(hit.as_bytes())).is_ok() {}
            });
        }
    });
    addr
}

#[tokio::test]
async fn a_dataset_of_more_bytes_than_were_asked_for_is_not_taken() {
    let addr = serve_datasets(100);
    let mut member =
        Member::begin(BusConfig::new(format!("redis://{addr}").parse().unwrap(), LEASE));
    member.until("be connected", |member| member.bus.status().connected).await;
    let place = DatasetPlace { key: "42".into(), plan: "p".into() };
    let holder = MemberName("ann".into());
    let fence = Fence { epoch: Epoch(0), seq: 7 };
    let fetch = async |most| patiently(|| member.domain.fetch(place.clone(), most)).await;
    let claim =
        async |most| patiently(|| member.domain.claim(&place, &holder, fence, LEASE, most)).await;
    assert!(matches!(fetch(100).await, Ok(Lookup::Hit(_))));
    assert_eq!(fetch(99).await, Err(RedisFault::Unreadable));
    assert!(matches!(claim(Some(100)).await, Ok(ClaimOutcome::AlreadyStored(_))));
    assert_eq!(claim(Some(99)).await, Err(RedisFault::Unreadable));
    assert_eq!(claim(None).await, Err(RedisFault::Unreadable), "none was asked for");
}

#[tokio::test]
async fn a_text_of_200_mb_is_not_read() {
    ends(b"$200000000\r\n", b"aaaaaaaaaaaaaaaa", "a reply of more than 4194304 bytes").await;
}

#[tokio::test]
async fn what_a_sentinel_sends_without_end_is_not_read_and_that_is_said() {
    let url = |addr| format!("redis-sentinel://{addr}/main");
    reached(url, b"$200000000\r\n", b"aaaaaaaaaaaaaaaa", "a reply of more than 4194304 bytes")
        .await;
}

#[tokio::test]
async fn an_array_with_a_huge_count_is_not_read() {
    ends(b"*50000000\r\n", b":1\r\n", "a reply of more than 100000 elements").await;
}

#[tokio::test]
async fn arrays_in_arrays_without_end_are_not_read() {
    ends(b"*1\r\n", b"*1\r\n", "nested more than 8 deep").await;
}

#[tokio::test]
async fn a_line_without_end_is_not_read() {
    ends(b"+", b"aaaaaaaaaaaaaaaa", "a line of more than 65536 bytes").await;
}

#[tokio::test]
async fn replies_that_nobody_asked_for_are_not_read() {
    ends(b"-ERR one\r\n", b"+OK\r\n", "a reply that nobody had asked for").await;
}

#[tokio::test]
async fn an_answer_in_another_protocol_is_not_read() {
    ends(b"HTTP/1.1 200 OK\r\n", b"aaaaaaaaaaaaaaaa", "something that is no reply").await;
}
