//! Figures of a fleet, over real sidecars and a real Redis, and of the admission webhook: `cargo
//! bench --bench fleet -- acknowledgement|outage|memory|hits|admissions`.
//!
//! Machines are shared and noisy: the figure to compare is the ratio to the reference that was
//! measured in the same run. Nothing here asserts a time.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout, missing_docs, clippy::pedantic)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::json;
use support::apiserver::Apiserver;
use support::client::{Consumer, HttpVersion, ask, with_header};
use support::domain::DomainFile;
use support::redis::Redis;
use support::sidecar::{Setup, Sidecar};
use support::upstream::{Reply, Upstream};
use support::webhook::{Webhook, connect, creation, post, trusting};

const PATH: &str = "/v2/customers/42";

#[tokio::main]
async fn main() {
    let selected: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let runs = |name: &str| selected.is_empty() || selected.iter().any(|one| one == name);
    if runs("acknowledgement") {
        acknowledgement(20, 400).await;
    }
    if runs("hits") {
        hits(Duration::from_secs(5)).await;
    }
    if runs("memory") {
        memory(100_000, 2048).await;
    }
    if runs("admissions") {
        admissions(1_000, Duration::from_secs(30)).await;
    }
    if runs("outage") {
        outage(Duration::from_secs(60)).await;
    }
}

async fn member(url: Option<&str>, upstream: &Upstream, args: &[&str]) -> Sidecar {
    let domain =
        DomainFile::of("customer").head("cache: {ttl: 1h}").source("part", upstream, "/{key}", &[]);
    let mut setup = Setup::of(&[&domain]).insecure().args(args);
    if !args.contains(&"--memory") {
        setup = setup.args(&["--memory", "64MiB"]);
    }
    if let Some(url) = url {
        setup = setup.args(&["--redis", url]);
    }
    let sidecar = setup.start().await;
    while url.is_some()
        && sidecar.admin("/status").await.json()["fleet"]["domains"][0]["lease_held"] != true
    {
        tokio::task::yield_now().await;
    }
    sidecar
}

fn part(of: u64) -> String {
    format!("{{\"n\":{of}}}")
}

fn show(name: &str, mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let median = at(0.5);
    let p99 = at(0.99);
    println!(
        "  {name:<44} median {median:8.3} ms   p99 {p99:8.3} ms   max {:8.3} ms   ({} of them)",
        at(1.0),
        times.len()
    );
    (median, p99)
}

/// The time from a request for an invalidation to its acknowledgement by the fleet, beside the time
/// from a bare PUBLISH until all members have received it.
async fn acknowledgement(size: usize, times: usize) {
    println!("acknowledgement by {size} sidecars");
    let redis = Redis::start();
    let upstream = Upstream::plain().await;
    let version = Arc::new(AtomicU64::new(0));
    let now = version.clone();
    upstream.handles("/42", move |_| Reply::json(part(now.load(Ordering::SeqCst))));
    let mut members = Vec::new();
    for _ in 0..size {
        members.push(member(Some(&redis.url()), &upstream, &[]).await);
    }
    let client = redis::Client::open(redis.url()).unwrap();
    let mut listeners = Vec::new();
    for _ in 0..size {
        let mut listener = client.get_async_pubsub().await.unwrap();
        listener.subscribe("bfb:{bench/bench}:news").await.unwrap();
        listeners.push(listener.into_on_message());
    }
    // The epoch is younger than a lease: until it is older, an acknowledgement waits for the whole
    // lease.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut publisher = client.get_multiplexed_async_connection().await.unwrap();
    let (mut bare, mut waited, mut stale) = (Vec::new(), Vec::new(), 0);
    let mut consumers: Vec<Consumer> =
        members.iter().map(|member| member.consumer(HttpVersion::Http1)).collect();
    let invalidation =
        json!({"domain": "customer", "keys": ["42"], "wait": "fleet", "timeout": "30s"});
    for _ in 0..times {
        for consumer in &mut consumers {
            consumer.get(PATH).await.unwrap();
        }
        let began = Instant::now();
        let _: i64 = redis::cmd("PUBLISH")
            .arg("bfb:{bench/bench}:news")
            .arg("x")
            .query_async(&mut publisher)
            .await
            .unwrap();
        join_all(listeners.iter_mut().map(|listener| listener.next())).await;
        bare.push(began.elapsed());
        let newest = version.fetch_add(1, Ordering::SeqCst) + 1;
        let mut request =
            with_header(ask(http::Method::POST, "/invalidate"), "content-type", "application/json");
        *request.body_mut() = bytes::Bytes::from(invalidation.to_string()).into();
        let began = Instant::now();
        let got = members[0].send_admin(request).await;
        waited.push(began.elapsed());
        assert_eq!(got.status, 200, "{}", got.text());
        for consumer in &mut consumers {
            let n = consumer.get(PATH).await.unwrap().json()["part"]["n"].as_u64().unwrap();
            stale += u64::from(n < newest);
        }
    }
    let reference = show("bare PUBLISH until all 20 have it", bare);
    let acknowledged = show("POST /invalidate, wait fleet", waited);
    println!(
        "  ratio: median {:.1}, p99 {:.1}; stale reads after an acknowledgement: {stale}",
        acknowledged.0 / reference.0,
        acknowledged.1 / reference.1
    );
}

/// Reads from memory of one sidecar: each connection sends its next request after the answer.
async fn hits(span: Duration) {
    println!("hits from memory, 16 connections in a closed loop");
    let upstream = Upstream::plain().await;
    upstream.answers("/42", [Reply::json(format!("\"{}\"", "x".repeat(2048)))]);
    let sidecar = member(None, &upstream, &[]).await;
    sidecar.get(PATH).await.dataset();
    for (name, path) in
        [("a hit of 2 KiB", PATH), ("a 404 of no path (no cache, no sources)", "/nowhere")]
    {
        let until = Instant::now() + span;
        let loops = (0..16).map(|_| async {
            let mut consumer = sidecar.consumer(HttpVersion::Http1);
            let mut times = Vec::new();
            while Instant::now() < until {
                let began = Instant::now();
                consumer.get(path).await.unwrap();
                times.push(began.elapsed());
            }
            times
        });
        let times: Vec<Duration> = join_all(loops).await.into_iter().flatten().collect();
        println!("  {:.0} requests a second", times.len() as f64 / span.as_secs_f64());
        show(name, times);
    }
}

/// The memory that so many datasets take.
async fn memory(count: usize, bytes: usize) {
    println!("{count} datasets of {bytes} bytes in memory");
    let upstream = Upstream::plain().await;
    let domain = DomainFile::of("customer").head("cache: {ttl: 1h}").source(
        "part",
        &upstream,
        "/{key}",
        &[],
    );
    let sidecar = Setup::of(&[&domain])
        .insecure()
        .args(&["--memory", "1GiB", "--memory-limit", "2GiB"])
        .start()
        .await;
    let idle = sidecar.resident_kib();
    let body = format!("\"{}\"", "x".repeat(bytes - 11));
    for key in 0..count {
        upstream.answers(&format!("/{key}"), [Reply::json(body.clone())]);
    }
    let loops = (0..16).map(|part| {
        let mut consumer = sidecar.consumer(HttpVersion::Http1);
        async move {
            for key in (part..count).step_by(16) {
                assert_eq!(
                    consumer.get(&format!("/v2/customers/{key}")).await.unwrap().status,
                    200
                );
            }
        }
    });
    join_all(loops).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let status = sidecar.admin("/status").await.json();
    let full = sidecar.resident_kib();
    let data = count * bytes / 1024;
    println!(
        "  idle {idle} KiB, full {full} KiB, data {data} KiB, held {} datasets, counted {} bytes",
        status["memory"]["entries"], status["memory"]["bytes"]
    );
    println!("  ratio: {:.2} times the data's bytes", (full - idle) as f64 / data as f64);
}

/// Redis is gone for a time, under load: the answers of consumers before, during and after.
async fn outage(span: Duration) {
    println!("redis killed for {span:?} under load: 4 sidecars, 16 consumers, 500 keys");
    let mut redis = Redis::start();
    let upstream = Upstream::plain().await;
    for key in 0..500 {
        upstream
            .answers(&format!("/{key}"), [Reply::json(part(key)).after(Duration::from_millis(2))]);
    }
    let mut members = Vec::new();
    for _ in 0..4 {
        members.push(member(Some(&redis.url()), &upstream, &[]).await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let failed = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut loops = tokio::task::JoinSet::new();
    for number in 0..16_u64 {
        let mut consumer = members[(number % 4) as usize].consumer(HttpVersion::Http1);
        let stop = stop.clone();
        let failed = failed.clone();
        loops.spawn(async move {
            let mut key = number;
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                key = (key * 7 + 13) % 500;
                let sent = Instant::now();
                let answer = consumer.get(&format!("/v2/customers/{key}")).await;
                let hit = match &answer {
                    Ok(got) if got.status == 200 => {
                        got.header("cache-status").starts_with("bfb; hit")
                    }
                    _ => {
                        failed.fetch_add(1, Ordering::Relaxed);
                        false
                    }
                };
                times.push((sent - began, sent.elapsed(), hit));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            times
        });
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    redis.kill();
    let gone = began.elapsed();
    tokio::time::sleep(span).await;
    redis.revive();
    let back = began.elapsed();
    tokio::time::sleep(Duration::from_secs(10)).await;
    stop.store(true, Ordering::Relaxed);
    let all: Vec<_> = loops.join_all().await.into_iter().flatten().collect();
    let within = |from: Duration, to: Duration| {
        all.iter()
            .filter(|(at, ..)| *at >= from && *at < to)
            .map(|(_, took, _)| *took)
            .collect::<Vec<_>>()
    };
    show("before", within(Duration::from_secs(3), gone));
    show("during", within(gone, back));
    show("after", within(back + Duration::from_secs(1), Duration::MAX));
    let served = all.iter().filter(|(at, _, hit)| *hit && *at >= back).map(|(at, ..)| *at).min();
    println!("  failed requests: {}", failed.load(Ordering::Relaxed));
    println!("  memory served again {:?} after Redis was back", served.map(|at| at - back));
}

/// Admissions at a fixed rate, however long the answers take, of a webhook that has one core; a
/// time counts from the moment at which the admission was due.
async fn admissions(rate: u32, span: Duration) {
    println!(
        "{rate} admissions a second for {span:?}, 16 kept connections, the webhook on one core"
    );
    let server = Apiserver::start().await;
    server.namespace("labelled", &json!({"bfb.dev/inject": "customer.orders"}));
    let webhook = Webhook::ready(&server, &[]).await;
    let pinned = std::process::Command::new("taskset")
        .args(["-acp", "1", &webhook.pid().to_string()])
        .output()
        .unwrap();
    assert!(pinned.status.success(), "{pinned:?}");
    let reviews = [
        large(creation("shop", &json!({"bfb.dev/inject": "customer", "bfb.dev/memory": "128MiB"}))),
        large(creation("labelled", &json!({}))),
        large(creation("labelled", &json!({"bfb.dev/inject": "false"}))),
        large(creation("shop", &json!({"bfb.dev/inject": "customer", "bfb.dev/memry": "1"}))),
    ];
    println!("  a review has {} bytes", serde_json::to_vec(&reviews[0]).unwrap().len());
    let total = rate * span.as_secs() as u32;
    let before = cpu(webhook.pid());
    let began = Instant::now() + Duration::from_millis(100);
    let mut loops = tokio::task::JoinSet::new();
    for number in 0..16_u32 {
        let mut connection =
            connect(webhook.address, trusting(&server.bundle()).unwrap(), HttpVersion::Http1)
                .await
                .unwrap();
        let reviews = reviews.clone();
        loops.spawn(async move {
            let mut times = Vec::new();
            for nth in (number..total).step_by(16) {
                let due = began + Duration::from_secs(1) * nth / rate;
                tokio::time::sleep_until(due.into()).await;
                let got = connection
                    .send(post(&reviews[nth as usize % reviews.len()]))
                    .await
                    .ok()
                    .unwrap();
                assert_eq!(got.status, 200, "{}", got.text());
                times.push(due.elapsed());
            }
            times
        });
    }
    let times: Vec<Duration> = loops.join_all().await.into_iter().flatten().collect();
    let took = began.elapsed();
    let used = cpu(webhook.pid()) - before;
    println!("  {:.0} admissions a second", f64::from(total) / took.as_secs_f64());
    show("an admission, from when it was due", times);
    println!(
        "  the webhook used {:.1} % of its core",
        100.0 * used.as_secs_f64() / took.as_secs_f64()
    );
}

/// The same pod with as many members as a usual one has.
fn large(mut review: serde_json::Value) -> serde_json::Value {
    let env: Vec<_> = (0..30)
        .map(|n| json!({"name": format!("SETTING_{n}"), "value": "a value of some length"}))
        .collect();
    let spec = &mut review["object"]["spec"];
    spec["containers"][0]["env"] = env.into();
    spec["volumes"] = json!([{"name": "tmp", "emptyDir": {}},
        {"name": "kube-api-access", "projected": {"sources": []}}]);
    review
}

/// The time of a core that a process has used.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // proc(5): after the name in parentheses, utime and stime are the 12th and 13th, in hundredths
    // of a second.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    Duration::from_millis(
        (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10,
    )
}
