//! What is wrong with a manifest, as much of it as a person reads.

use std::ops::Range;
use std::path::Path as FilePath;

use crate::domain::Problem;

/// The most problems of one file that are told.
const PROBLEMS_MAX: usize = 100;

/// What is wrong with a file: as much of it as a person reads. Finding a problem's place in a file
/// of megabytes takes time, and there may be one for each of its lines.
pub(super) struct Problems<'t> {
    file: &'t FilePath,
    text: &'t str,
    list: Vec<Problem>,
    omitted: usize,
}

impl<'t> Problems<'t> {
    pub(super) fn new(file: &'t FilePath, text: &'t str) -> Self {
        Self { file, text, list: Vec::new(), omitted: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One more at a place of the text.
    pub(super) fn push_at(
        &mut self,
        at: Range<usize>,
        message: impl Into<String>,
        expected: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(|file, text| Problem::of_file(file, message, expected, hint).place(text, at));
    }

    /// One more, which is made only if it is kept.
    pub(super) fn push(&mut self, make: impl FnOnce(&FilePath, &str) -> Problem) {
        if self.list.len() < PROBLEMS_MAX {
            self.list.push(make(self.file, self.text));
        } else {
            self.omitted += 1;
        }
    }

    pub(super) fn into_list(mut self) -> Vec<Problem> {
        self.list.sort_by_key(|problem| problem.span.start);
        self.list.dedup();
        if self.omitted > 0 {
            let message = format!("{} more problems are not shown", self.omitted);
            let hint = "mend the first ones, and try again: one mistake often brings many";
            self.list.push(Problem::of_file(
                self.file,
                message,
                format!("at most {PROBLEMS_MAX} at once"),
                hint,
            ));
        }
        self.list
    }
}
