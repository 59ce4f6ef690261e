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
