//! CPU time for a hit and for a miss, of two builds of the program side by side:
//! `BFB_BASELINE=/path/to/bfb cargo bench --bench cost [-- hits|misses]`.
//!
//! Both sidecars have the same domain file and the same upstreams, and one client sends each the
//! same number of requests, in blocks that alternate (AB, BA, AB …), so that other load on the
//! machine falls on both alike. The bench compares the time that the kernel has accounted to each
//! process (`/proc/PID/task/TID/schedstat`, nanoseconds), not how long anything took. With the same
//! program on both sides the ratio is 1.00, and its spread is the noise. `BFB_CANDIDATE` names
//! another program than the one that cargo has built; `BFB_BLOCKS` another number of blocks.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout, missing_docs, clippy::pedantic)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use support::domain::DomainFile;
use support::sidecar::{Setup, Sidecar};
use support::upstream::{Reply, Upstream};
use support::wire::{self, Wire};

const CONNECTIONS: usize = 8;
const SOURCES: [&str; 4] = ["profile", "favorites", "reviews", "orders"];
/// The size of a dataset: its four parts together are about as large.
const DATASET_BYTES: usize = 2048;
/// Pairs of blocks; the first pair of all warms up and is not counted.
const BLOCKS: usize = 60;
const HITS_A_BLOCK: u64 = 8_000;
const MISSES_A_BLOCK: u64 = 800;

/// The kind of every request in a block.
#[derive(Clone, Copy)]
enum Kind {
    /// The same key, from memory.
    Hit,
    /// A key that was never requested before.
    Miss,
}

#[tokio::main]
async fn main() {
    let selected: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let runs = |name: &str| selected.is_empty() || selected.iter().any(|one| one == name);
    let Some(baseline) = std::env::var_os("BFB_BASELINE").map(PathBuf::from) else {
        println!("cost: `BFB_BASELINE` names no program to compare with");
        return;
    };
    let built = PathBuf::from(env!("CARGO_BIN_EXE_bfb"));
    let candidate = std::env::var_os("BFB_CANDIDATE").map_or(built, PathBuf::from);
    let blocks = std::env::var("BFB_BLOCKS").map_or(BLOCKS, |blocks| blocks.parse().unwrap());
    println!("A is {}, B is {}", baseline.display(), candidate.display());
    let upstreams = upstreams().await;
    if runs("hits") {
        let pair = [start(&baseline, &upstreams).await, start(&candidate, &upstreams).await];
        compare("a hit from memory", &pair, Kind::Hit, HITS_A_BLOCK, blocks).await;
    }
    if runs("misses") {
        let pair = [start(&baseline, &upstreams).await, start(&candidate, &upstreams).await];
        compare("a miss over 4 HTTP/1.1 sources", &pair, Kind::Miss, MISSES_A_BLOCK, blocks).await;
    }
}

async fn upstreams() -> Vec<Upstream> {
    let mut upstreams = Vec::new();
    for name in SOURCES {
        let upstream = Upstream::plain().await;
        let body = format!("{{\"{name}\":\"{}\"}}", "x".repeat(DATASET_BYTES / SOURCES.len() - 32));
        upstream.handles("/part", move |_| Reply::json(body.clone()).etag("\"a-validator\""));
        upstream.forget();
        upstreams.push(upstream);
    }
    upstreams
}

async fn start(program: &Path, upstreams: &[Upstream]) -> Sidecar {
    let mut domain = DomainFile::of("customer").head("cache: {ttl: 1h}");
    for (name, upstream) in SOURCES.iter().zip(upstreams) {
        domain = domain.source(name, upstream, "/part?key={key}", &[]);
    }
    Setup::of_program(program, &[&domain]).insecure().args(&["--memory", "64MiB"]).start().await
}

/// Sends requests to both in turn and prints the time that each took.
async fn compare(name: &str, pair: &[Sidecar; 2], kind: Kind, requests: u64, blocks: usize) {
    let next = AtomicU64::new(0);
    let mut wires = Vec::new();
    for sidecar in pair {
        let open = (0..CONNECTIONS).map(|_| Wire::open_patiently(sidecar.listen()));
        wires.push(join_all(open).await.into_iter().map(Result::unwrap).collect::<Vec<_>>());
    }
    let mut costs = [Vec::new(), Vec::new()];
    for block in 0..=blocks {
        for turn in [block % 2, 1 - block % 2] {
            let before = RunTime::of(pair[turn].pid());
            drive(&mut wires[turn], kind, requests, &next).await;
            let took_ns = RunTime::of(pair[turn].pid()).since(&before);
            if block > 0 {
                costs[turn].push(took_ns as f64 / requests as f64 / 1e3);
            }
        }
    }
    println!("{name}: {blocks} blocks of {requests} requests each, {CONNECTIONS} connections");
    for (letter, costs) in ["A", "B"].iter().zip(&costs) {
        println!("  {letter}: {} us of CPU time a request", Spread::of(costs));
    }
    let ratios: Vec<f64> =
        costs[0].iter().zip(&costs[1]).map(|(before, after)| after / before).collect();
    let spread = Spread::of(&ratios);
    // The interval of a median of many values: 1.57 times the quartiles' distance over the root of
    // the number of values (McGill, Tukey, Larsen 1978).
    let likely = 1.57 * (spread.upper - spread.lower) / (ratios.len() as f64).sqrt();
    println!(
        "  B / A: {spread}, so {:.3} to {:.3}",
        spread.median - likely,
        spread.median + likely
    );
}

/// Sends so many requests over these connections, each waiting for its answer.
async fn drive(wires: &mut [Wire], kind: Kind, requests: u64, next: &AtomicU64) {
    let each = requests / wires.len() as u64;
    let loops = wires.iter_mut().map(|wire| async {
        for _ in 0..each {
            let key = match kind {
                Kind::Hit => 42,
                Kind::Miss => next.fetch_add(1, Ordering::Relaxed),
            };
            wire.ask(&wire::get(&format!("/v2/customers/{key}"), "")).await.unwrap();
            let answer = wire.answer().await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    });
    join_all(loops).await;
}

/// How long each thread of a process has run, in nanoseconds.
struct RunTime(HashMap<String, u64>);

impl RunTime {
    fn of(pid: u32) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let run_time = |task: std::io::Result<std::fs::DirEntry>| {
            let task = task.ok()?;
            // A thread may have ended meanwhile.
            let schedstat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            let ran = schedstat.split(' ').next()?.parse().ok()?;
            Some((task.file_name().into_string().ok()?, ran))
        };
        let ran: HashMap<_, _> = tasks.filter_map(run_time).collect();
        assert!(
            ran.values().any(|ran| *ran > 0),
            "this kernel does not say how long a thread has run"
        );
        Self(ran)
    }

    fn since(&self, before: &Self) -> u64 {
        self.0
            .iter()
            .map(|(thread, ran)| ran - before.0.get(thread).copied().unwrap_or_default())
            .sum()
    }
}

/// A median between its quartiles.
struct Spread {
    lower: f64,
    median: f64,
    upper: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
        Self { lower: at(0.25), median: at(0.5), upper: at(0.75) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} (quartiles {:.3} and {:.3})", self.median, self.lower, self.upper)
    }
}
