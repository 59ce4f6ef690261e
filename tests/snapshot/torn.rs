//! Two sources that change together, at one instant, with exponential gaps: how many answers hold
//! parts of different instants?

#![allow(clippy::print_stderr, reason = "the figures are part of the result")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::client::HttpVersion;
use crate::support::domain::DomainFile;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{ReceivedRequest, Reply, Upstream};

/// Answers for each rate; `BFB_SNAPSHOT_ANSWERS` sets another number.
const ANSWERS: usize = 300;
/// How many requests are made for each answer wanted, before a rate is given up.
const ATTEMPTS: usize = 20;
/// Few, so that the readers do not slow each other down: a longer read is torn, or contended, more
/// often.
const READERS: usize = 2;

fn answers_wanted() -> usize {
    std::env::var("BFB_SNAPSHOT_ANSWERS").map_or(ANSWERS, |count| count.parse().unwrap())
}

/// The revision that both sources show: it goes up at the instants of a Poisson process.
///
/// It is computed from the clock at each read, under one lock, so that both sources change at
/// exactly the same instants and no timer's resolution blurs them.
struct Ledger {
    next: Instant,
    revision: u64,
    per_second: f64,
}

impl Ledger {
    fn new(per_second: u32) -> Arc<Mutex<Self>> {
        let per_second = f64::from(per_second);
        Arc::new(Mutex::new(Self { next: Instant::now(), revision: 0, per_second }))
    }

    fn revision(&mut self) -> u64 {
        let now = Instant::now();
        while self.next <= now {
            self.revision += 1;
            let gap = -(1.0 - fastrand::f64()).ln() / self.per_second;
            self.next += Duration::from_secs_f64(gap);
        }
        self.revision
    }
}

/// The kind of `ETag` by which a source proves its parts current.
#[derive(Debug, Clone, Copy)]
enum Tags {
    Strong,
    Weak,
    None,
}

fn show(
    ledger: &Arc<Mutex<Ledger>>,
    tags: Tags,
) -> impl Fn(&ReceivedRequest) -> Reply + Send + Sync + 'static {
    let ledger = ledger.clone();
    move |_| {
        let revision = ledger.lock().unwrap().revision();
        let reply = Reply::json(format!("{{\"revision\":{revision}}}"));
        match tags {
            Tags::Strong => reply.etag(&format!("\"{revision}\"")),
            // As weak as possible: the same for every revision.
            Tags::Weak => reply.header("etag", "W/\"any\""),
            Tags::None => reply,
        }
    }
}

/// A sidecar over both sources, each a server of its own, read in both modes.
struct Reading {
    sidecar: Sidecar,
    _upstreams: [Upstream; 2],
}

impl Reading {
    async fn of(per_second: u32, tags: Tags) -> Arc<Self> {
        let ledger = Ledger::new(per_second);
        let upstreams = [Upstream::plain().await, Upstream::plain().await];
        upstreams[0].handles("/stock", show(&ledger, tags));
        upstreams[1].handles("/price", show(&ledger, tags));
        let domain = |name: &str, atomicity: &str| {
            DomainFile::of(name)
                .head(&format!("atomicity: {atomicity}"))
                .source("stock", &upstreams[0], "/stock", &[])
                .source("price", &upstreams[1], "/price", &[])
        };
        let domains = [domain("complete", "complete"), domain("snapshot", "snapshot")];
        let sidecar = Setup::of(&[&domains[0], &domains[1]]).insecure().start().await;
        Arc::new(Self { sidecar, _upstreams: upstreams })
    }
}

#[derive(Debug, Default)]
struct Tally {
    requests: AtomicUsize,
    answers: AtomicUsize,
    torn: AtomicUsize,
    contended: AtomicUsize,
}

impl Tally {
    fn get(count: &AtomicUsize) -> usize {
        count.load(Ordering::SeqCst)
    }

    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn contended_percent(&self) -> f64 {
        100.0 * Self::get(&self.contended) as f64 / Self::get(&self.requests) as f64
    }
}

/// Reads in one mode until there are enough answers. Each reader has a key of its own, and so
/// collections of its own.
async fn read(reading: &Arc<Reading>, mode: &'static str, wanted: usize) -> Tally {
    let tally = Arc::new(Tally::default());
    let mut readers = JoinSet::new();
    for key in 0..READERS {
        let reading = reading.clone();
        let tally = tally.clone();
        readers.spawn(async move {
            let mut consumer = reading.sidecar.consumer(HttpVersion::Http1);
            let enough = || {
                Tally::get(&tally.answers) >= wanted
                    || Tally::get(&tally.requests) >= wanted * ATTEMPTS
            };
            while !enough() {
                tally.requests.fetch_add(1, Ordering::SeqCst);
                let got = consumer.get(&format!("/v2/{mode}s/{key}")).await.unwrap();
                if got.status == 503 {
                    let failed = got.failed_sources("contended", 503);
                    assert!(failed.iter().all(|(_, reason)| reason == "changed"), "{got:?}");
                    tally.contended.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                let whole = got.dataset();
                let revision = |source: &str| whole[source]["revision"].as_u64().unwrap();
                tally.answers.fetch_add(1, Ordering::SeqCst);
                tally.torn.fetch_add(
                    usize::from(revision("stock") != revision("price")),
                    Ordering::SeqCst,
                );
            }
        });
    }
    while let Some(ended) = readers.join_next().await {
        ended.unwrap();
    }
    Arc::into_inner(tally).unwrap()
}

/// Reads in both modes at one rate, prints the counts, and returns how many answers of `complete`
/// were torn.
async fn compare(per_second: u32, tags: Tags) -> usize {
    let wanted = answers_wanted();
    let reading = Reading::of(per_second, tags).await;
    let complete = read(&reading, "complete", wanted).await;
    let snapshot = read(&reading, "snapshot", wanted).await;
    let torn = Tally::get(&complete.torn);
    let of = Tally::get(&complete.answers);
    let answers = Tally::get(&snapshot.answers);
    let contended = snapshot.contended_percent();
    let snapshot_torn = Tally::get(&snapshot.torn);
    eprintln!(
        "{per_second} changes a second, {tags:?} tags: complete {torn} of {of} torn; \
         snapshot {snapshot_torn} of {answers} torn, \
         {contended:.1} % contended"
    );
    assert_eq!(Tally::get(&complete.contended), 0);
    assert_eq!(snapshot_torn, 0, "a torn answer under snapshot");
    assert!(answers > 0, "no answer at all at {per_second} changes a second");
    torn
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_snapshot_is_torn_at_ten_changes_a_second() {
    compare(10, Tags::Strong).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_snapshot_is_torn_at_a_hundred_changes_a_second() {
    compare(100, Tags::Strong).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_snapshot_is_torn_at_a_thousand_changes_a_second_where_many_complete_answers_are() {
    let torn = compare(1_000, Tags::Strong).await;
    assert!(
        torn > 0,
        "the sources never changed between two reads: this test cannot see a torn answer"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_snapshot_is_torn_where_tags_are_weak() {
    compare(100, Tags::Weak).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_snapshot_is_torn_where_there_are_no_tags() {
    compare(100, Tags::None).await;
}
