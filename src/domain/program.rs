//! jq programs of the file: compiled once, their problems shown at their own line.

use std::sync::Arc;

use super::context::Context;
use super::fields::text;
use super::tree::TreeNode;

/// Checks a jq program and gives its text.
pub(super) fn program(context: &mut Context<'_>, node: &TreeNode) -> Option<Arc<str>> {
    let at = text(context, node, "a jq program")?;
    match (context.world.program)(&at.scalar.text) {
        Ok(()) => Some(at.scalar.text.as_str().into()),
        Err(found) => {
            let length = at.scalar.text.len();
            let start = found.at.start.min(length);
            let range = start..found.at.end.clamp(start, length);
            context.problem_in(at, range, found.message, found.expected, found.hint);
            None
        }
    }
}
