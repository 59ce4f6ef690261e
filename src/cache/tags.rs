//! The tags of a dataset: the names that an invalidation by tag can use.
//!
//! The domain's `tags` program computes them. Redis looks at the stamp of each whenever the dataset
//! is read, written or claimed, so there are at most [`TAGS_MAX`] of [`TAG_BYTES_MAX`] bytes. A
//! dataset whose tags are unknown is served and not stored: no invalidation by tag could reach it.
//! The log names the domain and the reason; never a tag.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use super::metrics::CacheMetrics;
use super::programs::{ProgramError, ProgramRunner};
use crate::coherence::{TAG_BYTES_MAX, TAGS_MAX};
use crate::collect::Dataset;
use crate::shape::{CompileError, Program};

/// The bytes that a `tags` program may yield: all tags in JSON at its longest (six bytes for one,
/// quotes, a comma), with room for `null`s.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// Why the tags of a dataset are unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TagsRefusal {
    /// It has more than [`TAGS_MAX`].
    TooMany,
    /// One has more than [`TAG_BYTES_MAX`] bytes.
    TooLong,
    /// The program failed, or did not yield an array of strings, numbers and booleans.
    ProgramFailed,
    /// There was no memory and no time for the program.
    Overloaded,
}

/// How often a domain's datasets were not kept for one reason, since its file was loaded.
#[derive(Debug, Clone, Copy)]
pub struct TagsRefusals {
    /// The reason.
    pub reason: TagsRefusal,
    /// How many datasets.
    pub datasets: u64,
    /// When it befell the first.
    pub since: Instant,
    /// When it befell the last.
    pub last: Instant,
}

/// The refusals of one domain. Locked to count one or to list them; never across an `.await`.
#[derive(Debug, Default)]
struct RefusalCounts(Mutex<BTreeMap<TagsRefusal, TagsRefusals>>);

impl TagsRefusal {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::TooMany, Self::TooLong, Self::ProgramFailed, Self::Overloaded];

    /// A short name for metrics and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooMany => "too-many",
            Self::TooLong => "too-long",
            Self::ProgramFailed => "program-failed",
            Self::Overloaded => "overloaded",
        }
    }

    /// A program that yields more than all tags may take has found too many of them.
    fn of(error: &ProgramError) -> Self {
        match error {
            ProgramError::OutputTooLong(_) => Self::TooMany,
            ProgramError::Failed(_) => Self::ProgramFailed,
            ProgramError::Overloaded(_) => Self::Overloaded,
        }
    }

    /// The reason, in words for people.
    pub fn in_words(self) -> String {
        match self {
            Self::TooMany => format!("more than {TAGS_MAX} tags"),
            Self::TooLong => format!("a tag of more than {TAG_BYTES_MAX} bytes"),
            Self::ProgramFailed => "`cache.tags` failed, or yielded no array of strings".to_owned(),
            Self::Overloaded => "no memory or no thread came free for `cache.tags`".to_owned(),
        }
    }
}

impl RefusalCounts {
    /// Counts one; whether it is the first for its reason.
    fn add(&self, reason: TagsRefusal) -> bool {
        let now = Instant::now();
        let mut counts = self.0.lock();
        let first = TagsRefusals { reason, datasets: 0, since: now, last: now };
        let count = counts.entry(reason).or_insert(first);
        count.datasets += 1;
        count.last = now;
        count.datasets == 1
    }

    fn list(&self) -> Vec<TagsRefusals> {
        self.0.lock().values().copied().collect()
    }
}

/// Finds the tags of one domain's datasets. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Tagger {
    domain: Arc<str>,
    program: Option<Arc<Program>>,
    runner: ProgramRunner,
    refusals: Arc<RefusalCounts>,
    metrics: CacheMetrics,
}

impl Tagger {
    /// `program` is the domain file's `cache.tags`.
    pub(super) fn new(
        domain: Arc<str>,
        program: Option<&str>,
        runner: ProgramRunner,
        metrics: CacheMetrics,
    ) -> Result<Self, CompileError> {
        let program = program.map(Program::compile).transpose()?.map(Arc::new);
        for reason in TagsRefusal::ALL {
            drop(metrics.tags_refused(&domain, reason.as_str()));
        }
        Ok(Self { domain, program, runner, refusals: Arc::default(), metrics })
    }

    /// The tags of a dataset; `None` where they are refused: a dataset that cannot be invalidated
    /// by tag must not be stored.
    pub(super) async fn find_tags(
        &self,
        dataset: Option<&Dataset>,
        deadline: Instant,
    ) -> Option<Vec<Arc<str>>> {
        let (Some(program), Some(dataset)) = (self.program.clone(), dataset) else {
            return Some(Vec::new());
        };
        // There may be so many values to be read that the event loop must not be held for them.
        let read = |json: Vec<u8>| parse(&json);
        let body = dataset.body.clone();
        let run = self.runner.run(program, body, OUTPUT_BYTES_MAX, deadline, read).await;
        match run.map_err(|error| TagsRefusal::of(&error)).flatten() {
            Ok(tags) => Some(tags),
            Err(reason) => {
                self.count_refusal(reason);
                None
            }
        }
    }

    fn count_refusal(&self, reason: TagsRefusal) {
        let domain = &self.domain;
        self.metrics.tags_refused(domain, reason.as_str()).inc();
        if self.refusals.add(reason) {
            let reason = reason.in_words();
            tracing::warn!(%domain, reason, "a dataset is served and not kept, \
                 for want of its tags");
        }
    }

    /// Why datasets of the domain were served and not kept for want of their tags.
    pub(super) fn refusals(&self) -> Vec<TagsRefusals> {
        self.refusals.list()
    }
}

/// An array of strings, numbers or booleans, each counted once; `null` members name nothing.
fn parse(json: &[u8]) -> Result<Vec<Arc<str>>, TagsRefusal> {
    let values: Vec<Value> =
        serde_json::from_slice(json).map_err(|_| TagsRefusal::ProgramFailed)?;
    let mut tags = Vec::<Arc<str>>::new();
    let mut distinct = HashSet::new();
    for value in values {
        let tag: Arc<str> = match value {
            Value::Null => continue,
            Value::String(text) => text.into(),
            Value::Number(number) => number.to_string().into(),
            Value::Bool(truth) => truth.to_string().into(),
            Value::Array(_) | Value::Object(_) => return Err(TagsRefusal::ProgramFailed),
        };
        if tag.len() > TAG_BYTES_MAX {
            return Err(TagsRefusal::TooLong);
        }
        if distinct.contains(&tag) {
            continue;
        }
        if tags.len() == TAGS_MAX {
            return Err(TagsRefusal::TooMany);
        }
        distinct.insert(tag.clone());
        tags.push(tag);
    }
    Ok(tags)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;
    use crate::shape::{Budget, Program, RunError};

    fn tags(json: &str) -> Result<Vec<String>, TagsRefusal> {
        parse(json.as_bytes()).map(|tags| tags.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn tags_are_scalars_each_once_and_null_names_nothing() {
        let expected = ["a", "1", "true"].map(str::to_owned).to_vec();
        assert_eq!(tags(r#"["a", 1, "1", true, null, "a"]"#), Ok(expected));
        assert_eq!(tags("[]"), Ok(vec![]));
        for odd in [r#"["a", {}]"#, r#""a""#, r#"["a"] ["b"]"#, ""] {
            assert_eq!(tags(odd), Err(TagsRefusal::ProgramFailed), "{odd}");
        }
    }

    #[test]
    fn tags_beyond_the_bounds_are_refused_by_name() {
        let many = |many: usize| serde_json::to_string(&(0..many).collect::<Vec<_>>()).unwrap();
        let long = |bytes: usize| serde_json::to_string(&["é".repeat(bytes / 2)]).unwrap();
        assert_eq!(tags(&many(64)).map(|tags| tags.len()), Ok(64));
        assert_eq!(tags(&many(65)), Err(TagsRefusal::TooMany));
        assert_eq!(tags(&long(512)).map(|tags| tags.len()), Ok(1));
        assert_eq!(tags(&long(514)), Err(TagsRefusal::TooLong));
        let one_often = serde_json::to_string(&vec!["same"; 1_000]).unwrap();
        assert_eq!(tags(&one_often).map(|tags| tags.len()), Ok(1));
    }

    #[test]
    fn a_program_that_yields_far_too_many_tags_is_stopped_and_named_for_it() {
        let find = |text: &str| {
            let budget = Budget { output_bytes: OUTPUT_BYTES_MAX, ..Budget::default() };
            let run = Program::compile(text).unwrap().run(b"{}", budget);
            let error = |error: RunError| TagsRefusal::of(&ProgramError::of(error));
            run.map_err(error).and_then(|json| parse(&json))
        };
        assert_eq!(find("[range(300000)|\"t\\(.)\"]"), Err(TagsRefusal::TooMany));
        assert_eq!(find("error(1)"), Err(TagsRefusal::ProgramFailed));
        let most = find("[range(64)|\"\\u0001\" * 508 + tostring]").unwrap();
        assert_eq!(
            (most.len(), most[63].len()),
            (64, 510),
            "the longest that are allowed fit in JSON too"
        );
    }
}
