//! *One read*, under a stampede: 20 sidecars, 50 consumers at each, and all ask for one cold key at once.
//!
//! The sources hold their answers back until everybody is seated, so what is counted does not hang on how fast the machine is.
//! Which sidecar asked a source is told by the trace: the consumers of a sidecar name it in theirs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bfb::cache::CLAIM_LASTS;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::fleet::until_lease;
use crate::support::client::PATIENCE;
use crate::support::domain::DomainFile;
use crate::support::redis::Redis;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Seen, Upstream};
use crate::support::wire::{self, Answer, Wire};

const SIDECARS: usize = 20;
const CONSUMERS: usize = 50;
/// The same as metrics count.
const CALLERS: f64 = 50.0;
/// How long collecting and handing on may take, on a slow machine.
const COLLECTED_MAX: Duration = Duration::from_secs(4);
/// Nobody waits longer where a leader has died.
const TAKEOVER_MAX: Duration = CLAIM_LASTS.saturating_add(COLLECTED_MAX);
/// Between two looks at a sidecar's metrics: twenty that are looked at without a pause get nothing else done.
const LOOK: Duration = Duration::from_millis(10);
/// So often a run may be disturbed by a machine that stops a sidecar for longer than its claim lasts, or Redis for longer
/// than a sidecar waits for it. Sidecars count both.
const RUNS_MAX: usize = 5;
/// Each a server of its own.
const SOURCES: [&str; 2] = ["profile", "orders"];

/// The fleet, its sources, and how often each sidecar asked each source.
struct Crowd {
    redis: Redis,
    sidecars: Vec<Sidecar>,
    sources: Vec<Upstream>,
    asked: Vec<Arc<Mutex<BTreeMap<usize, usize>>>>,
}

/// The header by which a consumer names its sidecar.
fn trace_of(sidecar: usize) -> String {
    format!("traceparent: 00-{:032x}-0000000000000001-01\r\n", sidecar + 1)
}

fn named_by(seen: &Seen) -> usize {
    usize::from_str_radix(seen.header("traceparent").split('-').nth(1).unwrap(), 16).unwrap() - 1
}

impl Crowd {
    /// A fleet that holds its lease. Each sidecar's first question to a source waits behind the first gate, and so on; one for
    /// which there is no gate is answered at once.
    async fn gather(gates: Vec<watch::Receiver<bool>>) -> Self {
        let (redis, mut sources, mut all_asked) = (Redis::start(), Vec::new(), Vec::new());
        let mut domain = DomainFile::of("customer").head("cache: {ttl: 60s}");
        for name in SOURCES {
            let (source, asked) = (Upstream::plain().await, Arc::<Mutex<BTreeMap<usize, usize>>>::default());
            let (gates, counts) = (gates.clone(), Arc::clone(&asked));
            source.handles("/42", move |seen| {
                let mut counts = counts.lock().unwrap();
                let times = counts.entry(named_by(seen)).or_default();
                *times += 1;
                let reply = Reply::json(format!("{{\"n\":{times}}}"));
                gates.get(*times - 1).map_or(reply.clone(), |gate| reply.behind(gate.clone()))
            });
            domain = domain.source(name, &source, "/{key}", &["retries: 0"]);
            sources.push(source);
            all_asked.push(asked);
        }
        let mut sidecars = Vec::new();
        for _ in 0..SIDECARS {
            // Longer than a busy machine stops for: without the lease each collects for itself.
            let args = ["--memory", "64MiB", "--redis", &redis.url(), "--lease", "4s"];
            sidecars.push(Setup::of(&[&domain]).insecure().args(&args).start().await);
        }
        for sidecar in &sidecars {
            until_lease(sidecar, true).await;
        }
        Self { redis, sidecars, sources, asked: all_asked }
    }

    /// Everybody asks at once. Returns as soon as all have.
    async fn stampede(&self) -> JoinSet<(usize, std::io::Result<Answer>)> {
        let consumers = (0..SIDECARS).flat_map(|number| [number; CONSUMERS]);
        let open = consumers.map(|number| async move {
            let wire = Wire::open(self.sidecars[number].listen()).await.unwrap();
            (number, wire)
        });
        let (mut waiting, wires) = (JoinSet::new(), join_all(open).await);
        for (number, mut wire) in wires {
            wire.ask(&wire::get("/v2/customers/42", &trace_of(number))).await.unwrap();
            waiting.spawn(async move { (number, wire.answer().await) });
        }
        waiting
    }

    /// Waits until so many callers of each sidecar sit in a flight that was there before they came.
    async fn until_joined(&self, callers: f64) {
        let all = join_all(self.sidecars.iter().map(|sidecar| async move {
            while sidecar.metric("bfb_cache_collapsed_total", &[]).await != Some(callers) {
                tokio::time::sleep(LOOK).await;
            }
        }));
        assert!(tokio::time::timeout(PATIENCE, all).await.is_ok(), "not everybody was seated");
    }

    /// How often each sidecar has asked each source, where it has.
    fn asked(&self) -> Vec<Vec<usize>> {
        self.asked.iter().map(|asked| asked.lock().unwrap().values().copied().collect()).collect()
    }

    /// How often the fleet has asked each source.
    fn asked_in_all(&self) -> Vec<usize> {
        self.asked().iter().map(|by_sidecar| by_sidecar.iter().sum()).collect()
    }

    /// Whether each source was asked just so often. A run in which claims lapsed shows no more than that nothing else was
    /// asked beyond them: then no.
    fn has_asked(&self, times: usize, lapses: f64) -> bool {
        let asked = self.asked_in_all();
        if lapses > 0.0 {
            let most = f64::from(u32::try_from(times).unwrap()) + lapses;
            let mut counts = asked.iter().map(|&count| f64::from(u32::try_from(count).unwrap()));
            assert!(counts.all(|count| count <= most), "{asked:?} for {times}, and {lapses} lapses");
            return false;
        }
        assert_eq!(asked, [times, times]);
        true
    }

    /// How many claims a sidecar has lost, or could not ask for.
    async fn lapses_of(&self, sidecar: usize) -> f64 {
        let mut lapses = 0.0;
        for name in ["bfb_claims_lost_total", "bfb_claims_missed_total", "bfb_lease_losses_total"] {
            lapses += self.sidecars[sidecar].metric(name, &[]).await.unwrap();
        }
        lapses
    }

    /// The same of all that are alive.
    async fn lapses(&self, killed: Option<usize>) -> f64 {
        let mut lapses = 0.0;
        for sidecar in (0..SIDECARS).filter(|sidecar| Some(*sidecar) != killed) {
            lapses += self.lapses_of(sidecar).await;
        }
        lapses
    }

    /// Waits until each source was asked so often.
    async fn until_asked(&self, times: usize) {
        for source in &self.sources {
            source.requests(times).await;
        }
    }
}

/// Everybody's answer but those of who asked a sidecar that was killed; each is whole.
async fn answers(
    mut waiting: JoinSet<(usize, std::io::Result<Answer>)>,
    killed: Option<usize>,
) -> Vec<(usize, Answer)> {
    let mut answers = Vec::new();
    while let Some(ended) = waiting.join_next().await {
        let (number, answer) = ended.unwrap();
        if killed == Some(number) {
            continue;
        }
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answers.push((number, answer));
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_sidecar_has_one_flight_running_and_one_waiting() {
    let (first, second) = (watch::Sender::new(false), watch::Sender::new(false));
    let mut crowd = Crowd::gather(vec![first.subscribe(), second.subscribe()]).await;
    crowd.redis.kill();
    for sidecar in &crowd.sidecars {
        until_lease(sidecar, false).await;
    }
    let waiting = crowd.stampede().await;
    // One began a flight; one more leads those who wait for the next, since all of them came after it began.
    crowd.until_joined(CALLERS - 2.0).await;
    assert_eq!(crowd.asked(), [vec![1; SIDECARS], vec![1; SIDECARS]], "one runs");
    first.send_replace(true);
    crowd.until_asked(2 * SIDECARS).await;
    second.send_replace(true);
    let answers = answers(waiting, None).await;
    assert_eq!(answers.len(), SIDECARS * CONSUMERS);
    assert_eq!(crowd.asked(), [vec![2; SIDECARS], vec![2; SIDECARS]], "one runs, one has waited");
    let first = answers.iter().filter(|(_, answer)| answer.text() == r#"{"profile":{"n":1},"orders":{"n":1}}"#);
    assert_eq!(first.count(), SIDECARS, "nobody joined a flight that began before they came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_the_whole_fleet_reads_each_source_once() {
    for _ in 0..RUNS_MAX {
        let gate = watch::Sender::new(false);
        let crowd = Crowd::gather(vec![gate.subscribe()]).await;
        let waiting = crowd.stampede().await;
        crowd.until_joined(CALLERS - 1.0).await;
        crowd.until_asked(1).await;
        gate.send_replace(true);
        let answers = answers(waiting, None).await;
        assert_eq!(answers.len(), SIDECARS * CONSUMERS);
        let whole = |text: &str| text.starts_with(r#"{"profile":{"n":"#) && text.contains(r#","orders":{"n":"#);
        assert!(answers.iter().all(|(_, answer)| whole(&answer.text())));
        if crowd.has_asked(1, crowd.lapses(None).await) {
            return;
        }
    }
    panic!("each of {RUNS_MAX} runs was disturbed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_in_mid_flight_is_taken_over_from_once() {
    for _ in 0..RUNS_MAX {
        let gate = watch::Sender::new(false);
        let crowd = Crowd::gather(vec![gate.subscribe()]).await;
        let waiting = crowd.stampede().await;
        crowd.until_joined(CALLERS - 1.0).await;
        crowd.until_asked(1).await;
        let leader = *crowd.asked[0].lock().unwrap().keys().next().unwrap();
        let before = crowd.lapses_of(leader).await;
        crowd.sidecars[leader].signal("KILL");
        let killed = Instant::now();
        crowd.until_asked(2).await;
        gate.send_replace(true);
        // Its own callers' connections died with it.
        let answers = answers(waiting, Some(leader)).await;
        let took = killed.elapsed();
        assert!(took <= TAKEOVER_MAX, "the last caller waited {took:?} after the leader's death");
        assert_eq!(answers.len(), (SIDECARS - 1) * CONSUMERS);
        if crowd.has_asked(2, before + crowd.lapses(Some(leader)).await) {
            return;
        }
    }
    panic!("each of {RUNS_MAX} runs was disturbed");
}
