//! `{key}` and `{source.member}`: resolved where they may stand, and reported where they mean
//! nothing, since they would go out as they are written there.

use std::ops::Range;

use super::context::{Context, FieldPlace};
use super::tree::{TreeKey, TreeNode, TreeValue};
use crate::diagnostics::{nearest, quote, quote_few};

/// A place in [`Domain::sources`](super::Domain::sources).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceIndex(pub usize);

/// A value that a request takes from its key or from another source's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `{key}`.
    Key,
    /// `{source.path}`: a scalar in another source's part.
    Part {
        /// The source of the part.
        source: SourceIndex,
        /// The members to walk, at least one.
        path: Vec<String>,
    },
}

impl Reference {
    /// It, as it stands in a file whose sources have these names: `{profile.id}`.
    pub fn in_braces(&self, names: &[&str]) -> String {
        match self {
            Self::Key => "{key}".to_owned(),
            Self::Part { source, path } => {
                format!("{{{}.{}}}", names.get(source.0).unwrap_or(&"?"), path.join("."))
            }
        }
    }

    /// The source whose part it needs.
    pub(super) fn source(&self) -> Option<SourceIndex> {
        match self {
            Self::Key => None,
            Self::Part { source, .. } => Some(*source),
        }
    }
}

/// The forms of a reference, for messages.
pub(super) const REFERENCE: &str = "`{key}` or `{source.member}`";
const EXPECTED: &str = "a fixed value";
const HINT: &str = "remove it: references may stand in a `url`'s path segments and query values, \
                    and as values of a database's query";

/// Resolves the references of one source, and notes which sources they name.
pub(super) struct ReferenceReader<'s> {
    /// The sources, in the order of the file.
    names: &'s [&'s str],
    /// The sources named so far, and where in the file each was named first. Once each is enough to
    /// draw a cycle, and to seek a place takes time.
    uses: Vec<(SourceIndex, Range<usize>)>,
}

impl<'s> ReferenceReader<'s> {
    /// For a source beside sources of these names.
    pub(super) fn new(names: &'s [&'s str]) -> Self {
        Self { names, uses: Vec::new() }
    }

    /// The names of the sources.
    pub(super) fn names(&self) -> &'s [&'s str] {
        self.names
    }

    /// The sources that were named, and where.
    pub(super) fn into_uses(self) -> Vec<(SourceIndex, Range<usize>)> {
        self.uses
    }

    /// The reference at `range` of a scalar's text, braces included.
    pub(super) fn resolve(
        &mut self,
        context: &mut Context<'_>,
        at: FieldPlace<'_>,
        range: Range<usize>,
    ) -> Option<Reference> {
        let name = range.start + 1..range.end - 1;
        self.resolve_named(context, at, range, name)
    }

    /// The same where only `name` names the value: `key` in `{key:int}`.
    pub(super) fn resolve_named(
        &mut self,
        context: &mut Context<'_>,
        at: FieldPlace<'_>,
        range: Range<usize>,
        name: Range<usize>,
    ) -> Option<Reference> {
        let inner = &at.scalar.text[name];
        let mut parts = inner.split('.').map(str::to_owned);
        let first = parts.next().unwrap_or_default();
        let path: Vec<String> = parts.collect();
        if first == "key" {
            if !path.is_empty() {
                let hint =
                    "the key is a text: write `{key}` alone, or take the member from a source";
                context.problem_in(at, range, "the key has no members", "`{key}`", hint);
            }
            return Some(Reference::Key);
        }
        let Some(index) = self.names.iter().position(|name| *name == first) else {
            self.report_unknown(context, at, &first, range);
            return None;
        };
        let source = SourceIndex(index);
        let bad = |member: &String| {
            member.is_empty() || member.chars().any(|c| c.is_control() || c == '{')
        };
        if path.is_empty() || path.iter().any(bad) {
            let message = if path.is_empty() {
                "a source's whole part is no scalar"
            } else {
                "a member has no name"
            };
            let hint = format!("name a member: `{{{first}.id}}`");
            context.problem_in(at, range.clone(), message, REFERENCE, hint);
        }
        if !self.uses.iter().any(|(used, _)| *used == source) {
            self.uses.push((source, context.place(at, range)));
        }
        Some(Reference::Part { source, path })
    }

    fn report_unknown(
        &self,
        context: &mut Context<'_>,
        at: FieldPlace<'_>,
        name: &str,
        range: Range<usize>,
    ) {
        let names = || self.names.iter().copied();
        let hint = match nearest(name, names().chain(["key"])) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the sources are {}", quote_few(names())),
        };
        // A value from the environment may be a secret.
        let message = if at.scalar.substituted() {
            format!("there is no source as {} names it", at.scalar.shown())
        } else {
            format!("there is no source {}", quote(name))
        };
        context.problem_in(at, range, message, REFERENCE, hint);
    }
}

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

/// The reference that a mapping stands for if its quotes are missing: `{key}` is YAML for an object
/// with a member `key`.
pub(super) fn find_unquoted<'n>(
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

/// The first thing in `text` that looks like a reference, with its braces.
pub(super) fn find_in_text(
    context: &Context<'_>,
    text: &str,
    names: &[&str],
) -> Option<Range<usize>> {
    find_reference(text, &|inner| is_reference(context, inner, names))
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

/// Whether `inner` names the key, a source or a member of one, or was meant to; with a conversion
/// behind it or not.
fn is_reference(context: &Context<'_>, inner: &str, names: &[&str]) -> bool {
    let inner = match inner.split_once(':') {
        Some((name, word)) if word.chars().all(|c| c.is_ascii_alphanumeric()) => name,
        _ => inner,
    };
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
            ("{key:int}", Some(0..9)),
            ("{profil.id:objectId}", Some(0..20)),
            ("{key: 1}", None),
        ] {
            assert_eq!(
                find_reference(text, &|inner| is_reference(&context, inner, &names)),
                found,
                "{text}"
            );
        }
    }
}
