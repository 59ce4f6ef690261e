//! The hostile load, each kind at a pace of its own: the load is bounded by its pace, and its cost
//! by the sidecar.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Counted;
use super::world::{BAD, Tally, World, goes_on};
use crate::support::client::{Connection, Endpoint, HttpVersion};
use crate::support::flood::{END_HEADERS, END_STREAM, HEADERS, frame};
use crate::support::frames;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::wire;

/// How many connections with a head that never ends are open at once.
const SLOW_HEADS: usize = 150;
/// How many connections with unread answers are open at once, and how many requests each has sent.
const UNREAD: usize = 100;
const UNREAD_STREAMS: u32 = 100;
/// How long Redis is down each time, and how long it runs between.
const REDIS_DOWN: Duration = Duration::from_millis(1_500);
const REDIS_UP: Duration = Duration::from_secs(7);
const PLANTED_BYTES: usize = 256 * 1024;

pub(super) fn begin(load: &mut JoinSet<Counted>, world: &World, stop: &watch::Sender<bool>) {
    let sidecar = || Arc::clone(&world.sidecar);
    load.spawn(hangs_up(sidecar(), stop.subscribe()));
    load.spawn(resets_streams(sidecar(), stop.subscribe()));
    load.spawn(never_ends_a_head(sidecar(), stop.subscribe()));
    load.spawn(reads_no_answer(sidecar(), stop.subscribe()));
    load.spawn(asks("no-cache", sidecar(), stop.subscribe(), Duration::from_millis(4), |n| {
        (format!("/v2/customers/{}", n % 10), "cache-control: no-cache\r\n")
    }));
    load.spawn(asks("fresh keys", sidecar(), stop.subscribe(), Duration::from_millis(2), |n| {
        (format!("/v2/customers/fresh-{n}"), "")
    }));
    load.spawn(asks("bad keys", sidecar(), stop.subscribe(), Duration::from_millis(20), |n| {
        (bad_path(n), "")
    }));
    for way in BAD.into_iter().filter(|way| *way != "large") {
        load.spawn(asks(way, sidecar(), stop.subscribe(), Duration::from_millis(30), move |n| {
            (format!("/v2/{way}s/{n}"), "")
        }));
    }
    load.spawn(asks("drip", sidecar(), stop.subscribe(), Duration::from_millis(50), |n| {
        (format!("/v2/drips/{n}"), "")
    }));
    load.spawn(takes_large_parts(sidecar(), stop.subscribe()));
    load.spawn(plants(Arc::clone(&world.redis), stop.subscribe()));
    load.spawn(kills_redis(Arc::clone(&world.redis), stop.subscribe()));
}

/// Requests one path after the other on one connection, and ignores the answers.
async fn asks(
    name: &'static str,
    sidecar: Arc<Sidecar>,
    mut stop: watch::Receiver<bool>,
    pause: Duration,
    path: impl Fn(u64) -> (String, &'static str) + Send + 'static,
) -> Counted {
    let mut tally = Tally::default();
    let mut wire = None;
    let mut n = 0;
    while goes_on(&mut stop, pause).await {
        n += 1;
        let mut open = match wire.take() {
            Some(open) => open,
            None => match wire::Wire::open_patiently(sidecar.listen()).await {
                Ok(open) => open,
                Err(_) => continue,
            },
        };
        let (path, lines) = path(n);
        let answer = match open.ask(&wire::get(&path, lines)).await {
            Ok(()) => open.answer().await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => {
                tally.count(answer.status.to_string());
                wire = Some(open).filter(|_| !answer.closes());
            }
            Err(_) => tally.count("cut off"),
        }
    }
    (name, tally)
}

fn bad_path(n: u64) -> String {
    match n % 5 {
        0 => format!("/v2/customers/{}", "k".repeat(600)),
        1 => "/v2/customers/%00".to_owned(),
        2 => "/v2/customers/..%2f..%2fadmin".to_owned(),
        3 => "/v2/customers/%ff%fe".to_owned(),
        _ => format!("/v2/customers/42?{n}"),
    }
}

/// Requests a fresh key and goes away before the answer.
async fn hangs_up(sidecar: Arc<Sidecar>, mut stop: watch::Receiver<bool>) -> Counted {
    let mut tally = Tally::default();
    let mut n = 0_u64;
    while goes_on(&mut stop, Duration::from_millis(3)).await {
        n += 1;
        let Ok(mut wire) = wire::Wire::open_patiently(sidecar.listen()).await else { continue };
        let sent = wire.ask(&wire::get(&format!("/v2/customers/gone-{n}"), "")).await;
        tally.count(if sent.is_ok() { "gone" } else { "cut off" });
    }
    ("hang-ups", tally)
}

/// The same over HTTP/2, a hundred at once.
async fn resets_streams(sidecar: Arc<Sidecar>, mut stop: watch::Receiver<bool>) -> Counted {
    let mut tally = Tally::default();
    let to = Endpoint::Tcp(sidecar.listen());
    while goes_on(&mut stop, Duration::from_millis(500)).await {
        let Ok(connection) = Connection::open(&to, HttpVersion::Http2).await else { continue };
        let (answers, _) = tokio::sync::mpsc::unbounded_channel();
        let path = format!("/v2/customers/reset-{}", fastrand::u32(..));
        let requests = connection.at_once(&path, 100, &answers);
        let _ = tokio::time::timeout(Duration::from_millis(2), requests).await;
        tally.count("a hundred streams");
    }
    ("resets", tally)
}

/// Keeps connections with a head that never ends.
async fn never_ends_a_head(sidecar: Arc<Sidecar>, mut stop: watch::Receiver<bool>) -> Counted {
    let mut tally = Tally::default();
    let mut open = Vec::new();
    while goes_on(&mut stop, Duration::from_millis(20)).await {
        let mut stream = if open.len() < SLOW_HEADS {
            let Ok(stream) = TcpStream::connect(sidecar.listen()).await else { continue };
            stream
        } else {
            open.remove(0)
        };
        if stream.write_all(b"G").await.is_err() {
            tally.count("ended");
            continue;
        }
        tally.count("a byte");
        open.push(stream);
    }
    ("slow heads", tally)
}

/// Keeps HTTP/2 connections with many requests, some with great heads, and reads one byte of each
/// answer.
async fn reads_no_answer(sidecar: Arc<Sidecar>, mut stop: watch::Receiver<bool>) -> Counted {
    let mut tally = Tally::default();
    let mut open = VecDeque::new();
    // Literals without indexing: `x: yyy…` of 120 bytes each.
    let field = [&[0, 1, b'x', 120][..], &[b'y'; 120]].concat();
    while goes_on(&mut stop, Duration::from_millis(20)).await {
        let fields = if fastrand::bool() { 50 } else { 0 };
        let path = format!("/v2/customers/{}", fastrand::u32(..10));
        let block = [frames::get(&path), field.repeat(fields)].concat();
        let mut bytes = frames::opening_with(&[(frames::SETTINGS_INITIAL_WINDOW_SIZE, 1)]);
        for stream in 0..UNREAD_STREAMS {
            bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 2 * stream + 1, &block));
        }
        let Ok(mut stream) = TcpStream::connect(sidecar.listen()).await else { continue };
        let sent = tokio::time::timeout(Duration::from_millis(100), stream.write_all(&bytes)).await;
        tally.count(match sent {
            Ok(Ok(())) => "sent",
            Ok(Err(_)) => "ended",
            Err(_) => "slowed down",
        });
        open.push_back(stream);
        if open.len() > UNREAD {
            open.pop_front();
        }
    }
    ("unread answers", tally)
}

/// Two consumers at a time request a part of 4 MiB and read it slowly.
async fn takes_large_parts(sidecar: Arc<Sidecar>, mut stop: watch::Receiver<bool>) -> Counted {
    let mut tally = Tally::default();
    let mut n = 0_u64;
    while goes_on(&mut stop, Duration::from_millis(200)).await {
        let mut streams = Vec::new();
        for _ in 0..2 {
            n += 1;
            let Ok(mut stream) = TcpStream::connect(sidecar.listen()).await else { continue };
            let head = wire::get(&format!("/v2/larges/{n}"), "connection: close\r\n");
            if stream.write_all(head.as_bytes()).await.is_ok() {
                streams.push(stream);
            }
        }
        for mut stream in streams {
            let mut answer = Vec::new();
            let read = stream.read_to_end(&mut answer).await;
            tally.count(match (read, answer.get(9..12)) {
                (Ok(_), Some(status)) => String::from_utf8_lossy(status).into_owned(),
                _ => "cut off".to_owned(),
            });
        }
    }
    ("large parts", tally)
}

/// Plants invalid values under the names of datasets in Redis.
async fn plants(redis: Arc<Mutex<Redis>>, mut stop: watch::Receiver<bool>) -> Counted {
    let mut tally = Tally::default();
    let mut n = 0_usize;
    while goes_on(&mut stop, Duration::from_millis(250)).await {
        n += 1;
        let url = redis.lock().unwrap().url();
        let planted = tokio::task::spawn_blocking(move || plant(&url, n)).await.unwrap();
        tally.count(planted.map_or("not there", |()| "planted"));
    }
    ("planted datasets", tally)
}

fn plant(url: &str, n: usize) -> redis::RedisResult<()> {
    let mut control = redis::Client::open(url)?.get_connection()?;
    let places: Vec<String> =
        redis::cmd("KEYS").arg("bfb:{default/customer}:dataset:*").query(&mut control)?;
    let Some(place) = places.get(n % places.len().max(1)) else { return Ok(()) };
    let junk = vec![b'j'; PLANTED_BYTES];
    match n % 4 {
        0 => redis::cmd("HSET").arg(place).arg("body").arg(&junk).exec(&mut control),
        1 => {
            redis::cmd("HSET").arg(place).arg("seq").arg("99999999999999999999").exec(&mut control)
        }
        2 => redis::cmd("SET").arg(place).arg(&junk).arg("PX").arg(2_000).exec(&mut control),
        _ => redis::cmd("HSET").arg(place).arg("tags").arg(&junk).exec(&mut control),
    }
}

/// Kills Redis as a power cut would, and starts it again, empty.
async fn kills_redis(redis: Arc<Mutex<Redis>>, mut stop: watch::Receiver<bool>) -> Counted {
    let mut tally = Tally::default();
    while goes_on(&mut stop, REDIS_UP).await {
        redis.lock().unwrap().kill();
        goes_on(&mut stop, REDIS_DOWN).await;
        let redis = Arc::clone(&redis);
        tokio::task::spawn_blocking(move || redis.lock().unwrap().revive()).await.unwrap();
        tally.count("killed and back");
    }
    ("redis", tally)
}
