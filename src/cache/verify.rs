//! `--verify RATE`: the cache measures itself. A sample of the served hits is read again from the
//! sources in the background and compared, as Meta's Polaris does for theirs ("Cache made
//! consistent", 2022).
//!
//! A difference alone is no fault: the source may have changed a moment ago, and its invalidation
//! be on the way. So the cache is given a lease of time to receive it. An entry that is valid even
//! then, while the sources still contradict it, was a wrong answer: its invalidation was not sent,
//! or lost. Nothing that is read here is stored.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::entry::CacheEntry;
use super::policy::Policy;
use crate::collect::{
    self, CollectContext, CollectError, Collector, Outstanding, UnansweredSources,
};
use crate::resources::{MemoryShare, WorkMemory};
use crate::settings::SampleRate;

/// Samples that wait for their turn; a further one is skipped.
const WAITING_MAX: usize = 256;
/// Samples that are looked at, those that are given time among them.
const AT_ONCE_MAX: usize = 16;

/// Takes the samples; clones share everything.
#[derive(Debug, Clone)]
pub struct HitVerifier {
    rate: SampleRate,
    samples: mpsc::Sender<Sample>,
    counts: Arc<VerifierCounts>,
}

/// Verifies the samples: [`SampleVerifier::verify`] is to be spawned by the owner of the cache.
#[derive(Debug)]
pub struct SampleVerifier {
    waiting: mpsc::Receiver<Sample>,
    counts: Arc<VerifierCounts>,
    /// How long an invalidation may be on its way.
    patience: Duration,
}

/// One hit, and the context in which it is compared.
#[derive(Debug)]
struct Sample {
    hit: SampledHit,
    served: Instant,
}

/// The entry that was served, and the parts that ask its sources again.
#[derive(Debug)]
pub(super) struct SampledHit {
    pub(super) key: Arc<str>,
    pub(super) entry: Arc<CacheEntry>,
    pub(super) policy: Policy,
    pub(super) collector: Arc<Collector>,
    /// The domain's share of memory.
    pub(super) share: MemoryShare,
}

/// The counts of verdicts.
#[derive(Debug, Default)]
struct VerifierCounts {
    checked: Counter,
    wrong: Counter,
    unknown: Counter,
    skipped: Counter,
    nines: Gauge<f64, AtomicU64>,
    oldest_wrong: Gauge<f64, AtomicU64>,
    /// Held to compare two numbers.
    oldest: Mutex<Duration>,
}

/// The counts of verdicts, for `GET /status`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct VerifierStatus {
    /// The share of the hits that is looked at.
    pub rate: f64,
    /// Samples that were judged.
    pub checked: u64,
    /// Those that were wrong answers.
    pub wrong: u64,
    /// Samples that could not be judged: the sources failed, or contradict themselves.
    pub unknown: u64,
    /// How many nines of consistency that shows: 3 for fewer than one wrong answer in a thousand.
    pub nines: f64,
    /// How old the oldest wrong answer was, in seconds: it was wrong for at most that long.
    pub oldest_wrong_seconds: f64,
}

/// The verdict on a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SampleVerdict {
    /// The sources give the same, or the change has been invalidated since.
    Right,
    Wrong,
    Unknown,
}

/// A verifier of that share of the hits, and the task that compares its samples; `patience` is the
/// fleet's lease.
pub fn verifier(
    rate: SampleRate,
    patience: Duration,
    registry: &mut Registry,
) -> (HitVerifier, SampleVerifier) {
    let (samples, waiting) = mpsc::channel(WAITING_MAX);
    let counts = Arc::new(VerifierCounts::default());
    let registry = registry.sub_registry_with_prefix("verify");
    registry.register(
        "checked",
        "Hits that were compared with the sources",
        counts.checked.clone(),
    );
    registry.register("wrong", "Hits that were wrong answers", counts.wrong.clone());
    registry.register("unknown", "Hits that could not be compared", counts.unknown.clone());
    registry.register("skipped", "Sampled hits that found no room", counts.skipped.clone());
    registry.register("nines", "Nines of consistency shown", counts.nines.clone());
    let help = "Age of the oldest wrong answer";
    registry.register("oldest_wrong_seconds", help, counts.oldest_wrong.clone());
    (
        HitVerifier { rate, samples, counts: counts.clone() },
        SampleVerifier { waiting, counts, patience },
    )
}

impl HitVerifier {
    /// Takes a hit as a sample, now and then.
    pub(super) fn sample(&self, hit: impl FnOnce() -> SampledHit) {
        if fastrand::f64() >= self.rate.share() {
            return;
        }
        let sample = Sample { hit: hit(), served: Instant::now() };
        if self.samples.try_send(sample).is_err() {
            self.counts.skipped.inc();
        }
    }

    /// The counts so far.
    pub fn status(&self) -> VerifierStatus {
        let counts = &self.counts;
        VerifierStatus {
            rate: self.rate.share(),
            checked: counts.checked.get(),
            wrong: counts.wrong.get(),
            unknown: counts.unknown.get(),
            nines: counts.nines.get(),
            oldest_wrong_seconds: counts.oldest_wrong.get(),
        }
    }
}

impl SampleVerifier {
    /// Compares the samples as they arrive, until it is dropped.
    pub async fn verify(mut self) {
        let mut looking = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(sample) = self.waiting.recv(), if looking.len() < AT_ONCE_MAX => {
                    let patience = self.patience;
                    looking.push(async move { (sample.judge(patience).await, sample) });
                }
                Some((verdict, sample)) = looking.next() => self.counts.count(verdict, &sample),
                else => return,
            }
        }
    }
}

impl Sample {
    async fn judge(&self, patience: Duration) -> SampleVerdict {
        match self.hit.is_same_at_sources().await {
            Some(true) => return SampleVerdict::Right,
            None => return SampleVerdict::Unknown,
            Some(false) => {}
        }
        sleep(patience).await;
        if !self.hit.policy.is_current(&self.hit.entry, &self.hit.key) {
            return SampleVerdict::Right;
        }
        match self.hit.is_same_at_sources().await {
            Some(false) => SampleVerdict::Wrong,
            // A source that changes back and forth proves nothing about the cache.
            Some(true) | None => SampleVerdict::Unknown,
        }
    }
}

impl SampledHit {
    /// Whether the sources still give the parts that were served.
    async fn is_same_at_sources(&self) -> Option<bool> {
        // Where memory is short, this is the first to go without.
        let reserved = self.share.try_reserve(2 * self.entry.body_bytes() as u64)?;
        let memory = WorkMemory::new(reserved, Instant::now());
        let outstanding = Outstanding::default();
        let unanswered = UnansweredSources::default();
        let work =
            CollectContext { memory: &memory, outstanding: &outstanding, unanswered: &unanswered };
        let served = self.entry.dataset(self.policy.domain());
        let served_parts = served.as_ref().map(|dataset| dataset.parts.clone());
        let options = collect::CollectOptions {
            no_cache: true,
            previous_parts: served_parts,
            ..collect::CollectOptions::without_caller()
        };
        let (result, _) = self.collector.collect(&self.key, options, work).await;
        match (result, &served) {
            (Ok(now), Some(served)) => Some(now.body == served.body),
            (Err(CollectError::NotFound { .. }), None) => Some(true),
            (Ok(_), None) | (Err(CollectError::NotFound { .. }), Some(_)) => Some(false),
            (
                Err(
                    CollectError::Failed { .. }
                    | CollectError::BadKey { .. }
                    | CollectError::Overloaded { .. },
                ),
                _,
            ) => None,
        }
    }
}

impl VerifierCounts {
    fn count(&self, verdict: SampleVerdict, sample: &Sample) {
        match verdict {
            SampleVerdict::Unknown => {
                self.unknown.inc();
                return;
            }
            SampleVerdict::Right => {}
            SampleVerdict::Wrong => {
                self.wrong.inc();
                let age = sample.hit.entry.age(sample.served);
                let mut oldest = self.oldest.lock();
                *oldest = age.max(*oldest);
                self.oldest_wrong.set(oldest.as_secs_f64());
                let domain = &sample.hit.policy.domain().name;
                let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(%domain, age_ms, "a wrong answer was served: \
                     its source has changed and no invalidation came");
            }
        }
        self.checked.inc();
        self.nines.set(nines(self.wrong.get(), self.checked.get()));
    }
}

/// How many nines are shown by so many wrong answers among so many: never more than a further wrong
/// one would leave.
#[allow(clippy::cast_precision_loss, reason = "a count of hits fits")]
fn nines(wrong: u64, checked: u64) -> f64 {
    -((wrong + 1) as f64 / (checked + 1) as f64).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nines_are_shown_and_never_assumed() {
        assert!((nines(0, 0) - 0.0).abs() < 1e-9);
        assert!((nines(0, 999) - 3.0).abs() < 1e-9);
        assert!((nines(9, 999) - 2.0).abs() < 1e-9);
    }
}
