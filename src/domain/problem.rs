//! What is wrong with a domain file.

pub use crate::diagnostics::{Problem, render};
pub(super) use crate::diagnostics::{
    edit_distance as distance, line_number as count_lines, quote_few as list_of_few,
};
pub(crate) use crate::diagnostics::{nearest, quote, render_warnings};
