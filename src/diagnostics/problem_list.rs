//! The problems of one file, as many of them as a person reads.

use std::ops::Range;
use std::path::Path;

use super::problem::Problem;

/// Further problems of a file are counted, not kept: finding a problem's place in a file of
/// megabytes takes time, and there may be one for each of its lines.
const PROBLEMS_MAX: usize = 100;

/// The problems of a file that have been found so far.
#[derive(Debug)]
pub(crate) struct ProblemList<'t> {
    file: &'t Path,
    text: &'t str,
    problems: Vec<Problem>,
    /// How many more there were.
    omitted: usize,
}

impl<'t> ProblemList<'t> {
    /// No problem yet.
    pub(crate) fn new(file: &'t Path, text: &'t str) -> Self {
        Self { file, text, problems: Vec::new(), omitted: 0 }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are, those among them that are only counted.
    pub(crate) fn len(&self) -> usize {
        self.problems.len() + self.omitted
    }

    /// Whether further problems are only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    /// Counts one more problem if the list is full, and returns whether it was: for problems whose
    /// text takes time to write.
    pub(crate) fn omit_if_full(&mut self) -> bool {
        self.omitted += usize::from(self.is_full());
        self.is_full()
    }

    /// Adds a problem at a place of the text: what was found, what was expected there, and a hint.
    pub(crate) fn push_at(
        &mut self,
        at: Range<usize>,
        message: impl Into<String>,
        expected: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(|file, text| Problem::of_file(file, message, expected, hint).place(text, at));
    }

    /// One more, which is made only if it is kept.
    pub(crate) fn push(&mut self, make: impl FnOnce(&Path, &str) -> Problem) {
        if !self.omit_if_full() {
            self.problems.push(make(self.file, self.text));
        }
    }

    /// All of them in the order of the file. `retry` is the hint for after the first ones are
    /// mended.
    pub(crate) fn into_problems(mut self, retry: &str) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.span.start);
        self.problems.dedup();
        if self.omitted > 0 {
            let message = format!("{} more problems are not shown", self.omitted);
            let expected = format!("at most {PROBLEMS_MAX} at once");
            let hint = format!("mend the first ones, and {retry}: one mistake often brings many");
            self.problems.push(Problem::of_file(self.file, message, expected, hint));
        }
        self.problems
    }
}
