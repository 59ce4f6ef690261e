//! Messages about files: problems with places, and the parts of a message.
//!
//! Pure, and imports no other room. Domain files (`domain`) and manifests (`inject`) are read into
//! the same `yaml` tree, and an error in either is a [`Problem`], shown by [`render()`].

mod io_error;
mod nearest;
mod problem;
mod problem_list;
mod quote;
mod render;
mod text_lines;
pub(crate) mod yaml;

#[cfg(test)]
pub(crate) mod cpu_cost;

pub(crate) use io_error::{io_error_hint, io_error_text};
pub(crate) use nearest::{edit_distance, nearest};
pub use problem::Problem;
pub(crate) use problem_list::ProblemList;
pub(crate) use quote::{quote, quote_few};
pub use render::render;
pub(crate) use render::render_warnings;
pub(crate) use text_lines::{line_number, line_start};
