//! The fault injector itself: the effects of [`Link`] on two real sockets.

use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::link::{Cut, Direction, Link, LinkSpeed};

/// How long a test watches that an event does not happen.
const A_MOMENT: Duration = Duration::from_millis(50);

/// A link with a connection through it: (link, client's end, server's end, listener behind it).
async fn connected() -> (Link, TcpStream, TcpStream, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = Link::to(listener.local_addr().unwrap()).await;
    let (client, server) = connect(&link, &listener).await;
    (link, client, server, listener)
}

async fn connect(link: &Link, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(link.addr()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

/// Sends `text` from one end and reads it at the other.
async fn pass(from: &mut TcpStream, to: &mut TcpStream, text: &str) {
    from.write_all(text.as_bytes()).await.unwrap();
    let mut received = vec![0; text.len()];
    to.read_exact(&mut received).await.unwrap();
    assert_eq!(received, text.as_bytes());
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    tokio::time::timeout(A_MOMENT, stream.read_u8()).await.is_err()
}

async fn read_error(stream: &mut TcpStream) -> ErrorKind {
    stream
        .read(&mut [0])
        .await
        .map_or_else(|error| error.kind(), |bytes| panic!("read {bytes} bytes"))
}

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted() {
    let (link, mut client, mut server, _listener) = connected().await;
    pass(&mut client, &mut server, "question").await;
    pass(&mut server, &mut client, "an answer").await;
    link.until("17 bytes", |counts| (counts.up, counts.down) == (8, 9)).await;
    drop((client, server));
    link.until("no connection", |counts| counts.open == 0).await;
    assert_eq!(link.counts().accepted, 1);
}

#[tokio::test]
async fn an_end_passes_and_the_other_way_goes_on() {
    let (_link, mut client, mut server, _listener) = connected().await;
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    pass(&mut server, &mut client, "still here").await;
}

#[tokio::test]
async fn a_reset_of_one_end_is_a_reset_at_the_other() {
    let (link, client, mut server, _listener) = connected().await;
    client.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(read_error(&mut server).await, ErrorKind::ConnectionReset);
    link.until("no connection", |counts| counts.open == 0).await;
}

#[tokio::test]
async fn a_cut_by_reset_is_met_as_one_at_both_ends() {
    let (link, mut client, mut server, _listener) = connected().await;
    link.until("a connection", |counts| counts.open == 1).await;
    link.cut(Cut::Reset);
    assert_eq!(read_error(&mut client).await, ErrorKind::ConnectionReset);
    assert_eq!(read_error(&mut server).await, ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_cut_by_fin_is_the_end_at_both_ends() {
    let (link, mut client, mut server, _listener) = connected().await;
    link.until("a connection", |counts| counts.open == 1).await;
    link.cut(Cut::Finish);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    link.until("no connection", |counts| counts.open == 0).await;
}

#[tokio::test]
async fn a_cut_link_lets_nobody_through_until_it_is_healed() {
    let (link, _client, _server, listener) = connected().await;
    link.cut(Cut::Finish);
    let mut refused = TcpStream::connect(link.addr()).await.unwrap();
    assert_eq!(refused.read(&mut [0]).await.unwrap(), 0);
    link.heal();
    let (mut client, mut server) = connect(&link, &listener).await;
    pass(&mut client, &mut server, "again").await;
}

#[tokio::test]
async fn connections_can_be_dropped_while_new_ones_pass() {
    let (link, mut old, _server, listener) = connected().await;
    link.until("a connection", |counts| counts.open == 1).await;
    link.drop_connections(Cut::Reset);
    assert_eq!(read_error(&mut old).await, ErrorKind::ConnectionReset);
    let (mut client, mut server) = connect(&link, &listener).await;
    pass(&mut client, &mut server, "new").await;
}

#[tokio::test]
async fn a_half_closed_link_still_carries_the_other_way() {
    let (link, mut client, mut server, _listener) = connected().await;
    pass(&mut client, &mut server, "before").await;
    link.half_close(Direction::Up);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    pass(&mut server, &mut client, "after").await;
    client.write_all(b"into the void").await.unwrap();
    drop(server);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(link.counts().up, 6);
}

#[tokio::test]
async fn a_black_hole_holds_everything_in_its_way_until_healed() {
    let (link, mut client, mut server, _listener) = connected().await;
    pass(&mut client, &mut server, "before").await;
    link.black_hole(Direction::Up);
    client.write_all(b"late").await.unwrap();
    client.shutdown().await.unwrap();
    assert!(is_silent(&mut server).await);
    pass(&mut server, &mut client, "the other way").await;
    link.heal();
    let mut rest = String::new();
    server.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "late");
}

#[tokio::test]
async fn even_a_reset_does_not_come_out_of_a_black_hole() {
    let (link, mut client, server, _listener) = connected().await;
    link.until("a connection", |counts| counts.open == 1).await;
    link.black_hole(Direction::Down);
    server.set_zero_linger().unwrap();
    drop(server);
    client.write_all(b"anybody there?").await.unwrap();
    assert!(is_silent(&mut client).await);
    link.heal();
    assert_eq!(read_error(&mut client).await, ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_slowed_link_takes_as_long_as_it_was_told() {
    let (link, mut client, mut server, _listener) = connected().await;
    let text = "x".repeat(10_000);
    link.slow(LinkSpeed { bytes_per_second: NonZeroU32::new(50_000), ..LinkSpeed::default() });
    let began = Instant::now();
    pass(&mut client, &mut server, &text).await;
    assert!(began.elapsed() >= Duration::from_millis(180), "{:?}", began.elapsed());

    link.slow(LinkSpeed { delay: Duration::from_millis(100), ..LinkSpeed::default() });
    let began = Instant::now();
    pass(&mut client, &mut server, "x").await;
    assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());

    link.slow(LinkSpeed { delay: Duration::from_hours(1), ..LinkSpeed::default() });
    client.write_all(b"x").await.unwrap();
    assert!(is_silent(&mut server).await);
    link.heal();
    server.read_u8().await.unwrap();
}

#[tokio::test]
async fn a_target_that_is_not_there_is_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = Link::to(listener.local_addr().unwrap()).await;
    drop(listener);
    let mut client = TcpStream::connect(link.addr()).await.unwrap();
    assert_eq!(read_error(&mut client).await, ErrorKind::ConnectionReset);
    assert_eq!(link.counts().unreachable, 1);
}

#[tokio::test]
async fn a_dropped_link_ends_its_connections() {
    let (link, mut client, mut server, _listener) = connected().await;
    pass(&mut client, &mut server, "before").await;
    drop(link);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
}
