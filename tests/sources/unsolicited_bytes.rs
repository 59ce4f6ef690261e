//! Unsolicited bytes on a kept-alive HTTP/1.1 connection: they are never taken for an answer.

use std::net::SocketAddr;
use std::sync::Arc;

use bfb::sources::{Client, Reason, SourceAnswer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{TestRequest, default_request, fetch, fetch_error, known_part, part, setup, strong};

/// If the pool lends no connection twice in so many rounds, it keeps none.
const ROUNDS_MAX: usize = 200;

/// The number of the connection and of the request on it, both from 1.
#[derive(Debug, Clone, Copy)]
struct Place {
    connection: usize,
    request: usize,
}

/// A server that writes what a test gives it, byte for byte, and keeps its connections.
struct ScriptedServer {
    address: SocketAddr,
    requests: watch::Receiver<Vec<(usize, String)>>,
    server: JoinHandle<()>,
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl ScriptedServer {
    /// Answers each request, given its place and head, with these pieces, each written by itself.
    async fn start(answer: impl Fn(Place, &str) -> Vec<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = watch::channel(Vec::new());
        let answer = Arc::new(answer);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connection += 1;
                stream.set_nodelay(true).unwrap();
                connections.spawn(serve(stream, connection, Arc::clone(&answer), sender.clone()));
            }
        });
        Self { address, requests, server }
    }

    fn client(&self) -> Client {
        setup(format!("http://{}", self.address).parse().unwrap()).client()
    }

    /// The connections over which a target was requested.
    fn connections_of(&self, target: &str) -> Vec<usize> {
        let requests = self.requests.borrow();
        let of_target = requests.iter().filter(|(_, requested)| requested == target);
        of_target.map(|(connection, _)| *connection).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    answer: Arc<impl Fn(Place, &str) -> Vec<String> + Send + Sync + 'static>,
    requests: watch::Sender<Vec<(usize, String)>>,
) -> Option<()> {
    for request in 1.. {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let target = head.split(' ').nth(1).unwrap().to_owned();
        requests.send_modify(|all| all.push((connection, target)));
        for piece in answer(Place { connection, request }, &head) {
            stream.write_all(piece.as_bytes()).await.ok()?;
            tokio::task::yield_now().await;
        }
    }
    None
}

fn ok(json: &str) -> String {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\netag: \"a\"";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{json}", json.len())
}

/// Requests `/known` with its tag: the source answers with a 304 or a 204.
async fn confirm(client: &Client) {
    let known = known_part("1", strong("\"a\""));
    let answer = TestRequest { previous_part: Some(&known), ..default_request() }
        .of(client, "/known")
        .await
        .0;
    match answer {
        Ok(answer) => assert!(matches!(answer, SourceAnswer::Unchanged), "{answer:?}"),
        Err(failure) => assert_eq!(failure.reason, Reason::Incomplete, "{failure}"),
    }
}

/// The body arrives when the next request is already sent, and looks like an answer to it.
#[tokio::test]
async fn a_body_behind_a_304_or_a_204_is_not_the_answer_about_another_key() {
    let unasked = ok("\"of nobody\"");
    for head in [
        format!(
            "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: {}\r\n\r\n",
            unasked.len()
        ),
        format!("HTTP/1.1 204 No Content\r\ncontent-length: {}\r\n\r\n", unasked.len()),
        "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 304 X\r\ncontent-length: 7\r\n\r\n".to_owned(),
    ] {
        let late = unasked.clone();
        let server = ScriptedServer::start(move |place, head_of_request| {
            match (place.request, head_of_request.contains("/known")) {
                (_, true) => vec![head.clone()],
                (1, false) => vec![ok("\"right\"")],
                (_, false) => vec![late.clone(), ok("\"right\"")],
            }
        })
        .await;
        let client = server.client();
        for round in 0..3 {
            confirm(&client).await;
            let other = format!("/other/{round}");
            assert_eq!(part(fetch(&client, &other).await.unwrap()).json, "\"right\"");
            let before = server.connections_of("/known");
            let after = server.connections_of(&other);
            assert_eq!(after.len(), 1, "asked once");
            assert!(!before.contains(&after[0]), "its connection was used again");
        }
    }
}

#[tokio::test]
async fn a_304_that_announces_no_body_keeps_its_connection() {
    let server = ScriptedServer::start(|_, head| {
        if head.contains("/known") {
            vec!["HTTP/1.1 304 X\r\netag: \"a\"\r\ncontent-length: 0\r\n\r\n".to_owned()]
        } else {
            vec![ok("1")]
        }
    })
    .await;
    let client = server.client();
    // The pool may have opened another connection meanwhile, but not each time.
    for _ in 0..ROUNDS_MAX {
        confirm(&client).await;
        part(fetch(&client, "/other").await.unwrap());
        let confirmed = server.connections_of("/known");
        if server.connections_of("/other").iter().any(|connection| confirmed.contains(connection)) {
            return;
        }
    }
    panic!("no connection was used again");
}

/// As in varnish#1221 and okhttp#2310: 304s with a body, while others request other keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_304s_with_a_body_break_none_of_the_reads_beside_them() {
    let server = ScriptedServer::start(|_, head| {
        if head.contains("/known") {
            vec!["HTTP/1.1 304 X\r\ncontent-length: 7\r\n\r\n".to_owned(), "garbage".to_owned()]
        } else {
            vec![ok(&format!("\"{}\"", head.split(' ').nth(1).unwrap()))]
        }
    })
    .await;
    let client = Arc::new(server.client());
    let mut readers = JoinSet::new();
    for reader in 0..4 {
        let client = Arc::clone(&client);
        readers.spawn(async move {
            for round in 0..50 {
                confirm(&client).await;
                let target = format!("/{reader}/{round}");
                let json = part(fetch(&client, &target).await.unwrap()).json;
                assert_eq!(json, format!("\"{target}\""));
            }
        });
    }
    readers.join_all().await;
}

/// Garbage in front of every answer but a connection's first.
#[tokio::test]
async fn garbage_on_a_reused_connection_is_asked_again_on_a_fresh_one_free_of_the_budget() {
    let server = ScriptedServer::start(|place, _| match place.request {
        1 => vec![ok("1")],
        _ => vec!["garbage".to_owned(), ok("2")],
    })
    .await;
    let client = server.client();
    for round in 0..ROUNDS_MAX {
        let (answer, attempts) = default_request().of(&client, &format!("/{round}")).await;
        assert_eq!(part(answer.unwrap()).json, "1");
        assert!(attempts.len() <= 2, "{attempts:?}");
        // A request that found no idle connection got no garbage.
        if attempts.len() == 2 {
            assert_eq!(attempts[0].reason, Some(Reason::Status));
            return;
        }
    }
    panic!("no connection was used again");
}

#[tokio::test]
async fn a_source_that_sends_garbage_on_fresh_connections_too_is_asked_once_more_and_no_oftener() {
    for _ in 0..ROUNDS_MAX {
        let server = ScriptedServer::start(|place, _| match place {
            Place { connection: 1, request: 1 } => vec![ok("1")],
            _ => vec!["garbage\r\n\r\n".to_owned()],
        })
        .await;
        let client = server.client();
        part(fetch(&client, "/first").await.unwrap());
        let failure = fetch_error(&client, "/second").await;
        assert!(failure.detail.contains("no valid HTTP answer"), "{failure}");
        let connections = server.connections_of("/second");
        // An error on a fresh connection is final. The first request need not have used the other
        // one.
        if connections != [2] {
            assert_eq!(connections[0], 1);
            assert_eq!(connections.len(), 2, "{connections:?}");
            return;
        }
    }
    panic!("no connection was used again");
}

/// Servers send this over a connection that was idle for too long, and close it.
#[tokio::test]
async fn a_408_that_was_on_its_way_before_the_request_is_not_its_answer() {
    let timeout = "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let server = ScriptedServer::start(move |place, _| match place.request {
        1 => vec![ok("1")],
        _ => vec![timeout.to_owned()],
    })
    .await;
    let client = server.client();
    for round in 0..ROUNDS_MAX {
        let (answer, attempts) = default_request().of(&client, &format!("/{round}")).await;
        part(answer.unwrap());
        if attempts.len() == 2 {
            assert_eq!(attempts[0].status, Some(408));
            return;
        }
    }
    panic!("no connection was used again");
}

#[tokio::test]
async fn a_408_on_a_fresh_connection_is_the_answer() {
    let server = ScriptedServer::start(|_, _| {
        vec!["HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n".to_owned()]
    })
    .await;
    let (answer, attempts) = default_request().of(&server.client(), "/").await;
    assert_eq!((answer.unwrap_err().reason, attempts.len()), (Reason::Status, 1));
}
