//! `{key}` and `{source.member}` where they mean nothing: outside a URL they would go out as they
//! are written.

use std::ops::Range;

use super::context::{Context, FieldPlace};
use super::tree::{TreeKey, TreeNode, TreeValue};

const EXPECTED: &str = "a fixed value";
const HINT: &str =
    "remove it: references may stand in a `url`'s path segments and query values only";

/// Reports the references in a value that is no URL, one for each of its texts and names. Other
/// braces, as JSON has them, mean themselves.
pub(super) fn report_references(
    context: &mut Context<'_>,
    node: &TreeNode,
    names: &[&str],
    place: &str,
) {
    let message = || format!("a reference cannot stand in {place}");
    match &node.value {
        TreeValue::Scalar(scalar) => {
            if let Some(range) =
                find_reference(&scalar.text, &|inner| is_reference(context, inner, names))
            {
                context.problem_in(
                    FieldPlace { span: &node.span, scalar },
                    range,
                    message(),
                    EXPECTED,
                    HINT,
                );
            }
        }
        TreeValue::List(items) => {
            for item in items {
                report_references(context, item, names, place);
            }
        }
        TreeValue::Map(entries) => {
            if let Some(name) = find_unquoted(context, entries, node.span.start, names) {
                let hint = format!("{HINT}; an object with this member is `{{{name}: null}}`");
                return context.problem(node.span.clone(), message(), EXPECTED, hint);
            }
            for (key, value) in entries {
                if find_reference(&key.text, &|inner| is_reference(context, inner, names)).is_some()
                {
                    context.problem(key.span.clone(), message(), "a fixed name", HINT);
                }
                report_references(context, value, names, place);
            }
        }
    }
}

/// What a mapping names that is a reference without its quotes: `{key}` is YAML for an object with
/// a member `key`.
fn find_unquoted<'n>(
    context: &Context<'_>,
    entries: &'n [(TreeKey, TreeNode)],
    start: usize,
    names: &[&str],
) -> Option<&'n str> {
    let [(key, value)] = entries else { return None };
    let empty = FieldPlace::of(value).is_some_and(|at| at.scalar.plain && at.scalar.raw.is_empty());
    let braced = context.text[start..].starts_with('{');
    (empty && braced && is_reference(context, &key.text, names)).then_some(&key.text)
}

/// The first reference in `text`, with its braces.
fn find_reference(text: &str, is_reference: &dyn Fn(&str) -> bool) -> Option<Range<usize>> {
    text.match_indices('{').find_map(|(open, _)| {
        let inner = &text[open + 1..];
        let inner = &inner[..inner.find(['{', '}'])?];
        let end = open + 1 + inner.len();
        (text[end..].starts_with('}') && is_reference(inner)).then_some(open..end + 1)
    })
}

/// Whether `inner` names the key, a source or a member of one, or was meant to.
fn is_reference(context: &Context<'_>, inner: &str, names: &[&str]) -> bool {
    let (first, member) =
        inner.split_once('.').map_or((inner, None), |(first, member)| (first, Some(member)));
    let known = || names.iter().copied().chain(["key"]);
    known().any(|name| name == first)
        || member.is_some() && context.nearest(first, known()).is_some()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::domain::World;

    #[test]
    fn references_are_found_and_other_braces_are_not() {
        let names = ["profile"];
        let world = World {
            variable: &|_| None,
            read: &|_| unreachable!(),
            program: &|_| Ok(()),
            allow_http: false,
            allow_https: true,
        };
        let context = Context::new(Path::new("f"), "", world);
        for (text, found) in [
            ("{key}", Some(0..5)),
            ("a {{key}}", Some(3..8)),
            ("{ {profile.id}", Some(2..14)),
            ("{profil.id}", Some(0..11)),
            ("{profile}", Some(0..9)),
            ("{}", None),
            ("{key", None),
            ("{\"key\": 1}", None),
            ("{a, key}", None),
            ("{3f2504e0}", None),
            ("{other.id}", None),
        ] {
            assert_eq!(
                find_reference(text, &|inner| is_reference(&context, inner, &names)),
                found,
                "{text}"
            );
        }
    }
}
