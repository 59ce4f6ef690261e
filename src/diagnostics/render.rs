//! Renders problems as rustc does its errors: with the line, the expectation and a hint.

use std::fmt::Write as _;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use super::problem::Problem;

/// Draws the problems as rustc draws its errors, one after the other with an empty line between.
pub fn render(problems: &[Problem], color: bool) -> String {
    render_as(&Level::ERROR, problems, color)
}

/// The same for warnings.
pub(crate) fn render_warnings(problems: &[Problem], color: bool) -> String {
    render_as(&Level::WARNING, problems, color)
}

fn render_as(level: &Level<'_>, problems: &[Problem], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(120);
    let mut out = String::new();
    for (nth, problem) in problems.iter().enumerate() {
        if nth > 0 {
            out.push('\n');
        }
        let _ = writeln!(out, "{}", render_one(level, problem, &renderer));
    }
    out
}

fn render_one(level: &Level<'_>, problem: &Problem, renderer: &Renderer) -> String {
    let path = problem.file.display().to_string();
    let title = level.clone().primary_title(&problem.message);
    let label = format!("expected {}", problem.expected);
    let mut group = match &problem.source {
        Some(line) => {
            let start = problem.span.start.saturating_sub(line_start(problem, line));
            let span = start..(start + problem.span.len()).min(line.len());
            let annotation = AnnotationKind::Primary.span(span).label(label.as_str());
            title.element(
                Snippet::source(line.as_str())
                    .line_start(problem.line)
                    .path(path)
                    .annotation(annotation),
            )
        }
        None => title.element(Origin::path(path).line(problem.line).char_column(problem.column)),
    };
    if problem.source.is_none() {
        group = group.element(Level::NOTE.message(label.as_str()));
    }
    group = group.element(Level::HELP.with_name("hint").message(&problem.hint));
    renderer.render(&[group])
}

/// Where the problem's line begins in its file, in bytes.
fn line_start(problem: &Problem, line: &str) -> usize {
    let before: usize = line.chars().take(problem.column - 1).map(char::len_utf8).sum();
    problem.span.start.saturating_sub(before)
}
