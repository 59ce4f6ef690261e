//! What a collection did and when: the one record behind `--explain`, `Server-Timing` and exported
//! spans.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::sources::{Attempt, Reason};

/// One collection as it went.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// When it began.
    pub started: Instant,
    /// How long it took.
    pub took: Duration,
    /// One a source and round, in the order in which they ended.
    pub steps: Vec<TimelineStep>,
}

impl Timeline {
    /// Of an answer for which no source was asked, up to now.
    pub fn without_steps(started: Instant) -> Self {
        Self { started, took: started.elapsed(), steps: Vec::new() }
    }
}

/// One question to one source, retries included.
#[derive(Debug, Clone)]
pub struct TimelineStep {
    /// The source.
    pub source: Arc<str>,
    /// The round: 1 is the first collect.
    pub round: u32,
    /// When it began, since the timeline's start.
    pub offset: Duration,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub outcome: StepOutcome,
    /// The requests made.
    pub attempts: Vec<Attempt>,
}

/// How a [`TimelineStep`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// A part came.
    Part,
    /// The known part is still current.
    Unchanged,
    /// There is no such key.
    NotFound,
    /// No part.
    Failed(Reason),
}

impl StepOutcome {
    /// One word for people and labels.
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
