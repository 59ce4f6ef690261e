//! The numbers that were written and acknowledged, and the judgement of each answer by them.
//!
//! Every key has one number that only goes up; both sources show it. A read notes the highest
//! number acknowledged *before its first byte left*: its floor. An answer below its floor breaks
//! *Fresh*. It is judged as it comes, so a run of any length takes the same memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::support::wire::Answer;

/// The domains: one of each atomicity.
pub(super) const DOMAINS: [&str; 2] = ["complete", "snapshot"];
/// The keys of a domain.
pub(super) const KEYS: usize = 24;
/// The tags of a domain: a key carries its own number modulo this.
pub(super) const TAGS: usize = 6;
/// Datasets whose content is remembered, the latest for each index of the table.
const DATASETS: usize = 1 << 14;

/// One key of one domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    pub(super) domain: usize,
    pub(super) key: usize,
}

/// The numbers in an answer: one from each source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PartNumbers {
    a: u64,
    b: u64,
}

/// A published version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Shaped: `{"a": 7, "b": 7}`.
    V1,
    /// As it is: `{"a": {"n": 7, "tag": 3}, "b": {"n": 7}}`.
    V2,
}

/// A read that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingRead {
    pub(super) subject: Subject,
    pub(super) version: Version,
    /// Since the run began; taken before the request was written.
    pub(super) began: Duration,
    /// The answer may not be older than this number.
    pub(super) floor: u64,
    /// A cached answer may be at most so many seconds old.
    pub(super) max_age: Option<u64>,
}

/// The state of all subjects.
pub(super) struct Oracle {
    began: Instant,
    rows: Vec<Row>,
    /// The subject that was acknowledged last: the one that readers prefer.
    latest: AtomicUsize,
    /// By the dataset's id, modulo [`DATASETS`].
    datasets: Vec<Mutex<Option<Dataset>>>,
    /// Ids that were seen in both versions.
    both: AtomicU64,
}

#[derive(Default)]
struct Row {
    /// The number that the sources show.
    number: AtomicU64,
    acknowledged: AtomicU64,
    /// For the report: the time of the acknowledgement, and its sidecar.
    note: Mutex<String>,
}

#[derive(Debug, Clone, Copy)]
struct Dataset {
    id: u128,
    subject: Subject,
    pair: PartNumbers,
    version: Version,
    both: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shaped {
    a: u64,
    b: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    a: Tagged,
    b: Plain,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tagged {
    n: u64,
    tag: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    n: u64,
}

impl Subject {
    pub(super) fn random(rng: &mut fastrand::Rng) -> Self {
        Self { domain: rng.usize(..DOMAINS.len()), key: rng.usize(..KEYS) }
    }

    /// All subjects of a domain.
    pub(super) fn of(domain: usize) -> impl Iterator<Item = Self> {
        (0..KEYS).map(move |key| Self { domain, key })
    }

    pub(super) fn tag(self) -> usize {
        self.key % TAGS
    }

    fn row(self) -> usize {
        self.domain * KEYS + self.key
    }
}

impl PendingRead {
    pub(super) fn path(&self) -> String {
        let version = if self.version == Version::V1 { "v1" } else { "v2" };
        format!("/{version}/{}/{}", DOMAINS[self.subject.domain], self.subject.key)
    }
}

impl Oracle {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            rows: (0..DOMAINS.len() * KEYS).map(|_| Row::default()).collect(),
            latest: AtomicUsize::new(0),
            datasets: (0..DATASETS).map(|_| Mutex::default()).collect(),
            both: AtomicU64::new(0),
        }
    }

    /// How long the run has lasted.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The number that the sources show for a subject.
    pub(super) fn number(&self, subject: Subject) -> u64 {
        self.rows[subject.row()].number.load(Ordering::SeqCst)
    }

    /// Writes at both sources, at one instant.
    pub(super) fn write(&self, subject: Subject) {
        self.rows[subject.row()].number.fetch_add(1, Ordering::SeqCst);
    }

    /// The numbers that an invalidation guarantees, once it is acknowledged, if it is sent after
    /// this call.
    pub(super) fn current_numbers(
        &self,
        subjects: impl IntoIterator<Item = Subject>,
    ) -> HashMap<Subject, u64> {
        subjects.into_iter().map(|subject| (subject, self.number(subject))).collect()
    }

    /// Records these numbers as acknowledged now.
    pub(super) fn acknowledge(&self, numbers: &HashMap<Subject, u64>, by: &str) {
        for (subject, number) in numbers {
            let row = &self.rows[subject.row()];
            if row.acknowledged.fetch_max(*number, Ordering::SeqCst) < *number {
                let mut note = row.note.lock().unwrap_or_else(PoisonError::into_inner);
                *note = format!("{number} at {:.3?} {by}", self.now());
                self.latest.store(subject.row(), Ordering::Relaxed);
            }
        }
    }

    /// The subject that was acknowledged last.
    pub(super) fn last_acknowledged(&self) -> Subject {
        let row = self.latest.load(Ordering::Relaxed);
        Subject { domain: row / KEYS, key: row % KEYS }
    }

    /// A description of the last acknowledgement of a subject.
    pub(super) fn acknowledgement_note(&self, subject: Subject) -> String {
        self.rows[subject.row()].note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of datasets that were compared across versions.
    pub(super) fn compared_across_versions(&self) -> u64 {
        self.both.load(Ordering::Relaxed)
    }

    /// Begins a read: the number that is acknowledged by now is its floor.
    pub(super) fn begin_read(&self, subject: Subject, version: Version) -> PendingRead {
        let began = self.now();
        let floor = self.rows[subject.row()].acknowledged.load(Ordering::SeqCst);
        PendingRead { subject, version, began, floor, max_age: None }
    }

    /// Judges a 200; the error describes the broken promise.
    pub(super) fn judge(&self, read: &PendingRead, answer: &Answer) -> Result<(), String> {
        let Some(pair) = pair(read, &answer.body) else {
            return Err("not complete: a part is missing or strange".into());
        };
        let id = u128::from_str_radix(answer.header("bfb-dataset"), 16)
            .map_err(|_| "no Bfb-Dataset".to_owned())?;
        let oldest = pair.a.min(pair.b);
        let newest = pair.a.max(pair.b);
        if oldest < read.floor {
            return Err(format!(
                "not fresh: {oldest}, and {} was acknowledged before the read began, \
                 or its token said so",
                read.floor
            ));
        }
        if newest > self.number(read.subject) {
            return Err(format!("{newest} was never written"));
        }
        if DOMAINS[read.subject.domain] == "snapshot" && oldest != newest {
            return Err(format!("not a snapshot: {oldest} and {newest}"));
        }
        self.compare(Dataset {
            id,
            subject: read.subject,
            pair,
            version: read.version,
            both: false,
        })
    }

    /// Answers with the same id never disagree.
    fn compare(&self, new: Dataset) -> Result<(), String> {
        let place = usize::try_from(new.id % DATASETS as u128).unwrap_or_default();
        let mut remembered = self.datasets[place].lock().unwrap_or_else(PoisonError::into_inner);
        let Some(old) = remembered.as_mut().filter(|old| old.id == new.id) else {
            *remembered = Some(new);
            return Ok(());
        };
        if (old.subject, old.pair) != (new.subject, new.pair) {
            return Err(format!(
                "not coherent: dataset {:032x} was {old:?} before, and is {new:?}",
                new.id
            ));
        }
        if old.version != new.version && !std::mem::replace(&mut old.both, true) {
            self.both.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn pair(read: &PendingRead, body: &[u8]) -> Option<PartNumbers> {
    match read.version {
        Version::V1 => {
            serde_json::from_slice(body).ok().map(|Shaped { a, b }| PartNumbers { a, b })
        }
        Version::V2 => {
            let Whole { a, b } = serde_json::from_slice(body).ok()?;
            (a.tag == read.subject.tag()).then_some(PartNumbers { a: a.n, b: b.n })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::wire::answer;

    const SUBJECT: Subject = Subject { domain: 0, key: 5 };
    const SNAPSHOT: Subject = Subject { domain: 1, key: 5 };

    /// An oracle whose `subject` was written so often, and so much of it acknowledged.
    fn oracle(subject: Subject, written: u64, acknowledged: u64) -> Oracle {
        let book = Oracle::new();
        (0..written).for_each(|_| book.write(subject));
        book.acknowledge(&HashMap::from([(subject, acknowledged)]), "");
        book
    }

    fn shaped(id: &str, a: u64, b: u64) -> Answer {
        answer(&[("bfb-dataset", id)], &format!(r#"{{"a":{a},"b":{b}}}"#))
    }

    fn whole(id: &str, a: u64, b: u64) -> Answer {
        answer(&[("bfb-dataset", id)], &format!(r#"{{"a":{{"n":{a},"tag":5}},"b":{{"n":{b}}}}}"#))
    }

    #[track_caller]
    fn breaks(judged: &Result<(), String>, promise: &str) {
        assert!(
            judged.as_ref().is_err_and(|why| why.starts_with(promise)),
            "{promise}: {judged:?}"
        );
    }

    #[test]
    fn a_part_older_than_what_was_acknowledged_before_the_read_is_not_fresh() {
        let book = oracle(SUBJECT, 3, 2);
        let early = book.begin_read(SUBJECT, Version::V1);
        book.acknowledge(&HashMap::from([(SUBJECT, 3)]), "");
        assert_eq!(
            book.judge(&early, &shaped("a1", 2, 3)),
            Ok(()),
            "it began before the acknowledgement"
        );
        breaks(&book.judge(&early, &shaped("a2", 3, 1)), "not fresh: 1");
        breaks(
            &book.judge(&book.begin_read(SUBJECT, Version::V2), &whole("a3", 2, 3)),
            "not fresh: 2",
        );
        breaks(&book.judge(&early, &shaped("a4", 4, 4)), "4 was never written");
    }

    #[test]
    fn one_dataset_that_says_two_things_is_not_coherent() {
        let book = oracle(SUBJECT, 9, 0);
        let v1 = book.begin_read(SUBJECT, Version::V1);
        let v2 = book.begin_read(SUBJECT, Version::V2);
        assert_eq!(book.judge(&v1, &shaped("a1", 2, 3)), Ok(()));
        assert_eq!(
            (book.judge(&v2, &whole("a1", 2, 3)), book.compared_across_versions()),
            (Ok(()), 1)
        );
        breaks(&book.judge(&v2, &whole("a1", 3, 3)), "not coherent");
        let other = book.begin_read(Subject { key: 6, ..SUBJECT }, Version::V1);
        (0..9).for_each(|_| book.write(other.subject));
        breaks(&book.judge(&other, &shaped("a1", 2, 3)), "not coherent");
    }

    #[test]
    fn parts_of_two_instants_are_no_snapshot_and_a_missing_part_is_nothing() {
        let book = oracle(SNAPSHOT, 9, 0);
        let read = book.begin_read(SNAPSHOT, Version::V1);
        breaks(&book.judge(&read, &shaped("a1", 2, 3)), "not a snapshot");
        breaks(&book.judge(&read, &answer(&[("bfb-dataset", "a1")], r#"{"a":2}"#)), "not complete");
        breaks(&book.judge(&read, &answer(&[], r#"{"a":2,"b":2}"#)), "no Bfb-Dataset");
    }
}
