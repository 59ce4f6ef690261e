//! The record of a collection's requests and their times, for `--explain`, `Server-Timing` and
//! exported spans.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::sources::{Attempt, Reason};

/// The record of one collection.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// When it began.
    pub started: Instant,
    /// How long it took.
    pub took: Duration,
    /// One step a source and round, in the order in which they ended.
    pub steps: Vec<TimelineStep>,
}

impl Timeline {
    /// The timeline, up to now, of an answer for which no source was asked.
    pub fn without_steps(started: Instant) -> Self {
        Self { started, took: started.elapsed(), steps: Vec::new() }
    }
}

/// One request to one source, with its retries.
#[derive(Debug, Clone)]
pub struct TimelineStep {
    /// The source.
    pub source: Arc<str>,
    /// The round, counted from 1.
    pub round: u32,
    /// When it began, since the timeline's start.
    pub offset: Duration,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub outcome: StepOutcome,
    /// The attempts: each request that was sent.
    pub attempts: Vec<Attempt>,
}

/// How a [`TimelineStep`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// A part came.
    Part,
    /// The known part is still current.
    Unchanged,
    /// The source has no such key.
    NotFound,
    /// The source gave no part.
    Failed(Reason),
}

impl StepOutcome {
    /// The text in reports and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Part => "part",
            Self::Unchanged => "unchanged",
            Self::NotFound => "not-found",
            Self::Failed(reason) => reason.as_str(),
        }
    }
}

impl Timeline {
    /// How many rounds were begun.
    pub fn rounds(&self) -> u32 {
        self.steps.iter().map(|step| step.round).max().unwrap_or(0)
    }
}
