//! The state that readers, writers and the injector share: the oracle, the address of each sidecar,
//! the counts, the findings.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::oracle::{DOMAINS, Oracle, PendingRead};
use super::tally::Tally;
use crate::support::wire::{self, Answer, Wire};

/// Requests whose readers have gone on, and whose answers are judged all the same.
const LATE_MAX: usize = 512;
/// After so long an answer will not come: a paused process was resumed long ago, and the domains'
/// deadline is over.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
/// How long a report may wait for a sidecar's status.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Findings that are kept; the first is the one that matters.
const FINDINGS_MAX: usize = 10;

/// The addresses of a sidecar of the fleet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) member: usize,
    /// The number of the process, counted from the first one of this member.
    pub(super) life: usize,
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// A broken promise, with the state of the sidecar.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) at: Duration,
    pub(super) text: String,
}

/// The shared state.
pub(super) struct World {
    pub(super) oracle: Oracle,
    places: Vec<RwLock<Option<Place>>>,
    /// The run is over, or there is a finding.
    pub(super) over: CancellationToken,
    tally: Mutex<Tally>,
    findings: Mutex<Vec<Finding>>,
    late: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    /// Whether the sources answer all requests.
    pub(super) sources_answer: watch::Sender<bool>,
}

/// The words of `Cache-Status` that tell the origin, without the ttl: `hit memory`, `fwd=miss
/// stored`.
fn cache_status_words(status: &str) -> String {
    let words = status.split("; ").filter(|word| *word != "bfb" && !word.starts_with("ttl="));
    words.map(|word| word.strip_prefix("detail=").unwrap_or(word)).collect::<Vec<_>>().join(" ")
}

impl World {
    pub(super) fn new(members: usize) -> Arc<Self> {
        Arc::new(Self {
            oracle: Oracle::new(),
            places: (0..members).map(|_| RwLock::default()).collect(),
            over: CancellationToken::new(),
            tally: Mutex::default(),
            findings: Mutex::default(),
            late: Arc::new(Semaphore::new(LATE_MAX)),
            tasks: TaskTracker::new(),
            sources_answer: watch::Sender::new(true),
        })
    }

    /// A random sidecar, unless its process is missing; it may be paused.
    pub(super) fn random_place(&self, rng: &mut fastrand::Rng) -> Option<Place> {
        self.place(rng.usize(..self.places.len()))
    }

    /// The addresses of a member, if it has a process.
    pub(super) fn place(&self, member: usize) -> Option<Place> {
        *self.places[member].read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, member: usize, place: Option<Place>) {
        *self.places[member].write().unwrap_or_else(PoisonError::into_inner) = place;
    }

    pub(super) fn count(&self, kind: &'static str, sort: &str) {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).count(kind, sort);
    }

    pub(super) fn add(&self, tally: &Tally) {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).add(tally);
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Judges an answer and counts it.
    pub(super) async fn judge(
        &self,
        place: Place,
        read: PendingRead,
        answer: &Answer,
        tally: &mut Tally,
    ) {
        if answer.status != 200 {
            let problem: serde_json::Value =
                serde_json::from_slice(&answer.body).unwrap_or_default();
            let name =
                problem["type"].as_str().unwrap_or("no problem").trim_start_matches("urn:bfb:");
            return tally.count("problem", &format!("{} {name}", answer.status));
        }
        let status = answer.header("cache-status");
        tally.count("read", &cache_status_words(status));
        let age = answer.header("age").parse::<u64>().unwrap_or(u64::MAX);
        let is_hit = status.starts_with("bfb; hit");
        if let Some(max_age) = read.max_age.filter(|max_age| is_hit && age > *max_age) {
            let why = format!("older than was asked for: {age} s, and `max-age={max_age}`");
            self.report_finding(place, read, &why, status, &answer.text()).await;
        }
        if let Err(why) = self.oracle.judge(&read, answer) {
            self.report_finding(place, read, &why, status, &answer.text()).await;
        }
    }

    /// A promise is broken: records the state of the sidecar, and ends the run.
    async fn report_finding(
        &self,
        place: Place,
        read: PendingRead,
        why: &str,
        status: &str,
        body: &str,
    ) {
        let at = self.oracle.now();
        self.over.cancel();
        let PendingRead { subject, version, began, floor, .. } = read;
        let domain = DOMAINS[subject.domain];
        let note = self.oracle.acknowledgement_note(subject);
        let mut text = format!(
            "{why}\n  read {version:?} of {domain} {} at sidecar {} (its life {}), \
             began {began:.3?}, answered {at:.3?}\n  \
             floor {floor}; acknowledged {note}; the sources show {}\n  cache-status: \
             {status}\n  {body}\n",
            subject.key,
            place.member,
            place.life,
            self.oracle.number(subject)
        );
        for path in [format!("/datasets/{domain}/{}?data=1", subject.key), "/status".to_owned()] {
            let shown = wire::once(place.admin, &wire::get(&path, ""), LOOK_MAX).await;
            let shown = shown.map_or_else(|error| error.to_string(), |answer| answer.text());
            writeln!(text, "  {path}: {shown}").unwrap();
        }
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        if findings.len() < FINDINGS_MAX {
            findings.push(Finding { at, text });
        }
    }

    /// Goes on waiting for an answer that is later than its reader's patience: it is judged by the
    /// time of its request.
    pub(super) fn judge_later(self: &Arc<Self>, mut wire: Wire, place: Place, read: PendingRead) {
        let Ok(room) = Arc::clone(&self.late).try_acquire_owned() else {
            return self.count("late", "left");
        };
        let world = Arc::clone(self);
        self.tasks.spawn(async move {
            let _room = room;
            let mut tally = Tally::default();
            match tokio::time::timeout(ANSWER_TIMEOUT, wire.answer()).await {
                Ok(Ok(answer)) => {
                    tally.count("late", "answered");
                    world.judge(place, read, &answer, &mut tally).await;
                }
                Ok(Err(_)) => tally.count("late", "broken off"),
                Err(_) => tally.count("late", "never answered"),
            }
            world.add(&tally);
        });
    }
}

#[test]
fn how_an_answer_came_is_told_without_its_time() {
    assert_eq!(cache_status_words("bfb; hit; ttl=41; detail=memory"), "hit memory");
    assert_eq!(cache_status_words("bfb; fwd=miss; stored"), "fwd=miss stored");
}
