//! A request that an HTTP/2 server refuses without processing it (GOAWAY, `REFUSED_STREAM`) is sent
//! again; and a server that closes a TLS 1.3 connection before any byte of HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use bfb::sources::{Client, Reason, SourcesMetrics};
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::mutual::World;
use super::{Setup, default_request, fetch, fetch_error, part, setup};
use crate::support::flood::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, JSON, RST_STREAM, SETTINGS, frame,
};
use crate::support::frames::PREFACE;

const REFUSED_STREAM: u32 = 7;
const NO_ERROR: u32 = 0;
const SETTINGS_MAX_CONCURRENT_STREAMS: u16 = 3;
const SETTINGS_ACK: u8 = 1;

/// The server's reaction to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    Answer,
    /// Once the gate is open: GOAWAY that names this stream as the last, and the answer.
    AnswerAsTheLast,
    /// `RST_STREAM` with `REFUSED_STREAM`.
    Refuse,
    /// GOAWAY that names the stream before this one as the last that is processed.
    GoAwayBefore,
    /// GOAWAY that names this stream, and the connection's end without an answer.
    GoAwayBehind,
}

/// A server of HTTP/2 frames over mutual TLS.
struct FrameServer {
    address: SocketAddr,
    requests: watch::Receiver<usize>,
    gate: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Drop for FrameServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FrameServer {
    /// `react` gets the request's number on its connection and over all of them, from 1.
    async fn start(
        world: &World,
        react: impl Fn(usize, usize) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        Self::with_settings(world, &[], react).await
    }

    /// The same with settings: (identifier, value).
    async fn with_settings(
        world: &World,
        settings: &[(u16, u32)],
        react: impl Fn(usize, usize) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let settings = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        let settings = frame(SETTINGS, 0, 0, &settings.collect::<Vec<_>>());
        let tls = TlsAcceptor::from(world.server(&["h2"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (count, requests) = watch::channel(0);
        let (gate, gate_read) = watch::channel(false);
        let react = Arc::new(react);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let tls = tls.clone();
                let settings = settings.clone();
                let react = Arc::clone(&react);
                let count = count.clone();
                let gate = gate_read.clone();
                connections.spawn(async move {
                    serve(stream, tls, settings, &*react, (count, gate)).await
                });
            }
        });
        Self { address, requests, gate, server }
    }

    fn setup(&self, world: &World) -> Setup {
        let origin = format!("https://localhost:{}", self.address.port());
        let mut setup = setup(origin.parse().unwrap());
        setup.shared.identity = Some(world.identity());
        setup
    }

    fn requests(&self) -> usize {
        *self.requests.borrow()
    }
}

async fn serve(
    stream: TcpStream,
    tls: TlsAcceptor,
    settings: Vec<u8>,
    react: &(impl Fn(usize, usize) -> Reaction + Sync),
    (count, mut gate): (watch::Sender<usize>, watch::Receiver<bool>),
) -> Option<()> {
    let mut stream = tls.accept(stream).await.ok()?;
    stream.read_exact(&mut [0; PREFACE.len()]).await.ok()?;
    let opening = [settings, frame(SETTINGS, SETTINGS_ACK, 0, b"")].concat();
    stream.write_all(&opening).await.ok()?;
    stream.flush().await.ok()?;
    let mut on_connection = 0;
    let mut last = 0;
    let mut goes_away = false;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await.ok()?;
        if head[3] != HEADERS || goes_away {
            continue;
        }
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        on_connection += 1;
        let mut in_all = 0;
        count.send_modify(|count| {
            *count += 1;
            in_all = *count;
        });
        let reaction = react(on_connection, in_all);
        let answer =
            [frame(HEADERS, END_HEADERS, id, JSON), frame(DATA, END_STREAM, id, b"1")].concat();
        let bytes = match reaction {
            Reaction::Answer => {
                last = id;
                answer
            }
            Reaction::AnswerAsTheLast => {
                gate.wait_for(|open| *open).await.ok()?;
                [go_away(id), answer].concat()
            }
            Reaction::Refuse => frame(RST_STREAM, 0, id, &REFUSED_STREAM.to_be_bytes()),
            Reaction::GoAwayBefore => go_away(last),
            Reaction::GoAwayBehind => go_away(id),
        };
        stream.write_all(&bytes).await.ok()?;
        stream.flush().await.ok()?;
        goes_away = reaction == Reaction::GoAwayBefore;
        if reaction == Reaction::GoAwayBehind {
            return stream.shutdown().await.ok();
        }
    }
}

fn go_away(last: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), NO_ERROR.to_be_bytes()].concat())
}

/// So many readers at once, each with so many requests one after the other, all of which are
/// answered.
async fn read_side_by_side(client: &Arc<Client>, readers: usize, each: usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..readers {
        let client = Arc::clone(client);
        tasks.spawn(async move {
            for _ in 0..each {
                part(fetch(&client, "/").await.unwrap());
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_above_the_last_of_a_goaway_are_sent_again_without_spending_a_retry() {
    for on_each_connection in [10, 4] {
        let world = World::new();
        let reaction = move |on_connection, _| {
            if on_connection <= on_each_connection {
                Reaction::Answer
            } else {
                Reaction::GoAwayBefore
            }
        };
        let server = FrameServer::start(&world, reaction).await;
        let client = Arc::new(server.setup(&world).client());
        read_side_by_side(&client, 8, 100).await;
        assert!(server.requests() > 800, "some were refused");
    }
}

#[tokio::test]
async fn a_request_that_waits_for_a_stream_when_a_goaway_comes_is_not_lost() {
    let world = World::new();
    let one_at_a_time = [(SETTINGS_MAX_CONCURRENT_STREAMS, 1)];
    let reaction =
        |_, in_all| if in_all == 2 { Reaction::AnswerAsTheLast } else { Reaction::Answer };
    let server = FrameServer::with_settings(&world, &one_at_a_time, reaction).await;
    let client = server.setup(&world).client();
    // After one answer the client has the server's settings.
    part(fetch(&client, "/").await.unwrap());
    let waits = async {
        server.requests.clone().wait_for(|count| *count == 2).await.unwrap();
        let opened = async {
            while client.state().inflight < 2 {
                tokio::task::yield_now().await;
            }
            // The request is handed to its connection meanwhile.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            server.gate.send_replace(true);
        };
        let (answer, ()) = tokio::join!(fetch(&client, "/"), opened);
        part(answer.unwrap());
    };
    let (first, ()) = tokio::join!(fetch(&client, "/"), waits);
    part(first.unwrap());
    assert_eq!(server.requests(), 3);
}

/// With one stream at a time the other requests wait for theirs when the GOAWAY comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_wait_for_a_stream_when_a_goaway_comes_are_sent_on_the_next_connection() {
    let world = World::new();
    let one_at_a_time = [(SETTINGS_MAX_CONCURRENT_STREAMS, 1)];
    let reaction = |on_connection, _| match on_connection {
        1..=6 => Reaction::Answer,
        _ => Reaction::GoAwayBefore,
    };
    let server = FrameServer::with_settings(&world, &one_at_a_time, reaction).await;
    let client = Arc::new(server.setup(&world).client());
    read_side_by_side(&client, 4, 30).await;
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_without_spending_a_retry() {
    let world = World::new();
    let refused = |_, in_all| if in_all <= 3 { Reaction::Refuse } else { Reaction::Answer };
    let server = FrameServer::start(&world, refused).await;
    let mut registry = Registry::with_prefix("bfb");
    let mut setup = server.setup(&world);
    setup.shared.metrics = SourcesMetrics::register(&mut registry);
    let (answer, attempts) = default_request().of(&setup.client(), "/").await;
    part(answer.unwrap());
    assert_eq!((attempts.len(), server.requests()), (4, 4));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "bfb_source_resends_total{source=\"orders\"} 3",
        "bfb_source_retries_total{source=\"orders\"} 0",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_every_stream_is_asked_four_times_and_counts_as_ill() {
    let world = World::new();
    let server = FrameServer::start(&world, |_, _| Reaction::Refuse).await;
    let client = server.setup(&world).client();
    let failure = fetch_error(&client, "/").await;
    assert_eq!((failure.reason, failure.retry, server.requests()), (Reason::Status, true, 4));
    assert!(failure.detail.contains("REFUSED_STREAM"), "{failure}");
    for _ in 1..20 {
        fetch_error(&client, "/").await;
    }
    assert_eq!(fetch_error(&client, "/").await.reason, Reason::BreakerOpen);
}

#[tokio::test]
async fn a_stream_that_a_goaway_says_was_looked_at_is_not_sent_again() {
    let world = World::new();
    let server = FrameServer::start(&world, |_, _| Reaction::GoAwayBehind).await;
    let failure = fetch_error(&server.setup(&world).client(), "/").await;
    assert_eq!((failure.reason, server.requests()), (Reason::Status, 1), "{failure}");
}

/// Accepts handshakes, and closes each connection: in order, or with unread bytes.
async fn close_after_handshake(tls: Arc<ServerConfig>, in_order: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = TlsAcceptor::from(tls);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = tls.accept(stream).await else { continue };
            if in_order {
                let _ = stream.shutdown().await;
                // Waits until the client has closed too.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        }
    });
    address
}

#[tokio::test]
async fn a_server_that_closes_behind_a_tls_1_3_handshake_is_a_tls_failure_that_says_what_it_may_be()
{
    let world = World::new();
    for (alpn, in_order) in [("h2", true), ("h2", false), ("http/1.1", true), ("http/1.1", false)] {
        let address = close_after_handshake(world.server(&[alpn]), in_order).await;
        let origin = format!("https://localhost:{}", address.port());
        let mut setup = setup(origin.parse().unwrap()).with(|source| source.retries = 1);
        setup.shared.identity = Some(world.identity());
        let (answer, attempts) = default_request().of(&setup.client(), "/").await;
        let failure = answer.unwrap_err();
        assert_eq!(
            (failure.reason, attempts.len()),
            (Reason::Tls, 2),
            "{alpn} {in_order}: {failure}"
        );
        assert!(failure.detail.contains("does not accept our certificate"), "{failure}");
    }
}
