//! What one collection holds while it runs: its memory, and the requests that are on their way.

use parking_lot::Mutex;

use crate::domain::SourceIndex;
use crate::resources::WorkMemory;
use crate::sources::Outstanding;

/// What one collection holds while it runs.
#[derive(Debug, Clone, Copy)]
pub struct CollectContext<'a> {
    /// What its bodies are taken from.
    pub memory: &'a WorkMemory,
    /// Its requests that are on their way.
    pub outstanding: &'a Outstanding,
    /// The sources that owe it an answer.
    pub unanswered: &'a UnansweredSources,
}

/// The sources that were asked and have not answered: whom a caller names who waited in vain.
#[derive(Debug, Default)]
pub struct UnansweredSources(Mutex<Vec<SourceIndex>>);

impl UnansweredSources {
    /// The sources of this moment.
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
