//! One run: a fleet, readers, writers, a schedule, and the report.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::faults::{Fleet, SidecarRecipe, TTL, cache_of};
use super::oracle::{DOMAINS, Subject};
use super::readers::reader;
use super::schedule::{DECK, Step, schedule};
use super::tally::Tally;
use super::world::{Finding, World};
use super::writers::writer;
use crate::support::domain::DomainFile;
use crate::support::upstream::{Reply, Upstream};

const MEMBERS: usize = 5;
const WRITERS: usize = 4;
/// Short, so that much happens in a short time.
const LEASE: Duration = Duration::from_millis(800);
/// The part of the schedule before a finding that the report shows.
const AROUND: Duration = Duration::from_secs(8);

/// The settings of a run.
pub(super) struct Plan {
    seed: u64,
    length: Duration,
    readers: usize,
    /// The time between two reads of a reader.
    gap: Duration,
    without: Option<(PathBuf, String)>,
}

/// The results of a run.
pub(super) struct Report {
    seed: u64,
    lasted: Duration,
    tally: Tally,
    compared: u64,
    schedule: Vec<Step>,
    pub(super) findings: Vec<Finding>,
    last_words: String,
}

impl Plan {
    /// A run at a pace that leaves room for others; with `BFB_HISTORY_SECONDS` one of that length,
    /// at full speed. Its seed is `BFB_HISTORY_SEED`, or random.
    pub(super) fn new(length: Duration) -> Self {
        let number_from_env =
            |name| std::env::var(name).ok().map(|number| number.parse::<u64>().unwrap());
        let seed = number_from_env("BFB_HISTORY_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
        match number_from_env("BFB_HISTORY_SECONDS").map(Duration::from_secs) {
            Some(length) => {
                Self { seed, length, readers: 24, gap: Duration::from_millis(1), without: None }
            }
            None => {
                Self { seed, length, readers: 20, gap: Duration::from_millis(24), without: None }
            }
        }
    }

    /// The same over another build of the program, without a guard.
    pub(super) fn without(self, program: PathBuf, guard: &str) -> Self {
        Self { without: Some((program, guard.to_owned())), ..self }
    }
}

/// Runs the plan. It ends early at the first finding.
pub(super) async fn run(plan: Plan) -> Report {
    let sources = [Upstream::plain().await, Upstream::plain().await];
    let world = World::new(MEMBERS);
    serve_numbers(&world, &sources);
    let recipe = SidecarRecipe { domains: domains(&sources), lease: LEASE, without: plan.without };
    let mut fleet = Fleet::start(&world, MEMBERS, recipe, plan.seed).await;
    let begins = world.oracle.now();
    let steps: Vec<_> = schedule(plan.seed, plan.length, MEMBERS, LEASE)
        .into_iter()
        .map(|step| Step { from: begins + step.from, until: begins + step.until, ..step })
        .collect();
    let rng = |number: usize| fastrand::Rng::with_seed(plan.seed.wrapping_add(1 + number as u64));
    let mut busy = JoinSet::new();
    (0..plan.readers)
        .for_each(|number| drop(busy.spawn(reader(Arc::clone(&world), rng(number), plan.gap))));
    (0..WRITERS).for_each(|number| {
        drop(busy.spawn(writer(Arc::clone(&world), rng(1_000 + number), LEASE * 2)));
    });
    fleet.run_schedule(&steps).await;
    let rest = (begins + plan.length).saturating_sub(world.oracle.now());
    let _ = tokio::time::timeout(rest, world.over.cancelled()).await;
    world.over.cancel();
    while let Some(ended) = busy.join_next().await {
        ended.unwrap();
    }
    let lasted = world.oracle.now().saturating_sub(begins);
    world.tasks.close();
    if world.findings().is_empty() {
        world.tasks.wait().await;
        fleet.wait_recovered().await;
    }
    let findings = world.findings();
    let compared = world.oracle.compared_across_versions();
    let last_words = if findings.is_empty() { String::new() } else { fleet.last_log_lines() };
    Report {
        seed: plan.seed,
        lasted,
        tally: world.tally(),
        compared,
        schedule: steps,
        findings,
        last_words,
    }
}

/// Both sources show the numbers of the oracle, some of them after a while: an answer may be
/// outdated by the time it arrives.
fn serve_numbers(world: &Arc<World>, sources: &[Upstream; 2]) {
    for subject in (0..DOMAINS.len()).flat_map(Subject::of) {
        for (at, source) in sources.iter().enumerate() {
            let world = Arc::clone(world);
            source.handles(&format!("/{}/{}", DOMAINS[subject.domain], subject.key), move |_| {
                let (n, tag) = (world.oracle.number(subject), subject.tag());
                let body = if at == 0 {
                    format!(r#"{{"n":{n},"tag":{tag}}}"#)
                } else {
                    format!(r#"{{"n":{n}}}"#)
                };
                let after = match fastrand::u32(..20) {
                    0 => fastrand::u64(30..80),
                    1..=4 => fastrand::u64(1..10),
                    _ => 0,
                };
                let reply =
                    Reply::json(body).etag(&format!("\"{n}\"")).after(Duration::from_millis(after));
                let hangs = !*world.sources_answer.borrow() && fastrand::bool();
                if hangs { reply.held_until(world.sources_answer.subscribe()) } else { reply }
            });
        }
    }
    sources.iter().for_each(Upstream::forget);
}

fn domains(sources: &[Upstream; 2]) -> Vec<DomainFile> {
    let domain = |name: &&str| {
        DomainFile::of(name)
            .head(&format!("atomicity: {name}"))
            .head(&cache_of(TTL))
            .source("a", &sources[0], &format!("/{name}/{{key}}"), &[])
            .source("b", &sources[1], &format!("/{name}/{{key}}"), &[])
            .version("v1", &[&format!("path: '/v1/{name}/{{key}}'"), "shape: '{a: .a.n, b: .b.n}'"])
            .version("v2", &[&format!("path: '/v2/{name}/{{key}}'")])
    };
    DOMAINS.iter().map(domain).collect()
}

impl Report {
    /// Asserts that the run had enough reads, hits and faults to show anything.
    pub(super) fn has_seen_enough(&self) {
        let seconds = self.lasted.as_secs();
        let tally = &self.tally;
        let enough = |what: &str, count: u64, least: u64| {
            assert!(count >= least, "{what}: {count}, expected {least}\n{self}");
        };
        enough("reads", tally.all("read"), 50 * seconds);
        enough("hits", tally.beginning("read", "hit"), tally.all("read") / 10);
        enough("hits from memory", tally.beginning("read", "hit memory"), 10 * seconds);
        enough("hits from redis", tally.beginning("read", "hit redis"), seconds / 2);
        enough("acknowledgements", tally.all("acknowledged"), 2 * seconds);
        enough("datasets met in both versions", self.compared, seconds);
        enough("faults", tally.all("fault"), seconds / 2);
        enough(
            "sorts of faults",
            tally.sorts("fault").len() as u64,
            (seconds / 2).min(DECK.len() as u64),
        );
        assert_eq!(tally.beginning("late", "never"), 0, "a request was never answered\n{self}");
        enough("reads with a wish", tally.all("wish"), seconds);
        let may_be = ["503 contended", "504 not-cached"];
        let failed: Vec<_> =
            tally.sorts("problem").into_iter().filter(|sort| !may_be.contains(sort)).collect();
        assert!(failed.is_empty(), "requests failed: {failed:?}\n{self}");
    }

    /// The time until the first finding, and its first line.
    pub(super) fn first(&self) -> Option<(Duration, &str)> {
        let first = self.findings.first()?;
        Some((first.at, first.text.lines().next().unwrap_or_default()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.seed;
        let seconds = self.lasted.as_secs_f64();
        let reads = self.tally.all("read");
        #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let share =
            |sort: &str| 100.0 * self.tally.beginning("read", sort) as f64 / reads.max(1) as f64;
        writeln!(f, "history of {seconds:.1} s (BFB_HISTORY_SEED={seed}): {reads} reads")?;
        writeln!(f, "  {:.1} % hits, {:.1} % bypass", share("hit"), share("fwd=bypass"))?;
        write!(f, "{}", self.tally)?;
        writeln!(f, "  {} datasets were met in both versions", self.compared)?;
        for Finding { at, text } in &self.findings {
            writeln!(f, "\nBROKEN at {:.3} s: {text}  what broke around it:", at.as_secs_f64())?;
            let near = |step: &&Step| step.from <= *at && step.until + AROUND >= *at;
            self.schedule.iter().filter(near).try_for_each(|step| writeln!(f, "    {step}"))?;
        }
        f.write_str(&self.last_words)
    }
}
