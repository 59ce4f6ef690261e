//! The context of one collection while it runs: its memory, its requests in flight, and the sources
//! that have not answered.

use parking_lot::Mutex;

use crate::domain::SourceIndex;
use crate::resources::WorkMemory;
use crate::sources::Outstanding;

/// The context of one collection while it runs.
#[derive(Debug, Clone, Copy)]
pub struct CollectContext<'a> {
    /// The memory that its bodies are taken from.
    pub memory: &'a WorkMemory,
    /// Its requests in flight.
    pub outstanding: &'a Outstanding,
    /// The sources that were asked and have not answered.
    pub unanswered: &'a UnansweredSources,
}

/// The sources that were asked and have not answered; the error of a caller whose deadline passes
/// names them.
#[derive(Debug, Default)]
pub struct UnansweredSources(Mutex<Vec<SourceIndex>>);

impl UnansweredSources {
    /// The sources that have not answered by now.
    pub fn sources(&self) -> Vec<SourceIndex> {
        self.0.lock().clone()
    }

    pub(super) fn add(&self, source: SourceIndex) {
        self.0.lock().push(source);
    }

    pub(super) fn remove(&self, source: SourceIndex) {
        self.0.lock().retain(|unanswered| *unanswered != source);
    }
}
