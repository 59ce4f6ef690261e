//! The order of sources: which needs which, without a cycle.

use std::ops::Range;

use super::context::Context;
use super::reference::SourceIndex;

/// Reports the cycles among the sources; each source is on one of them at most once.
pub(super) fn check_acyclic(
    context: &mut Context<'_>,
    names: &[&str],
    needs: &[&[(SourceIndex, Range<usize>)]],
) -> bool {
    let mut state = vec![VisitState::New; names.len()];
    let mut good = true;
    for start in 0..names.len() {
        let mut path = Vec::new();
        good &= visit(context, names, needs, start, &mut path, &mut state);
    }
    good
}

#[derive(Clone, Copy, PartialEq)]
enum VisitState {
    New,
    OnPath,
    Done,
}

/// Depth first; as deep as there are sources, which are few.
fn visit(
    context: &mut Context<'_>,
    names: &[&str],
    needs: &[&[(SourceIndex, Range<usize>)]],
    at: usize,
    path: &mut Vec<usize>,
    state: &mut [VisitState],
) -> bool {
    if state[at] != VisitState::New {
        return true;
    }
    state[at] = VisitState::OnPath;
    path.push(at);
    let mut good = true;
    let mut visited = Vec::new();
    for (SourceIndex(next), place) in needs[at] {
        if visited.contains(next) {
            continue;
        }
        visited.push(*next);
        if state[*next] == VisitState::OnPath {
            good = false;
            report_cycle(context, names, path, *next, place);
        } else {
            good &= visit(context, names, needs, *next, path, state);
        }
    }
    path.pop();
    state[at] = VisitState::Done;
    good
}

fn report_cycle(
    context: &mut Context<'_>,
    names: &[&str],
    path: &[usize],
    first: usize,
    place: &Range<usize>,
) {
    let from = path.iter().position(|at| *at == first).unwrap_or(0);
    let mut cycle: Vec<&str> = path[from..].iter().map(|at| names[*at]).collect();
    cycle.push(names[first]);
    let message = format!("the sources wait for each other: `{}`", cycle.join(" -> "));
    let expected = "a source that does not need this one";
    let hint = "take the value from `{key}` or from another source";
    context.problem(place.clone(), message, expected, hint);
}
