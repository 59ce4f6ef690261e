//! The keys that sources in databases share: `rows` and `mutual`.

use super::context::Context;
use super::database::{Mutuality, Rows};
use super::fields::{Field, Fields, word};

/// Reads `rows`: an array unless it says `one`.
pub(super) fn rows(context: &mut Context<'_>, fields: &Fields<'_>) -> Option<Rows> {
    let Some(field) = fields.get("rows") else { return Some(Rows::Many) };
    let found = word(context, field, &["one", "many"])?;
    Some(if found == "one" { Rows::One } else { Rows::Many })
}

/// Reports a kind of source that was left out when the program was built.
pub(super) fn report_absent_kind(context: &mut Context<'_>, kind: Field<'_>) {
    let name = &kind.key.text;
    let message = format!("`{name}` sources are not in this build");
    let hint = format!("build it with the feature `{name}`, or put an HTTP service before it");
    context.problem(kind.key.span.clone(), message, "a build with it, or a `url`", hint);
}

/// Reads `mutual`, where it is given.
pub(super) fn mutuality<'n>(
    context: &mut Context<'_>,
    fields: &Fields<'n>,
) -> Option<(Field<'n>, Mutuality)> {
    let field = fields.get("mutual")?;
    let all = [Mutuality::Proven, Mutuality::Unproven, Mutuality::None];
    let found = word(context, field, &all.map(Mutuality::as_str))?;
    let mutual = all.into_iter().find(|mutual| mutual.as_str() == found)?;
    Some((field, mutual))
}
