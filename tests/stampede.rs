//! *One read*, under a stampede: 20 sidecars, 50 consumers at each, and all request one cold key at
//! once.
//!
//! The sources hold their answers back until every caller has joined a flight, so the counts do not
//! depend on how fast the machine is. The trace tells which sidecar a request to a source came
//! from: the consumers of a sidecar name it in theirs.
//!
//! The effects of a starved machine on a claim are counted ([`OneRead`]), so that no run is thrown
//! away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::fleet::until_lease;
use crate::support::claims::{OneRead, holder};
use crate::support::client::TEST_TIMEOUT;
use crate::support::domain::DomainFile;
use crate::support::redis::Redis;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{ReceivedRequest, Reply, Upstream};
use crate::support::wire::{self, Answer, Wire};

const SIDECARS: usize = 20;
const CONSUMERS: usize = 50;
/// The same number, as metrics show it.
const CALLERS: f64 = 50.0;
/// The pause between two reads of a sidecar's metrics: without it twenty sidecars would do nothing
/// else.
const LOOK: Duration = Duration::from_millis(10);
/// A claim that its holder has renewed so often is older than an unrenewed one can be.
const RENEWALS: usize = 4;
/// Longer than a busy machine pauses a sidecar: without the lease each collects for itself.
const LONG_LEASE: &str = "30s";
/// For the one test that waits for its expiry.
const SHORT_LEASE: &str = "4s";
/// The sources, each a server of its own.
const SOURCES: [&str; 2] = ["profile", "orders"];

/// The fleet, its sources, and the number of requests from each sidecar to each source.
struct Crowd {
    redis: Redis,
    reads: OneRead,
    sidecars: Vec<Sidecar>,
    sources: Vec<Upstream>,
    requests: Vec<Arc<Mutex<BTreeMap<usize, usize>>>>,
}

/// The header by which a consumer names its sidecar.
fn trace_of(sidecar: usize) -> String {
    format!("traceparent: 00-{:032x}-0000000000000001-01\r\n", sidecar + 1)
}

fn named_by(seen: &ReceivedRequest) -> usize {
    usize::from_str_radix(seen.header("traceparent").split('-').nth(1).unwrap(), 16).unwrap() - 1
}

/// A sidecar's name in Redis.
fn label(sidecar: usize) -> String {
    format!("sidecar-{sidecar}")
}

fn number_of(label: &str) -> Option<usize> {
    label.strip_prefix("sidecar-")?.parse().ok()
}

impl Crowd {
    /// A fleet that holds its lease. Each sidecar's first request to a source waits behind the
    /// first gate, and so on; one without a gate is answered at once.
    async fn gather(gates: Vec<watch::Receiver<bool>>, lease: &str) -> Self {
        let redis = Redis::start();
        let mut sources = Vec::new();
        let mut all_asked = Vec::new();
        let mut domain = DomainFile::of("customer").head("cache: {ttl: 10m}").head("deadline: 2m");
        for name in SOURCES {
            let (source, requests) =
                (Upstream::plain().await, Arc::<Mutex<BTreeMap<usize, usize>>>::default());
            let gates = gates.clone();
            let counts = Arc::clone(&requests);
            source.handles("/42", move |request| {
                let mut counts = counts.lock().unwrap();
                let times = counts.entry(named_by(request)).or_default();
                *times += 1;
                let reply = Reply::json(format!("{{\"n\":{times}}}"));
                gates.get(*times - 1).map_or(reply.clone(), |gate| reply.held_until(gate.clone()))
            });
            domain = domain.source(name, &source, "/{key}", &["retries: 0"]);
            sources.push(source);
            all_asked.push(requests);
        }
        let mut sidecars = Vec::new();
        for number in 0..SIDECARS {
            let args = ["--memory", "64MiB", "--redis", &redis.url(), "--lease", lease];
            let setup = Setup::of(&[&domain]).insecure().args(&args);
            // In Redis a sidecar's name begins with the name of its host.
            sidecars.push(setup.env("HOSTNAME", &label(number)).start().await);
        }
        for sidecar in &sidecars {
            until_lease(sidecar, true).await;
        }
        let reads = OneRead::of(&redis, &sidecars).await;
        Self { redis, reads, sidecars, sources, requests: all_asked }
    }

    /// All consumers send their request. Returns as soon as all have.
    async fn stampede(&self) -> JoinSet<(usize, std::io::Result<Answer>)> {
        let consumers = (0..SIDECARS).flat_map(|number| [number; CONSUMERS]);
        let open = consumers.map(|number| async move {
            let wire = Wire::open_patiently(self.sidecars[number].listen()).await.unwrap();
            (number, wire)
        });
        let mut waiting = JoinSet::new();
        let wires = join_all(open).await;
        for (number, mut wire) in wires {
            wire.ask(&wire::get("/v2/customers/42", &trace_of(number))).await.unwrap();
            waiting.spawn(async move { (number, wire.answer().await) });
        }
        waiting
    }

    /// Waits until so many callers of each sidecar have joined a flight.
    async fn until_joined(&self, callers: f64) {
        join_all(self.sidecars.iter().map(|sidecar| sidecar.until_joined(callers))).await;
    }

    /// The numbers of requests from each sidecar to each source, without zeros.
    fn requests(&self) -> Vec<Vec<usize>> {
        self.requests
            .iter()
            .map(|requests| requests.lock().unwrap().values().copied().collect())
            .collect()
    }

    /// Asserts that the fleet requested each source once, except for the counted causes of more.
    /// Returns how many sidecars did.
    async fn assert_one_read(&self, killed: Option<usize>) -> usize {
        let requests = self.requests();
        assert!(
            requests.iter().flatten().all(|times| *times == 1),
            "a sidecar asked twice: {requests:?}"
        );
        let most = requests.iter().map(Vec::len).max().unwrap();
        self.reads.assert(most, &self.redis, &self.sidecars, killed).await;
        most
    }

    /// The sidecar that holds the claim and has sent a request to every source.
    async fn leader(&self) -> usize {
        let found = async {
            loop {
                let holder = holder(&self.redis).and_then(|label| number_of(&label));
                let has_asked = |number| {
                    self.requests
                        .iter()
                        .all(|requests| requests.lock().unwrap().contains_key(&number))
                };
                if let Some(number) = holder.filter(|number| has_asked(*number)) {
                    return number;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(TEST_TIMEOUT, found)
            .await
            .expect("a holder of the claim that collects")
    }

    /// Waits until another sidecar than `leader` holds the claim.
    async fn until_taken_over_from(&self, leader: usize) {
        let taken = async {
            while holder(&self.redis).is_none_or(|label| number_of(&label) == Some(leader)) {
                tokio::time::sleep(LOOK).await;
            }
        };
        assert!(
            tokio::time::timeout(TEST_TIMEOUT, taken).await.is_ok(),
            "nobody took the claim over"
        );
    }

    /// Waits until each source got so many requests.
    async fn until_asked(&self, times: usize) {
        for source in &self.sources {
            source.requests(times).await;
        }
    }
}

/// All answers except those of consumers of a killed sidecar; each is complete.
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
    let first = watch::Sender::new(false);
    let second = watch::Sender::new(false);
    let mut crowd = Crowd::gather(vec![first.subscribe(), second.subscribe()], SHORT_LEASE).await;
    crowd.redis.kill();
    for sidecar in &crowd.sidecars {
        until_lease(sidecar, false).await;
    }
    let waiting = crowd.stampede().await;
    // One began a flight; one more leads those that wait for the next, because all of them came
    // after it began.
    crowd.until_joined(CALLERS - 2.0).await;
    assert_eq!(crowd.requests(), [vec![1; SIDECARS], vec![1; SIDECARS]], "one runs");
    first.send_replace(true);
    crowd.until_asked(2 * SIDECARS).await;
    second.send_replace(true);
    let answers = answers(waiting, None).await;
    assert_eq!(answers.len(), SIDECARS * CONSUMERS);
    assert_eq!(
        crowd.requests(),
        [vec![2; SIDECARS], vec![2; SIDECARS]],
        "one runs, one has waited"
    );
    let first = answers
        .iter()
        .filter(|(_, answer)| answer.text() == r#"{"profile":{"n":1},"orders":{"n":1}}"#);
    assert_eq!(first.count(), SIDECARS, "nobody joined a flight that began before they came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_the_whole_fleet_reads_each_source_once() {
    let gate = watch::Sender::new(false);
    let crowd = Crowd::gather(vec![gate.subscribe()], LONG_LEASE).await;
    let waiting = crowd.stampede().await;
    crowd.until_joined(CALLERS - 1.0).await;
    crowd.until_asked(1).await;
    crowd.reads.claims.until_renewed(RENEWALS).await;
    gate.send_replace(true);
    let answers = answers(waiting, None).await;
    assert_eq!(answers.len(), SIDECARS * CONSUMERS);
    let whole = r#"{"profile":{"n":1},"orders":{"n":1}}"#;
    assert!(answers.iter().all(|(_, answer)| answer.text() == whole));
    crowd.assert_one_read(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_in_mid_flight_is_taken_over_from_once() {
    let gate = watch::Sender::new(false);
    let crowd = Crowd::gather(vec![gate.subscribe()], LONG_LEASE).await;
    let waiting = crowd.stampede().await;
    crowd.until_joined(CALLERS - 1.0).await;
    let leader = crowd.leader().await;
    crowd.sidecars[leader].signal("KILL");
    crowd.until_taken_over_from(leader).await;
    crowd.until_asked(2).await;
    crowd.reads.claims.until_renewed(RENEWALS).await;
    gate.send_replace(true);
    // The connections of the leader's own callers ended with it.
    let answers = answers(waiting, Some(leader)).await;
    assert_eq!(answers.len(), (SIDECARS - 1) * CONSUMERS);
    assert!(crowd.assert_one_read(Some(leader)).await >= 2, "nobody took over");
}
